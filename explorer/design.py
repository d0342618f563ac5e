"""A design: what is trained (policy) and how one step is run (setup).

One design is a batch of one; everything below works on DesignBatch, columns
over P designs and L weighted layers, from input to output.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from explorer.device import PRECISIONS
from explorer.errors import SpecError, check_whole, is_whole
from explorer.graph import NORMS, ModelGraph
from explorer.low_rank import Adapter
from explorer.phases import Distillation
from explorer.units import BoolArray, FloatArray, IntArray

OPTIMIZER_STATES = {"sgd": 0, "sgd-momentum": 1, "adam": 2}
OPTIMIZERS = tuple(OPTIMIZER_STATES)
CHANNEL_AXES = ("out", "in")
SELECTIONS = ("first", "fisher", "gradient", "magnitude", "random")
UPDATE_TIMINGS = ("fused", "deferred")
RECOMPUTES = ("none", "blocks")
LARGEST_BATCH = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAxes:
    """What a policy may choose from in a graph: sizes of the channel axes [L].

    `has_bias`: a bias of its own or the offset of its norm; `has_norm`: a norm whose
    scale can train (a frozen batch norm's cannot).
    """

    names: tuple[str, ...]
    out_channels: IntArray
    in_channels: IntArray
    has_bias: BoolArray
    has_norm: BoolArray

    @classmethod
    def of(cls, graph: ModelGraph) -> "LayerAxes":
        """Read a graph; depthwise layers have their channels on both axes."""
        layers = [graph[name] for name in graph.weighted]
        norms = [graph.norm_of(name) for name in graph.weighted]
        scales = [norm is not None and graph[norm].op != "frozen_batchnorm" for norm in norms]
        offsets = np.array([norm is not None for norm in norms])
        return cls(
            names=graph.weighted,
            out_channels=np.array([graph.slice_count(layer, "out") for layer in layers]),
            in_channels=np.array([graph.slice_count(layer, "in") for layer in layers]),
            has_bias=np.array([layer.has_bias for layer in layers]) | offsets,
            has_norm=np.array(scales),
        )

    def channels(self, axis: str) -> IntArray:
        """Slices of each layer along an axis [L]."""
        return self.in_channels if axis == "in" else self.out_channels

    def index(self, name: str) -> int:
        """Position of a layer; SpecError lists what is allowed."""
        if name not in self.names:
            raise SpecError.of("layer", name, f"one of {', '.join(self.names)}")
        return self.names.index(name)

    def slices(self, ratios: FloatArray, axis: str = "out") -> IntArray:
        """Whole slices for ratios [..., L] in 0..1: rounded down, at least one when > 0."""
        if np.any((ratios < 0) | (ratios > 1) | ~np.isfinite(ratios)):
            bad = ratios[(ratios < 0) | (ratios > 1) | ~np.isfinite(ratios)][0]
            raise SpecError.of("update ratio", float(bad), "0 to 1")
        channels = self.channels(axis)
        whole = np.floor(ratios * channels + 1e-9).astype(np.int64)
        return np.where(ratios > 0, np.maximum(whole, 1), 0)


@dataclass(frozen=True, kw_only=True)
class UpdatePolicy:
    """What trains, per weighted layer [L].

    `slices` counts the trained weight slices along `channel_axis`, 0 is frozen.
    `update_bias` trains the layer's bias or, without one, its norm's offset;
    `update_norm` the norm's scale. `selection` says which slices: the first, the
    best by a criterion, or `channels` lists them (one tuple a layer). `adapters` are
    blocks with a lite-residual one and low-rank ones on layers (explorer.adapters), which
    train fully.
    `distillation` makes each step look ahead with all that does not train.
    """

    family: str
    layer_names: tuple[str, ...]
    slices: tuple[int, ...]
    slice_counts: tuple[int, ...]
    update_bias: tuple[bool, ...]
    update_norm: tuple[bool, ...]
    channel_axis: str = "out"
    selection: str = "first"
    channels: tuple[tuple[int, ...], ...] | None = None
    adapters: tuple[Adapter, ...] = ()
    distillation: Distillation | None = None

    def __post_init__(self) -> None:
        if self.channel_axis not in CHANNEL_AXES:
            raise SpecError.of("channel_axis", self.channel_axis, ", ".join(CHANNEL_AXES))
        if self.selection not in SELECTIONS:
            raise SpecError.of("selection", self.selection, ", ".join(SELECTIONS))
        columns = (self.slices, self.slice_counts, self.update_bias, self.update_norm)
        if {len(column) for column in columns} != {len(self.layer_names)}:
            raise SpecError.of(f"policy {self.family}", columns, "one entry for each layer")
        for name, taken, whole in zip(
            self.layer_names, self.slices, self.slice_counts, strict=True
        ):
            if not 0 <= taken <= whole:
                raise SpecError.of(f"trained slices of {name}", taken, f"0 to {whole}")
        if len(set(self.adapters)) != len(self.adapters):
            raise SpecError.of(f"adapters of {self.family}", self.adapters, "each once")
        if self.channels is not None:
            self._check_channels(self.channels)

    def _check_channels(self, channels: tuple[tuple[int, ...], ...]) -> None:
        for name, listed, taken, whole in zip(
            self.layer_names, channels, self.slices, self.slice_counts, strict=True
        ):
            if len(set(listed)) != taken or any(not 0 <= index < whole for index in listed):
                raise SpecError.of(
                    f"channels of {name}", listed, f"{taken} different indices below {whole}"
                )

    @property
    def update_ratio(self) -> tuple[float, ...]:
        """Share of each layer's weight slices that trains [L]."""
        return tuple(t / w for t, w in zip(self.slices, self.slice_counts, strict=True))

    @classmethod
    def of(
        cls,
        family: str,
        axes: LayerAxes,
        *,
        slices: Sequence[int] | IntArray,
        update_bias: Sequence[bool] | BoolArray,
        update_norm: Sequence[bool] | BoolArray | None = None,
        channel_axis: str = "out",
        selection: str = "first",
        adapters: tuple[Adapter, ...] = (),
        distillation: Distillation | None = None,
    ) -> "UpdatePolicy":
        """Fill in sizes; flags of biases and norms a layer does not have are dropped.

        Norm scales train with their layer's weights unless `update_norm` says otherwise.
        """
        taken = np.asarray(slices)
        norm = taken > 0 if update_norm is None else np.asarray(update_norm)
        return cls(
            family=family,
            layer_names=axes.names,
            slices=tuple(taken.astype(np.int64).tolist()),
            slice_counts=tuple(axes.channels(channel_axis).tolist()),
            update_bias=tuple((np.asarray(update_bias) & axes.has_bias).tolist()),
            update_norm=tuple((norm & axes.has_norm).tolist()),
            channel_axis=channel_axis,
            selection=selection,
            adapters=adapters,
            distillation=distillation,
        )


def nothing(axes: LayerAxes) -> UpdatePolicy:
    """All layers frozen."""
    frozen = np.zeros(len(axes.names), dtype=bool)
    return UpdatePolicy.of("none", axes, slices=frozen * 1, update_bias=frozen)


def everything(axes: LayerAxes) -> UpdatePolicy:
    """All layers trained: weights, biases and norms."""
    return UpdatePolicy.of("full", axes, slices=axes.out_channels, update_bias=axes.has_bias)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSetup:
    """How a step is run: one update of `micro_batch * accumulation_steps` samples.

    `norm` None keeps the network's own. `update_timing` fused applies a gradient
    as soon as it is there; deferred keeps all of them, as accumulation must.
    `recompute` blocks keeps only the inputs of blocks and runs them again in backward.
    """

    micro_batch: int = 1
    accumulation_steps: int = 1
    optimizer: str = "sgd"
    precision: str = "fp32"
    norm: str | None = None
    update_timing: str = "fused"
    recompute: str = "none"

    def __post_init__(self) -> None:
        for field in ("micro_batch", "accumulation_steps"):
            check_whole(field, getattr(self, field), 1, LARGEST_BATCH)
        for field, allowed in (
            ("optimizer", OPTIMIZERS),
            ("precision", PRECISIONS),
            ("update_timing", UPDATE_TIMINGS),
            ("recompute", RECOMPUTES),
        ):
            if getattr(self, field) not in allowed:
                raise SpecError.of(field, getattr(self, field), ", ".join(allowed))
        if self.norm is not None and self.norm not in NORMS:
            raise SpecError.of("norm", self.norm, ", ".join(NORMS))
        if self.accumulation_steps > 1 and self.update_timing == "fused":
            object.__setattr__(self, "update_timing", "deferred")

    @property
    def effective_batch(self) -> int:
        """Samples of one weight update."""
        return self.micro_batch * self.accumulation_steps

    @classmethod
    def of_batch(cls, batch: int, micro_batch: int | None = None, **rest: str) -> "TrainingSetup":
        """Split an effective batch into micro-batches; it must divide without rest."""
        check_whole("batch", batch, 1, LARGEST_BATCH)
        micro = batch if micro_batch is None else micro_batch
        if not is_whole(micro) or micro < 1 or batch % micro:
            raise SpecError.of("micro_batch", micro, f"a divisor of the batch, {batch}")
        return cls(micro_batch=micro, accumulation_steps=batch // micro, **rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """One point of the space."""

    policy: UpdatePolicy
    setup: TrainingSetup


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignBatch:
    """P designs of one graph as columns.

    `slices` int [P, L]; `update_bias`, `update_norm` bool [P, L]; `axis_in` bool [P]
    (slices along input channels); `families`, `selections` str [P]; `adapters` [P] of
    each; `distillations` [P], none if not given. All rows share the setup unless
    `setups` [P] has one for each; then their networks may differ in the norm, and `axes` has
    the biases and norms of any of them.
    """

    axes: LayerAxes
    slices: IntArray
    update_bias: BoolArray
    update_norm: BoolArray
    axis_in: BoolArray
    families: tuple[str, ...]
    selections: tuple[str, ...]
    adapters: tuple[tuple[Adapter, ...], ...]
    setup: TrainingSetup
    setups: tuple[TrainingSetup, ...] = ()
    distillations: tuple[Distillation | None, ...] = ()

    def __post_init__(self) -> None:
        if not self.distillations:
            object.__setattr__(self, "distillations", (None,) * len(self.slices))

    def __len__(self) -> int:
        return len(self.slices)

    @property
    def trains(self) -> BoolArray:
        """Whether anything is updated [P]."""
        anything = (self.slices > 0) | self.update_bias | self.update_norm
        trains: BoolArray = np.any(anything, axis=1) | np.array([bool(a) for a in self.adapters])
        return trains

    @property
    def update_ratio(self) -> FloatArray:
        """Share of weight slices trained [P, L]."""
        ratio: FloatArray = self.slices / self.slice_counts
        return ratio

    @property
    def slice_counts(self) -> IntArray:
        """Slices of each layer along the axis each design chooses by [P, L]."""
        axes = self.axes
        return np.where(self.axis_in[:, None], axes.in_channels, axes.out_channels)

    @classmethod
    def of(
        cls, axes: LayerAxes, policies: Iterable[UpdatePolicy], setup: TrainingSetup
    ) -> "DesignBatch":
        """Stack policies of one graph under one setup."""
        rows = list(policies)
        for row in rows:
            if row.layer_names != axes.names:
                raise SpecError.of(
                    f"policy {row.family}", row.layer_names[:3], f"layers {axes.names[:3]}..."
                )
        size = (len(rows), len(axes.names))
        return cls(
            axes=axes,
            slices=np.array([row.slices for row in rows], dtype=np.int64).reshape(size),
            update_bias=np.array([row.update_bias for row in rows], dtype=bool).reshape(size),
            update_norm=np.array([row.update_norm for row in rows], dtype=bool).reshape(size),
            axis_in=np.array([row.channel_axis == "in" for row in rows], dtype=bool),
            families=tuple(row.family for row in rows),
            selections=tuple(row.selection for row in rows),
            adapters=tuple(row.adapters for row in rows),
            setup=setup,
            distillations=tuple(row.distillation for row in rows),
        )

    def policy(self, row: int) -> UpdatePolicy:
        """One row as a policy."""
        return UpdatePolicy.of(
            self.families[row],
            self.axes,
            slices=self.slices[row],
            update_bias=self.update_bias[row],
            update_norm=self.update_norm[row],
            channel_axis="in" if self.axis_in[row] else "out",
            selection=self.selections[row],
            adapters=self.adapters[row],
            distillation=self.distillations[row],
        )

    def __getitem__(self, row: int) -> Design:
        setup = self.setups[row] if self.setups else self.setup
        return Design(policy=self.policy(row), setup=setup)

    @property
    def row_setups(self) -> tuple[TrainingSetup, ...]:
        """The setup of each row [P]."""
        return self.setups or (self.setup,) * len(self)

    def by_setup(self) -> list[tuple[IntArray, "DesignBatch"]]:
        """Rows that share a setup, and these as a batch."""
        if not self.setups:
            return [(np.arange(len(self)), self)]
        rows: dict[TrainingSetup, list[int]] = {}
        for row, setup in enumerate(self.setups):
            rows.setdefault(setup, []).append(row)
        return [(np.array(group), self.take(np.array(group))) for group in rows.values()]

    def setup_columns(self, names: Iterable[str] | None = None) -> dict[str, list[object]]:
        """Fields of the setups of rows [P] by name; those that differ among them if absent."""
        setups = self.row_setups
        if names is None:
            every = (field.name for field in fields(TrainingSetup))
            names = [name for name in every if len({getattr(one, name) for one in setups}) > 1]
        return {name: [getattr(one, name) for one in setups] for name in names}

    @classmethod
    def joined(cls, batches: Sequence["DesignBatch"]) -> "DesignBatch":
        """Batches of one network one after the other, each row with its own setup."""
        first = batches[0]
        columns: dict[str, Any] = {}
        for field in fields(cls):
            parts = [getattr(batch, field.name) for batch in batches]
            if isinstance(parts[0], np.ndarray):
                columns[field.name] = np.concatenate(parts)
            elif isinstance(parts[0], tuple):
                columns[field.name] = tuple(value for part in parts for value in part)
        if any(batch.setups or batch.setup != first.setup for batch in batches):
            columns |= _setups_of(tuple(one for batch in batches for one in batch.row_setups))
        columns["axes"] = replace(
            first.axes,
            has_bias=np.any([batch.axes.has_bias for batch in batches], axis=0),
            has_norm=np.any([batch.axes.has_norm for batch in batches], axis=0),
        )
        return cls(**{"setup": first.setup} | columns)

    def under(self, setups: Sequence[TrainingSetup]) -> "DesignBatch":
        """The same designs, each under a setup of its own [P]."""
        return replace(self, **_setups_of(tuple(setups)))

    def take(self, rows: IntArray | BoolArray) -> "DesignBatch":
        """The rows of an index or mask, in that order."""
        index = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(
            self,
            **_setups_of(tuple(self.setups[row] for row in index) if self.setups else ()),
            slices=self.slices[index],
            update_bias=self.update_bias[index],
            update_norm=self.update_norm[index],
            axis_in=self.axis_in[index],
            families=tuple(self.families[row] for row in index),
            selections=tuple(self.selections[row] for row in index),
            adapters=tuple(self.adapters[row] for row in index),
            distillations=tuple(self.distillations[row] for row in index),
        )


def _setups_of(setups: tuple[TrainingSetup, ...]) -> dict[str, Any]:
    """Fields of a batch whose rows have these setups; one that all share stands alone."""
    if not setups:
        return {"setups": ()}
    return {"setup": setups[0], "setups": setups if len(set(setups)) > 1 else ()}
