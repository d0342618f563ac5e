"""Bytes alive at every step of a training step, for a batch of designs at once.

Live bytes are linear in a design's features, so P designs cost one matrix product
`[P, F] @ [F, T]` and a row maximum. Steps that can never be the highest are left
out of the product. The same rules give the buffers the planner places.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from explorer.costmodel.buffers import BufferRule, Feature, Schedule
from explorer.costmodel.forms import FORMS, Form
from explorer.costmodel.schedule import schedule_of
from explorer.costmodel.tables import LayerTable
from explorer.design import OPTIMIZER_STATES, DesignBatch, TrainingSetup
from explorer.graph import WEIGHTED_OPS, ModelGraph
from explorer.layer import VIEWS
from explorer.units import BITS_PER_BYTE, FloatArray, IntArray, bytes_of


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class LifeTable:
    """Coefficients of one graph under one setup.

    `live_bytes` [F + 3L, T]: bytes at each step per unit of feature, then per trained
    weight, bias, norm scale (fused updates only); `peak_bytes` [F + 3L, T'] only the steps
    a peak can be at; `inference_bytes` is the peak of forward alone. `saved_bytes` [F] and,
    booked on layers, `layer_saved_bytes` [F, L]: what forward keeps for backward. `needs`
    [4L, K] and `saved_sets` define the features at `need_columns` and `saved_columns`; the
    first is always 1. `saved_first` are the first layers of the sets, `saved_jointly` the
    columns and layers of those with more. `workspace_bytes` [F] is the largest scratch under
    each feature. `again_columns` [B] are the features of blocks that run again, `again_ops`
    [B, O] what they run.
    """

    schedule: Schedule
    features: tuple[Feature, ...]
    needs: FloatArray
    saved_sets: tuple[IntArray, ...]
    saved_first: IntArray
    saved_jointly: tuple[tuple[int, IntArray], ...]
    need_columns: IntArray
    saved_columns: IntArray
    live_bytes: FloatArray
    saved_bytes: FloatArray
    layer_saved_bytes: FloatArray
    peak_bytes: FloatArray
    workspace_bytes: FloatArray
    again_columns: IntArray
    again_ops: FloatArray
    inference_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """One buffer of one design: bytes and half-open lifetime in steps."""

    label: str
    form: str
    size_bytes: int
    birth: int
    death: int


def trained_counts(table: LayerTable, designs: DesignBatch) -> FloatArray:
    """Trained weights, biases and norm scales of each layer [P, 3L]."""
    return np.concatenate(
        [
            designs.slices * (table.weight_count / designs.slice_counts),
            designs.update_bias * table.bias_count,
            designs.update_norm * table.norm_count,
        ],
        axis=1,
    )


def saved_share(table: LayerTable, designs: DesignBatch) -> FloatArray:
    """Share of each layer's input that its weight gradient needs [P, L].

    All of it for output-channel slices of a dense layer; in proportion for input-channel
    slices and for depthwise layers, whose channels read one input channel each.
    """
    proportional = designs.axis_in[:, None] | table.depthwise
    share: FloatArray = np.where(proportional, designs.update_ratio, designs.slices > 0)
    return share


@lru_cache(maxsize=64)
def life_table(graph: ModelGraph, setup: TrainingSetup, workspace: str = "none") -> LifeTable:
    """Coefficients for a graph and a setup, of which optimizer and norm do not matter.

    `workspace` is the scratch its kernels need, a device.Workspace.
    """
    unit = _unit_table(graph, setup.precision, workspace, setup.recompute)
    batch = setup.micro_batch
    gradients = unit.gradients if setup.update_timing == "fused" else 0 * unit.gradients
    live = np.concatenate([batch * unit.per_sample + unit.per_pass, gradients])
    again = unit.schedule.again
    again_ops = np.zeros((len(again), len(graph.layers)))
    for row, (_, ops) in enumerate(again):
        again_ops[row, list(ops)] = 1.0
    saved = {at: np.array(sorted(one.saved)) for at, one in enumerate(unit.features) if one.saved}
    return LifeTable(
        schedule=unit.schedule,
        features=unit.features,
        needs=unit.needs,
        saved_sets=tuple(saved.values()),
        saved_first=np.array([members[0] for members in saved.values()], np.int64),
        saved_jointly=tuple((at, members) for at, members in saved.items() if len(members) > 1),
        need_columns=np.array([at for at, feature in enumerate(unit.features) if feature.trigger]),
        saved_columns=np.array(list(saved), np.int64),
        again_columns=np.array([unit.features.index(need) for need, _ in again], np.int64),
        again_ops=again_ops,
        live_bytes=live,
        inference_bytes=float(live[0, : unit.schedule.forward_steps].max()),
        peak_bytes=np.ascontiguousarray(live[:, unit.peaks]),
        workspace_bytes=unit.workspace_bytes,
        saved_bytes=(batch * unit.saved_per_sample + unit.saved_per_pass).sum(axis=1),
        layer_saved_bytes=batch * unit.saved_per_sample + unit.saved_per_pass,
    )


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class _UnitTable:
    """What a LifeTable is made of before the micro-batch is known.

    `per_sample`, `per_pass` [F, T] and `gradients` [3L, T] in bytes; `saved_*` [F, L] booked
    on layers; `workspace_bytes` [F] the largest scratch; `peaks` [T'] the steps that can be
    the highest at any micro-batch.
    """

    schedule: Schedule
    features: tuple[Feature, ...]
    needs: FloatArray
    per_sample: FloatArray
    per_pass: FloatArray
    gradients: FloatArray
    saved_per_sample: FloatArray
    saved_per_pass: FloatArray
    workspace_bytes: FloatArray
    peaks: IntArray


@lru_cache(maxsize=32)
def _unit_table(graph: ModelGraph, precision: str, workspace: str, recompute: str) -> _UnitTable:
    schedule = schedule_of(graph, workspace, recompute)
    form = FORMS[precision]
    features: dict[Feature, int] = {Feature(always=True): 0}
    for rule in schedule.rules:
        for feature, _ in rule.stages:
            features.setdefault(feature, len(features))
    for need, _ in schedule.again:
        features.setdefault(need, len(features))
    layer_count = len(schedule.table.axes.names)
    live = np.zeros((2, len(features), schedule.step_count))
    saved = np.zeros((2, len(features), layer_count))
    scratch = np.zeros(len(features))
    for rule in schedule.rules:
        size = form.activation_bytes(rule.form, rule.unit_count)
        part = 0 if rule.per_sample else 1
        ends = [death for _, death in rule.stages[1:]] + [rule.birth]
        for (feature, death), start in zip(rule.stages, ends, strict=True):
            live[part, features[feature], start:death] += size
        if rule.form == "workspace":
            column = features[rule.stages[0][0]]
            scratch[column] = max(scratch[column], size)
        if rule.saved:
            kept = _kept_feature(rule)
            saved[part, features[kept], _owner(schedule.table, rule, kept)] += size
    gradients = _fused_gradients(schedule, form)
    return _UnitTable(
        schedule=schedule,
        features=tuple(features),
        needs=_needs(features, layer_count),
        per_sample=live[0],
        per_pass=live[1],
        gradients=gradients,
        saved_per_sample=saved[0],
        saved_per_pass=saved[1],
        workspace_bytes=scratch,
        peaks=_possible_peaks(np.concatenate([live[0], live[1], gradients])),
    )


def feature_values(life: LifeTable, designs: DesignBatch) -> FloatArray:
    """Values of all features [P, F]."""
    table = life.schedule.table
    values = np.ones((len(designs), len(life.features)))
    values[:, life.saved_columns] = 0.0
    sites = np.concatenate([table.active_sites(designs), designs.slices > 0], axis=1)
    values[:, life.need_columns] = sites @ life.needs > 0
    share = saved_share(table, designs)
    first = share[:, life.saved_first]
    values[:, life.saved_columns] = np.maximum(values[:, life.saved_columns], first)
    for column, members in life.saved_jointly:
        values[:, column] = np.maximum(values[:, column], share[:, members].max(axis=1))
    return values


def run_again(life: LifeTable, values: FloatArray) -> FloatArray:
    """Which operators run again in backward [P, O], 0 or 1, by `feature_values`."""
    repeated: FloatArray = values[:, life.again_columns] @ life.again_ops
    return repeated


def live_bytes(life: LifeTable, values: FloatArray, trained: FloatArray) -> FloatArray:
    """Bytes of activations, gradients and masks at each step [P, T]."""
    live: FloatArray = np.concatenate([values, trained], axis=1) @ life.live_bytes
    return live


def peak_bytes(life: LifeTable, values: FloatArray, trained: FloatArray) -> FloatArray:
    """The highest of `live_bytes` [P]."""
    peak: FloatArray = (np.concatenate([values, trained], axis=1) @ life.peak_bytes).max(axis=1)
    return peak


def stored_bytes(table: LayerTable, setup: TrainingSetup) -> float:
    """Bytes of all parameters and constants of the network."""
    form, graph = FORMS[setup.precision], table.graph
    weights = table.weight_count.sum()
    others = bytes_of(graph.parameter_count - weights, form.bias_bits)
    return float(bytes_of(weights + graph.constant_count, form.weight_bits)) + float(others)


def parameter_bytes(
    table: LayerTable, trained: FloatArray, setup: TrainingSetup, *, weights_in_flash: bool
) -> dict[str, FloatArray]:
    """Bytes that live through the whole step [P]: weights, optimizer state, accumulators.

    `weight_bytes` is in RAM: the trained ones where frozen weights stay in flash, else all.
    `flash_bytes` are the weights left in flash. `gradient_bytes` are all weight gradients
    of a deferred update, or the largest layer's of a fused one (not alive all the time).
    """
    form = FORMS[setup.precision]
    layer_count = len(table.axes.names)
    weight_count = trained[:, :layer_count].sum(axis=1)
    other_count = trained[:, layer_count:].sum(axis=1)
    total = stored_bytes(table, setup)
    trained_bytes = (weight_count * form.weight_bits + other_count * form.bias_bits) / BITS_PER_BYTE
    gradients = trained * form.weight_gradient_bits / BITS_PER_BYTE
    by_layer = gradients.reshape(len(trained), 3, layer_count).sum(axis=1)
    deferred = setup.update_timing == "deferred"
    state_count = OPTIMIZER_STATES[setup.optimizer] * (weight_count + other_count)
    return {
        "weight_bytes": trained_bytes if weights_in_flash else np.full(len(trained), total),
        "flash_bytes": total - trained_bytes if weights_in_flash else np.zeros(len(trained)),
        "optimizer_bytes": state_count * form.state_bits / BITS_PER_BYTE,
        "gradient_bytes": by_layer.sum(axis=1) if deferred else by_layer.max(axis=1),
    }


def buffers_of(
    life: LifeTable, designs: DesignBatch, setup: TrainingSetup, parameters: dict[str, FloatArray]
) -> list[Buffer]:
    """Every buffer of the first design, with its lifetime; `parameters` [P] live throughout."""
    schedule, form = life.schedule, FORMS[setup.precision]
    trained = trained_counts(schedule.table, designs)
    value = dict(zip(life.features, feature_values(life, designs)[0].tolist(), strict=True))
    found: list[Buffer] = []
    for rule in schedule.rules:
        scale = setup.micro_batch if rule.per_sample else 1
        whole = form.activation_bytes(rule.form, rule.unit_count) * scale
        taken = 0.0
        for feature, death in rule.stages:
            size = whole * (value[feature] - taken)
            if size > 0:
                found.append(_buffer(rule.label, rule.form, size, rule.birth, death))
            taken = max(taken, value[feature])
    layer_count = len(schedule.table.axes.names)
    if setup.update_timing == "fused":
        per_site = trained[0][:, None] * _fused_gradients(schedule, form)
        for site in np.flatnonzero(per_site.any(axis=1)):
            steps = np.flatnonzero(per_site[site])
            label = f"weight gradient of {schedule.table.axes.names[site % layer_count]}"
            found.append(
                _buffer(
                    label, "weight", per_site[site, steps[0]], int(steps[0]), int(steps[-1]) + 1
                )
            )
    throughout = ["weight_bytes", "optimizer_bytes"]
    if setup.update_timing == "deferred":
        throughout.append("gradient_bytes")
    for name in throughout:
        size = parameters[name]
        if size[0] > 0:
            label = name.removesuffix("_bytes").replace("weight", "weights in RAM")
            found.append(_buffer(label, "parameter", size[0], 0, schedule.step_count))
    return found


def buffer_columns(buffers: Sequence[Buffer]) -> tuple[IntArray, IntArray, IntArray]:
    """Bytes, births and deaths of B buffers [B], as the planner takes them."""
    return (
        np.array([buffer.size_bytes for buffer in buffers], dtype=np.int64),
        np.array([buffer.birth for buffer in buffers], dtype=np.int64),
        np.array([buffer.death for buffer in buffers], dtype=np.int64),
    )


def _buffer(label: str, form: str, size: float, birth: int, death: int) -> Buffer:
    return Buffer(label=label, form=form, size_bytes=round(size), birth=birth, death=death)


def _kept_feature(rule: BufferRule) -> Feature:
    """The feature of everything a rule keeps for backward: its last stage before `always`."""
    return [feature for feature, _ in rule.stages if not feature.always][-1]


def _owner(table: LayerTable, rule: BufferRule, kept: Feature) -> int:
    """The weighted layer a kept tensor is booked on: its reader, or the one in front."""
    if kept.saved:
        return max(kept.saved)
    before = [index for index, op in enumerate(table.op_index) if op <= rule.birth]
    return max(before, default=0)


def _needs(features: dict[Feature, int], layer_count: int) -> FloatArray:
    triggers = [feature.trigger for feature in features if feature.trigger]
    needs = np.zeros((4 * layer_count, len(triggers)))
    for column, sites in enumerate(triggers):
        needs[sorted(sites), column] = 1.0
    return needs


def _fused_gradients(schedule: Schedule, form: Form) -> FloatArray:
    """Bytes per trained weight, bias and norm scale while its gradient exists [3L, T].

    That of a parameter is added up from the backward pass of its last reader on.
    """
    size = form.weight_gradient_bits / BITS_PER_BYTE
    table = schedule.table
    layer_count = len(table.axes.names)
    live = np.zeros((3 * layer_count, schedule.step_count))
    for index, (op, norm) in enumerate(zip(table.op_index, table.norm_index, strict=True)):
        end = schedule.input_grad_step[op] + 1
        start = min([schedule.weight_grad_step[op], *_reader_steps(schedule, op)])
        live[index, start:end] = size
        at_norm = schedule.input_grad_step[norm] if norm >= 0 else -1
        if table.own_bias[index]:
            live[layer_count + index, start:end] = size
        elif norm >= 0:
            live[layer_count + index, at_norm] = size
        if norm >= 0:
            live[2 * layer_count + index, at_norm] = size
    return live


def _reader_steps(schedule: Schedule, op: int) -> list[int]:
    """Backward steps that add to the gradient of a parameter; none of another layer."""
    graph = schedule.table.graph
    name = graph.layers[op].name
    if graph.layers[op].op != "parameter":
        return []
    return [
        (schedule.input_grad_step if reader.op in WEIGHTED_OPS else schedule.weight_grad_step)[at]
        for at, reader in enumerate(graph.layers)
        if reader.op not in VIEWS
        and any(graph.parameter_of(tensor) == name for tensor in reader.inputs)
    ]


def _possible_peaks(live: FloatArray) -> IntArray:
    """Steps no other step is at least as high as in every coefficient, none of them negative."""
    order = np.argsort(-live.sum(axis=0), kind="stable")
    kept: list[int] = []
    for step in order:
        alive = np.flatnonzero(live[:, step])
        covered = live[alive][:, np.array(kept, np.int64)] >= live[alive, step, None]
        if not covered.all(axis=0).any():
            kept.append(int(step))
    return np.array(sorted(kept))
