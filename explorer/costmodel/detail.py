"""One design in full: fit, per-layer rows, intervals and where each number comes from."""

from dataclasses import replace
from typing import Any

import numpy as np

from explorer.costmodel.arena import place_at_run_time
from explorer.costmodel.conventions import DEVICE, recount
from explorer.costmodel.evaluate import arena_plan, evaluate
from explorer.costmodel.levels import overflow_joules, overflow_seconds, overflow_warning
from explorer.costmodel.lifetimes import (
    buffer_columns,
    feature_values,
    life_table,
    trained_counts,
)
from explorer.costmodel.report import MACS_COLUMNS, MEMORY_COLUMNS, Cost, CostReport, Estimate, Fit
from explorer.costmodel.timing import operator_times, step_energy
from explorer.design import DesignBatch
from explorer.device import DeviceProfile, MemoryLevel
from explorer.graph import ModelGraph
from explorer.provenance import Kind, weakest
from explorer.units import FloatArray

NOTHING = ("trained_ratio", "forward_macs", "input_grad_macs", "weight_grad_macs", "saved_bytes")
NOT_SPEED = {"active_power_w", "energy_j_per_mac"}
TRAINING_ONLY = {"input_grad_speed_ratio", "weight_grad_speed_ratio", "trainer_speed_ratio"}


def ram_bytes(costs: CostReport) -> FloatArray:
    """RAM a design needs [P]: the arena where it was placed, else the live bytes."""
    placed = np.isfinite(costs.arena_bytes)
    return np.where(placed, costs.arena_bytes, costs.peak_live_bytes)


def needs_and_limits(
    device: DeviceProfile, costs: CostReport, reserve_bytes: int
) -> list[tuple[MemoryLevel, FloatArray, int]]:
    """For each memory level the bytes needed [P] and usable; the reserve is taken off RAM."""
    return [
        (level, ram_bytes(costs), level.usable_bytes - reserve_bytes)
        if level.holds == "data"
        else (level, costs.flash_bytes, level.usable_bytes)
        for level in device.fit_levels
    ]


def fits_of(device: DeviceProfile, costs: CostReport, row: int, reserve_bytes: int) -> list[Fit]:
    """Verdict of each memory level; the reserve is the application's share of RAM."""
    return [
        Fit(level=level.name, needed_bytes=float(needed[row]), usable_bytes=float(usable))
        for level, needed, usable in needs_and_limits(device, costs, reserve_bytes)
    ]


def violations(device: DeviceProfile, costs: CostReport, reserve_bytes: int = 0) -> FloatArray:
    """Bytes over each memory level relative to its size [P, C]; violated when > 0."""
    columns = [
        (needed - usable) / level.size_bytes
        for level, needed, usable in needs_and_limits(device, costs, reserve_bytes)
    ]
    return np.stack(columns, axis=1)


def report(
    graph: ModelGraph,
    device: DeviceProfile,
    designs: DesignBatch,
    reserve_bytes: int = 0,
    accounting: str = DEVICE,
) -> Cost:
    """The first design of a batch in full, its arena placed.

    Under another accounting MACs and memory are that one's; whether it fits, the time and
    the per-layer rows stay our own.
    """
    placed, arena_bytes = arena_plan(graph, device, designs)
    costs = evaluate(graph, device, designs.take(np.array([0])))
    costs = replace(costs, arena_bytes=np.array([float(arena_bytes)]))
    own = cost_of_row(graph, device, costs, 0, reserve_bytes)
    if accounting != DEVICE:
        other = cost_of_row(graph, device, recount(graph, costs, accounting), 0, reserve_bytes)
        memory = other.memory | {"runtime_arena_bytes": np.nan}
        return replace(own, accounting=accounting, macs=other.macs, memory=memory)
    columns = buffer_columns([buffer for buffer, _ in placed])
    needed = place_at_run_time(*columns, device.alignment_bytes).arena_bytes
    return replace(own, memory=own.memory | {"runtime_arena_bytes": float(needed)})


def cost_of_row(
    graph: ModelGraph,
    device: DeviceProfile,
    costs: CostReport,
    row: int,
    reserve_bytes: int = 0,
) -> Cost:
    """One row of a report in full."""
    designs = costs.designs.take(np.array([row]))
    setup = designs.setup
    return Cost(
        model=graph.name,
        device=device.name,
        policy=designs.families[0],
        setup={
            "batch": setup.effective_batch,
            "micro_batch": setup.micro_batch,
            "accumulation_steps": setup.accumulation_steps,
            "norm": graph.norm,
            "optimizer": setup.optimizer,
            "precision": setup.precision,
            "update_timing": setup.update_timing,
        },
        accounting=DEVICE,
        macs={
            name.removesuffix("_macs"): float(getattr(costs, name)[row]) for name in MACS_COLUMNS
        },
        memory={name: float(getattr(costs, name)[row]) for name in MEMORY_COLUMNS},
        fits=tuple(fits_of(device, costs, row, reserve_bytes)),
        step_time_s=float(costs.step_time_s[row]),
        step_energy_j=float(costs.step_energy_j[row]),
        batch=setup.effective_batch,
        trained_parameters=int(costs.trained_parameter_count[row]),
        provenance=_provenance(device, costs, row),
        layer_rows=(*_layer_rows(graph, device, designs), *_overflow_rows(device, costs, row)),
        warnings=(*_warnings(graph, designs), *_overflow_warnings(device, costs, row)),
    )


def _overflow_wait_s(device: DeviceProfile, costs: CostReport, row: int) -> FloatArray:
    """Seconds of waiting in one design's step, as an array of one."""
    return overflow_seconds(device, costs.designs.setup, costs.peak_live_bytes[row : row + 1])


def _overflow_rows(device: DeviceProfile, costs: CostReport, row: int) -> list[dict[str, Any]]:
    """The wait for the overflow level as a row of its own, where there is one."""
    level, wait_s = device.level("overflow"), _overflow_wait_s(device, costs, row)
    if level is None or not wait_s[0]:
        return []
    spent = {"time_s": float(wait_s[0]), "energy_j": float(overflow_joules(device, wait_s)[0])}
    return [{"name": level.name, "op": "overflow", **dict.fromkeys(NOTHING, 0.0), **spent}]


def _overflow_warnings(device: DeviceProfile, costs: CostReport, row: int) -> list[str]:
    wait_s = float(_overflow_wait_s(device, costs, row)[0])
    peak, step_time_s = float(costs.peak_live_bytes[row]), float(costs.step_time_s[row])
    warning = overflow_warning(device, peak, wait_s, step_time_s)
    return [warning] if warning else []


def _layer_rows(
    graph: ModelGraph, device: DeviceProfile, designs: DesignBatch
) -> list[dict[str, Any]]:
    """One row per operator of the first design; columns sum to the totals."""
    life = life_table(graph, designs.setup)
    table = life.schedule.table
    trained = trained_counts(table, designs)
    passes = table.gradient_passes(table.active_sites(designs))
    times = operator_times(table, device, designs, passes, trained)[0]
    saved = feature_values(life, designs)[0] @ life.layer_saved_bytes
    layer_of = {int(op): index for index, op in enumerate(table.op_index)}
    ratio = designs.update_ratio[0]
    rows: list[dict[str, Any]] = []
    for op, layer in enumerate(graph.layers):
        at = layer_of.get(op)
        macs = 0.0 if at is None else float(table.forward_macs[at])
        weight_grad = 0.0
        if at is not None:
            weight_grad = float(trained[0, at] * table.forward_macs[at] / table.weight_count[at])
        step_macs = macs + macs * passes[0, op] + weight_grad
        step_macs *= designs.setup.effective_batch
        rows.append(
            {
                "name": layer.name,
                "op": layer.op,
                "trained_ratio": 0.0 if at is None else float(ratio[at]),
                "forward_macs": macs,
                "input_grad_macs": macs * float(passes[0, op]),
                "weight_grad_macs": weight_grad,
                "saved_bytes": 0.0 if at is None else float(saved[at]),
                "time_s": float(times[op]),
                "energy_j": float(
                    step_energy(device, designs.setup, times[op : op + 1], np.array([step_macs]))[0]
                ),
            }
        )
    return rows


def _warnings(graph: ModelGraph, designs: DesignBatch) -> list[str]:
    setup = designs.setup
    if graph.norm == "bn" and setup.accumulation_steps > 1:
        return [
            "batch norm over micro-batches is other mathematics than over the whole batch: "
            "its statistics see only one micro-batch at a time"
        ]
    if graph.norm == "bn" and setup.micro_batch == 1:
        return ["batch norm in training mode has no useful statistics at a micro-batch of 1"]
    return []


def _provenance(device: DeviceProfile, costs: CostReport, row: int) -> dict[str, Estimate]:
    """Counts are exact under stated assumptions; time and energy carry the profile's spread."""
    precision = costs.designs.setup.precision
    learns = bool(costs.trained_parameter_count[row] > 0)
    kernels = device.kernels_for(precision).model_fields_set - NOT_SPEED
    if not learns:
        kernels -= TRAINING_ONLY
    speed = ["clock_hz", *(f"kernels.{precision}.{name}" for name in sorted(kernels))]
    overflow = device.level("overflow")
    if overflow is not None and _overflow_wait_s(device, costs, row)[0]:
        speed.append(f"memory.{overflow.name}.bytes_per_s")
    sources = [source for path in speed if (source := device.find_source(path))]
    power = device.find_source(f"kernels.{precision}.active_power_w")
    time_spread = max((source.plus_minus_ratio for source in sources), default=0.0)
    power_spread = power.plus_minus_ratio if power else 0.0
    kind = weakest(source.kind for source in sources)
    energy_kind = weakest([kind, power.kind if power else Kind.MODELLED])
    cites = "; ".join(dict.fromkeys(source.cite for source in sources))
    counted = "counted from the layer shapes and the schedule"
    entries = {
        "macs": Estimate(kind="modelled", low=None, high=None, source=counted),
        "memory": Estimate(
            kind="modelled", low=None, high=None, source=f"{counted}; kernels without workspace"
        ),
        "memory.workspace_bytes": Estimate(
            kind="assumed", low=None, high=None, source="direct kernels, no im2col buffer"
        ),
    }
    energy_spread = float(np.hypot(time_spread, power_spread))
    for name, value, spread, word, cite in (
        ("time_s", costs.step_time_s[row], time_spread, kind.word, cites),
        ("energy_j", costs.step_energy_j[row], energy_spread, energy_kind.word, cites),
    ):
        for scope, share in (("step", 1), ("sample", costs.designs.setup.effective_batch)):
            low, high = value / share / (1 + spread), value / share * (1 + spread)
            entries[f"{scope}.{name}"] = Estimate(
                kind=word, low=float(low), high=float(high), source=cite
            )
    for level in device.fit_levels:
        usable = device.find_source(f"memory.{level.name}.usable_bytes")
        if usable:
            entries[f"fits.{level.name}.usable_bytes"] = Estimate(
                kind=usable.kind.word,
                low=level.usable_bytes / (1 + usable.plus_minus_ratio),
                high=level.usable_bytes * (1 + usable.plus_minus_ratio),
                source=usable.cite,
            )
    return entries
