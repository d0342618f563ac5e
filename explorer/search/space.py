"""Genes and designs: two encodings, both aware of depth.

A gene per layer alone is a poor space: random genes train some early layer almost
always, which makes every design deep. So depth is a gene of its own and masks the
rest. `guided` has eight genes: depth, bias depth and, for each kind of layer, which
share of the most important layers inside the depth trains and at which level.
`layers` has a level for each layer.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from explorer.costmodel.ops import kernel_kind
from explorer.design import DesignBatch, LayerAxes, TrainingSetup
from explorer.errors import SpecError
from explorer.graph import ModelGraph
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

    `importance` [L] ranks layers of one kind; `selection` is how channels are chosen.
    """

    name: str
    axes: LayerAxes
    kind_of: IntArray
    importance: FloatArray
    setup: TrainingSetup
    selection: str

    @classmethod
    def of(
        cls,
        name: str,
        graph: ModelGraph,
        importance: FloatArray,
        setup: TrainingSetup,
        selection: str,
    ) -> "SearchSpace":
        """The space of a graph; SpecError on an unknown name."""
        if name not in SPACES:
            raise SpecError.of("space", name, ", ".join(SPACES))
        axes = LayerAxes.of(graph)
        kinds = [_kind(graph, layer) for layer in axes.names]
        return cls(
            name=name,
            axes=axes,
            kind_of=np.array([KINDS.index(kind) for kind in kinds]),
            importance=importance,
            setup=setup,
            selection=selection,
        )

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """The genes, in order."""
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
        return self.designs(self.axes.slices(LEVELS[level]), late, "search")

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

    def seeds(self) -> IntArray:
        """Genes of plain policies [S, D]: nothing, last k wholly or a quarter, biases."""
        layer_count = len(self.axes.names)
        depths = sorted({min(depth, layer_count) for depth in (*SEED_DEPTHS, layer_count)})
        rows = [self._plain(0, 0, FULL_LEVEL)]
        rows += [self._plain(depth, depth, FULL_LEVEL) for depth in depths]
        rows += [self._plain(depth, 0, QUARTER_LEVEL) for depth in depths[2:]]
        rows += [self._plain(0, depth, FULL_LEVEL) for depth in depths[4::2]]
        return np.array(rows)

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
