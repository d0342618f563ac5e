"""Genes and designs: two encodings, both aware of depth.

A gene per layer alone is a poor space: random genes train some early layer almost
always, which makes every design deep. So depth is a gene of its own and masks the
rest. `guided` has eight genes: depth, bias depth and, for each kind of layer, which
share of the most important layers inside the depth trains and at which level.
`layers` has a level for each layer. Behind them stand the genes that the user opened
(explorer.search.openings): the setup's, and how many adapters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from explorer.adapters import adapter_blocks
from explorer.costmodel.ops import kernel_kind
from explorer.design import DesignBatch, LayerAxes, TrainingSetup
from explorer.errors import SpecError
from explorer.graph import ModelGraph, normalised
from explorer.search.openings import ADAPTERS, Opening
from explorer.units import BoolArray, FloatArray, IntArray

SPACES = ("guided", "layers")
LEVELS = np.array([0.0, 0.125, 0.25, 0.5, 1.0])
SHARES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
KINDS = ("expand", "depthwise", "project")
SEED_DEPTHS = (1, 2, 4, 8, 12, 16, 24, 32)
FULL_LEVEL = len(LEVELS) - 1
QUARTER_LEVEL = 2
FULL_SHARE = len(SHARES) - 1


@dataclass(frozen=True, slots=True)
class Gene:
    """A whole number between bounds, both included."""

    name: str
    low: int
    high: int


@dataclass(frozen=True, eq=False, kw_only=True)
class SearchSpace:
    """Genes [P, D] to designs [P] and back for seeds.

    `importance` [L] ranks layers of one kind; `selection` is how channels are chosen. `setups`
    are all that the opened genes can mean, the last gene fastest, and `networks` those of the
    norms of the setups; `blocks` may have adapters.
    """

    name: str
    axes: LayerAxes
    kind_of: IntArray
    importance: FloatArray
    setup: TrainingSetup
    selection: str
    openings: tuple[Opening, ...] = ()
    setups: tuple[TrainingSetup, ...] = ()
    own_axes: Mapping[str | None, LayerAxes] = field(default_factory=dict)
    blocks: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        graph: ModelGraph,
        importance: FloatArray,
        setup: TrainingSetup,
        selection: str,
        openings: Sequence[Opening] = (),
        setups: Sequence[TrainingSetup] = (),
        origin: ModelGraph | None = None,
    ) -> "SearchSpace":
        """The space of a graph in the setup's norm; SpecError on an unknown name.

        `setups` are what the opened genes can mean, as `setups_of` orders them; `origin` is the
        network as it comes, the graph itself if absent.
        """
        if name not in SPACES:
            raise SpecError.of("space", name, ", ".join(SPACES))
        norms = {one.norm for one in setups}
        axes = LayerAxes.of(graph)
        own_axes = {norm: LayerAxes.of(normalised(origin or graph, norm)) for norm in norms}
        kinds = [_kind(graph, layer) for layer in axes.names]
        return cls(
            name=name,
            axes=axes,
            kind_of=np.array([KINDS.index(kind) for kind in kinds]),
            importance=importance,
            setup=setup,
            selection=selection,
            openings=tuple(openings),
            setups=tuple(setups),
            own_axes=own_axes | {setup.norm: axes},
            blocks=adapter_blocks(graph),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What the score does not see of the opened genes."""
        names = ", ".join(one.name for one in self.openings)
        return (f"the score sees what trains of the network, not {names}",) if names else ()

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """The genes, in order: what trains, then what the user opened."""
        opened = (Gene(one.name, 0, len(one.values) - 1) for one in self.openings)
        return (*self._policy_genes, *opened)

    @cached_property
    def _policy_genes(self) -> tuple[Gene, ...]:
        layer_count = len(self.axes.names)
        first = (Gene("depth", 0, layer_count), Gene("bias_depth", 0, layer_count))
        if self.name == "layers":
            return (*first, *(Gene(name, 0, FULL_LEVEL) for name in self.axes.names))
        parts = [
            (Gene(f"{kind}_share", 0, FULL_SHARE), Gene(f"{kind}_level", 1, FULL_LEVEL))
            for kind in KINDS
        ]
        return (*first, *(gene for part in parts for gene in part))

    def decode(self, genes: IntArray) -> DesignBatch:
        """Designs of genes [P, D]."""
        genes = np.atleast_2d(genes)
        genes, opened = np.split(genes, [len(self._policy_genes)], axis=1)
        layer_count = len(self.axes.names)
        depth, bias_depth = genes[:, 0], genes[:, 1]
        if self.name == "layers":
            inside = np.arange(layer_count) >= layer_count - depth[:, None]
            level = np.where(inside, genes[:, 2:], 0)
        else:
            share = SHARES[genes[:, 2::2]][:, self.kind_of]
            wanted = np.ceil(share * self._kind_counts[depth][:, self.kind_of])
            chosen = self._ranks[depth] < wanted
            level = np.where(chosen, genes[:, 3::2][:, self.kind_of], 0)
        late: BoolArray = np.arange(layer_count) >= layer_count - bias_depth[:, None]
        designs = self.designs(self.axes.slices(LEVELS[level]), late, "search")
        if not self.openings:
            return designs
        counts = self._adapter_counts(opened)
        with_blocks = replace(
            designs, adapters=tuple(self.blocks[len(self.blocks) - kept :] for kept in counts)
        )
        return self._under(with_blocks, self._setup_rows(opened))

    def designs(self, slices: IntArray, update_bias: BoolArray, family: str) -> DesignBatch:
        """Designs that train `slices` [P, L] and biases [P, L]; norm scales go with weights."""
        count = len(slices)
        return DesignBatch(
            axes=self.axes,
            slices=slices,
            update_bias=update_bias & self.axes.has_bias,
            update_norm=(slices > 0) & self.axes.has_norm,
            axis_in=np.zeros(count, dtype=bool),
            families=(family,) * count,
            selections=(self.selection,) * count,
            adapters=((),) * count,
            setup=self.setup,
        )

    def spread(self, designs: DesignBatch) -> DesignBatch:
        """The same designs, every second one under one of the space's setups in turn."""
        if len(self.setups) < 2:
            return designs
        rows = np.arange(len(designs))
        return self._under(designs, np.where(rows % 2, rows // 2 % len(self.setups), -1))

    def _under(self, designs: DesignBatch, chosen: IntArray) -> DesignBatch:
        """Designs under setups by number [P], -1 for the usual one; norms and biases follow."""
        if not self.setups:
            return designs
        setups = tuple(self.setup if at < 0 else self.setups[at] for at in chosen)
        has_bias, has_norm = (
            np.array([getattr(self.own_axes[setup.norm], name) for setup in setups])
            for name in ("has_bias", "has_norm")
        )
        axes = replace(
            designs.axes, has_bias=np.any(has_bias, axis=0), has_norm=np.any(has_norm, axis=0)
        )
        kept = replace(
            designs,
            axes=axes,
            update_bias=designs.update_bias & has_bias,
            update_norm=(designs.slices > 0) & has_norm,
        )
        return kept.under(setups)

    def _setup_rows(self, opened: IntArray) -> IntArray:
        """Which of `setups` the opened genes [P, G] mean [P]."""
        columns = [at for at, one in enumerate(self.openings) if one.name != ADAPTERS]
        rows = np.zeros(len(opened), dtype=np.int64)
        for at in columns:
            rows = rows * len(self.openings[at].values) + opened[:, at]
        return rows

    def _adapter_counts(self, opened: IntArray) -> list[int]:
        """Adapters of each row [P], counted from the output."""
        for at, one in enumerate(self.openings):
            if one.name == ADAPTERS:
                return [int(one.values[gene]) for gene in opened[:, at]]
        return [0] * len(opened)

    def seeds(self) -> IntArray:
        """Genes of plain policies [S, D]: nothing, last k wholly or a quarter, biases.

        Opened genes are those of the usual setup where it is among theirs; where adapters are
        opened, all biases with the most of them follow.
        """
        layer_count = len(self.axes.names)
        depths = sorted({min(depth, layer_count) for depth in (*SEED_DEPTHS, layer_count)})
        rows = [self._plain(0, 0, FULL_LEVEL)]
        rows += [self._plain(depth, depth, FULL_LEVEL) for depth in depths]
        rows += [self._plain(depth, 0, QUARTER_LEVEL) for depth in depths[2:]]
        rows += [self._plain(0, depth, FULL_LEVEL) for depth in depths[4::2]]
        usual = self._usual_genes()
        seeds = [row + usual for row in rows]
        for at, one in enumerate(self.openings, len(self._policy_genes)):
            if one.name == ADAPTERS:
                seeds.append(self._plain(0, layer_count, FULL_LEVEL) + usual)
                seeds[-1][at] = len(one.values) - 1
        return np.array(seeds)

    def _usual_genes(self) -> list[int]:
        """Opened genes of the usual setup without adapters, else the first of each."""
        at = self.setups.index(self.setup) if self.setup in self.setups else 0
        usual = []
        for one in reversed(self.openings):
            size = 1 if one.name == ADAPTERS else len(one.values)
            usual.append(at % size)
            at //= size
        return usual[::-1]

    def _plain(self, depth: int, bias_depth: int, level: int) -> list[int]:
        if self.name == "layers":
            return [depth, bias_depth, *([level] * len(self.axes.names))]
        return [depth, bias_depth, *([FULL_SHARE, level] * len(KINDS))]

    @cached_property
    def _ranks(self) -> FloatArray:
        """Rank of a layer among those of its kind inside a depth [L + 1, L]; inf outside."""
        layer_count = len(self.axes.names)
        ranks = np.full((layer_count + 1, layer_count), np.inf)
        for depth in range(1, layer_count + 1):
            for kind in range(len(KINDS)):
                inside = np.flatnonzero(self.kind_of[layer_count - depth :] == kind)
                inside += layer_count - depth
                order = inside[np.argsort(-self.importance[inside], kind="stable")]
                ranks[depth, order] = np.arange(len(order))
        return ranks

    @cached_property
    def _kind_counts(self) -> IntArray:
        """Layers of each kind inside a depth [L + 1, K]."""
        counts: IntArray = np.stack(
            [
                (np.isfinite(self._ranks) & (self.kind_of == k)).sum(axis=1)
                for k in range(len(KINDS))
            ],
            axis=1,
        )
        return counts


def _kind(graph: ModelGraph, name: str) -> str:
    layer = graph[name]
    if kernel_kind(layer) == "depthwise":
        return "depthwise"
    return (
        "expand" if graph.slice_count(layer, "out") > graph.slice_count(layer, "in") else "project"
    )
