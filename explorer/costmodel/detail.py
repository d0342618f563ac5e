"""One design in full: fit, per-layer rows, intervals and where each number comes from."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from explorer.adapters import with_adapters
from explorer.costmodel.adaptation import DEFAULT_PLAN, WHY, Plan, adaptation
from explorer.costmodel.arena import place_at_run_time
from explorer.costmodel.conventions import DEVICE, recount
from explorer.costmodel.evaluate import arena_plan, device_life_table, evaluate
from explorer.costmodel.levels import overflow_joules, overflow_seconds, overflow_warning
from explorer.costmodel.lifetimes import buffer_columns
from explorer.costmodel.memory import kept_bytes
from explorer.costmodel.report import MACS_COLUMNS, MEMORY_COLUMNS, Cost, CostReport, Estimate, Fit
from explorer.costmodel.timing import operator_times, rates_of, step_energy
from explorer.costmodel.uncertainty import Spending, step_spending
from explorer.costmodel.work import Factors, step_macs, work_of
from explorer.design import DesignBatch, TrainingSetup
from explorer.device import TINY_ENGINE, DeviceProfile, Kernels, MemoryLevel
from explorer.graph import ModelGraph
from explorer.provenance import Kind, weakest
from explorer.units import FloatArray, format_bytes

SCRATCH = {
    "none": ("assumed", "kernels without scratch in this memory"),
    TINY_ENGINE: ("modelled", "scratch of TinyEngine's int8 and backward kernels, by its code"),
}
NOTHING = ("trained_ratio", *MACS_COLUMNS, "saved_bytes")
NOT_SPEED = {"workspace", "active_power_w", "energy_j_per_mac"}
TRAINING_ONLY = {name for name in Kernels.model_fields if name.endswith("speed_ratio")}


def ram_bytes(costs: CostReport) -> FloatArray:
    """RAM a design needs [P]: the arena where it was placed, else the live bytes."""
    placed = np.isfinite(costs.arena_bytes)
    return np.where(placed, costs.arena_bytes, costs.peak_live_bytes)


def needs_and_limits(
    device: DeviceProfile, costs: CostReport, reserve_bytes: int
) -> list[tuple[MemoryLevel, FloatArray, int]]:
    """For each memory level the bytes needed [P] and usable; the reserve is taken off RAM."""
    return [
        (level, ram_bytes(costs), max(level.usable_bytes - reserve_bytes, 0))
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
    plan: Plan = DEFAULT_PLAN,
) -> Cost:
    """The first design of a batch in full, its arena placed.

    Under another accounting MACs and memory are that one's; whether it fits, the time and
    the per-layer rows stay our own.
    """
    placed, arena_bytes = arena_plan(graph, device, designs)
    costs = evaluate(graph, device, designs.take(np.array([0])))
    costs = replace(costs, arena_bytes=np.array([float(arena_bytes)]))
    own = cost_of_row(graph, device, costs, 0, reserve_bytes, plan)
    if accounting != DEVICE:
        other = recount(graph, costs, accounting)
        counted = dict.fromkeys(("macs", "memory"), _counted(f"accounting {accounting}"))
        kept = {at: by for at, by in own.provenance.items() if not at.startswith("memory.")}
        return replace(
            own,
            accounting=accounting,
            macs=_macs_of(other, 0),
            memory=_memory_of(other, 0),
            provenance=kept | counted,
        )
    columns = buffer_columns([buffer for buffer, _ in placed])
    needed = place_at_run_time(*columns, device.alignment_bytes).arena_bytes
    return replace(own, memory=own.memory | {"runtime_arena_bytes": float(needed)})


def setup_dict(graph: ModelGraph, setup: TrainingSetup) -> dict[str, Any]:
    """A setup as in the JSON surface; `graph` is in its norm."""
    return {
        "batch": setup.effective_batch,
        "micro_batch": setup.micro_batch,
        "accumulation_steps": setup.accumulation_steps,
        "norm": graph.norm,
        "optimizer": setup.optimizer,
        "precision": setup.precision,
        "update_timing": setup.update_timing,
        "recompute": setup.recompute,
    }


def cost_of_row(
    graph: ModelGraph,
    device: DeviceProfile,
    costs: CostReport,
    row: int,
    reserve_bytes: int = 0,
    plan: Plan = DEFAULT_PLAN,
) -> Cost:
    """One row of a report in full; `graph` is in its setup's norm."""
    costs, row = costs.take(np.array([row])), 0
    designs = costs.designs
    setup = designs.setup
    step = step_spending(graph, device, designs)
    session = adaptation(graph, device, designs, step, plan)
    spendings = {
        "step": step,
        "sample": step.times(1 / setup.effective_batch),
        "session": session.spending,
    }
    return Cost(
        model=graph.name,
        device=device.name,
        policy=designs.families[0],
        setup=setup_dict(graph, setup),
        accounting=DEVICE,
        macs=_macs_of(costs, row),
        memory=_memory_of(costs, row),
        fits=tuple(fits_of(device, costs, row, reserve_bytes)),
        step_time_s=float(costs.step_time_s[row]),
        step_energy_j=float(costs.step_energy_j[row]),
        batch=setup.effective_batch,
        trained_parameters=int(costs.trained_parameter_count[row]),
        session=session.to_dict(),
        provenance=_provenance(device, costs, row, spendings),
        layer_rows=(*_layer_rows(graph, device, designs), *_overflow_rows(device, costs, row)),
        warnings=(
            *_warnings(graph, designs),
            *_recompute_warnings(graph, device, designs, float(costs.peak_live_bytes[row])),
            *_untested(device, designs),
            *_overflow_warnings(device, costs, row),
        ),
    )


def _macs_of(costs: CostReport, row: int) -> dict[str, float]:
    return {name.removesuffix("_macs"): float(getattr(costs, name)[row]) for name in MACS_COLUMNS}


def _memory_of(costs: CostReport, row: int) -> dict[str, float]:
    """What a run-time allocator would take is not worked out here: nan."""
    known = {name: float(getattr(costs, name)[row]) for name in MEMORY_COLUMNS}
    return known | {"runtime_arena_bytes": np.nan}


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
    """One row per operator of the first design, adapters included; columns sum to the totals."""
    graph, designs = with_adapters(graph, designs)
    life = device_life_table(graph, device, designs.setup)
    table = life.schedule.table
    work = work_of(life, Factors.of(life, designs))
    times = operator_times(table, device, designs.setup, work)[0]
    saved = kept_bytes(life, designs)[0]
    layer_of = {int(op): index for index, op in enumerate(table.op_index)}
    ratio = designs.update_ratio[0]
    macs = work.macs_by_operator(table)
    energy_j = step_energy(
        rates_of(device, designs.setup.precision), times, step_macs(macs, designs.setup)
    )
    rows: list[dict[str, Any]] = []
    for op, layer in enumerate(graph.layers):
        at = layer_of.get(op)
        rows.append(
            {
                "name": layer.name,
                "op": layer.op,
                "trained_ratio": 0.0 if at is None else float(ratio[at]),
                **{name: float(column[op]) for name, column in macs.items()},
                "saved_bytes": 0.0 if at is None else float(saved[at]),
                "time_s": float(times[op]),
                "energy_j": float(energy_j[op]),
            }
        )
    return rows


def _warnings(graph: ModelGraph, designs: DesignBatch) -> list[str]:
    setup, found = designs.setup, []
    if designs.adapters[0]:
        found.append("proxy scores do not see adapters")
    if any(isinstance(adapter, str) for adapter in designs.adapters[0]):
        found.append("adapters as TinyTL defines them: other papers' layouts are unpublished")
    if graph.norm == "bn" and designs.trains[0]:
        if setup.accumulation_steps > 1:
            found.append(
                "batch norm over micro-batches is other mathematics than over the whole batch: "
                "its statistics see only one micro-batch at a time"
            )
        elif setup.micro_batch == 1:
            found.append("batch norm in training mode has no useful statistics at batch 1")
    return found


def _recompute_warnings(
    graph: ModelGraph, device: DeviceProfile, designs: DesignBatch, peak_bytes: float
) -> list[str]:
    """Running again what is cheap to keep can raise the peak."""
    if designs.setup.recompute == "none":
        return []
    kept = replace(designs, setup=replace(designs.setup, recompute="none"))
    more = peak_bytes - float(evaluate(graph, device, kept).peak_live_bytes[0])
    if more <= 0:
        return []
    return [f"running blocks again takes {format_bytes(more)} more than keeping what they need"]


def _counted(by: str) -> Estimate:
    return Estimate(kind="modelled", low=None, high=None, source=f"counted by {by}")


def _untested(device: DeviceProfile, designs: DesignBatch) -> list[str]:
    """Which of the figures shown no published measurement of the device can test."""
    precision = designs.setup.precision
    unused = "inference time" if designs.trains[0] else "training time"
    names = [
        name
        for known, named in device.untested.items()
        for name in named
        if known == precision and name != unused
    ]
    if not names:
        return []
    listed = " or the ".join(names)
    return [f"no published measurement can test the {listed} of {device.name} in {precision}"]


def _provenance(
    device: DeviceProfile, costs: CostReport, row: int, spendings: Mapping[str, Spending]
) -> dict[str, Estimate]:
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
    kind = weakest(source.kind for source in sources)
    energy_kind = weakest([kind, power.kind if power else Kind.MODELLED])
    cites = "; ".join(dict.fromkeys(source.cite for source in sources))
    counted = "counted from the layer shapes and the schedule"
    kind_of_scratch, scratch = SCRATCH[device.kernels_for(precision).workspace]
    entries = {
        "macs": Estimate(kind="modelled", low=None, high=None, source=counted),
        "memory": Estimate(kind="modelled", low=None, high=None, source=f"{counted}; {scratch}"),
        "memory.workspace_bytes": Estimate(
            kind=kind_of_scratch, low=None, high=None, source=scratch
        ),
        "session": Estimate(kind="assumed", low=None, high=None, source=WHY),
    }
    for scope, spending in spendings.items():
        for name, spread, known in (
            ("time_s", spending.time_s, kind),
            ("energy_j", spending.energy_j, energy_kind),
        ):
            low, high = spread.interval()
            entries[f"{scope}.{name}"] = Estimate(kind=known.word, low=low, high=high, source=cites)
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
