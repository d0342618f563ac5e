"""The one door to the cost model: designs in, costs out.

`evaluate` screens any number of designs at once; `detail.report` answers one in full.
"""

from dataclasses import replace

import numpy as np
from threadpoolctl import ThreadpoolController

from explorer.adapters import Columns, by_adapters, with_adapters
from explorer.costmodel.arena import place
from explorer.costmodel.levels import overflow_joules, overflow_seconds
from explorer.costmodel.lifetimes import (
    Buffer,
    LifeTable,
    buffer_columns,
    life_table,
    stored_bytes,
)
from explorer.costmodel.memory import all_buffers, live_profile_of, memory_of
from explorer.costmodel.report import CostReport
from explorer.costmodel.timing import operator_times, rates_of, step_energy
from explorer.costmodel.work import Factors, step_macs, work_of
from explorer.design import DesignBatch, TrainingSetup
from explorer.device import DeviceProfile
from explorer.graph import ModelGraph, normalised
from explorer.units import FloatArray, IntArray

CHUNK = 512  # rows of one matrix product: larger blocks leave the cache
SMALL = 8  # rows too few for BLAS to start threads, which the limit below would prevent

_BLAS = ThreadpoolController()


def evaluate(graph: ModelGraph, device: DeviceProfile, designs: DesignBatch) -> CostReport:
    """Costs of P designs of a graph on a device.

    Designs are evaluated on the network in their setup's norm and with their adapters, those
    that share both in one go.
    """
    columns: Columns = {}
    for rows, group in designs.by_setup():
        network = normalised(graph, group.setup.norm)
        found = by_adapters(network, group, lambda *one: _columns(device, *one))
        if not designs.setups:
            return CostReport(designs=designs, **found)
        for name, values in found.items():
            columns.setdefault(name, np.zeros(len(designs)))[rows] = values
    return CostReport(designs=designs, **columns)


def device_life_table(graph: ModelGraph, device: DeviceProfile, setup: TrainingSetup) -> LifeTable:
    """The coefficients of a graph and a setup with the scratch of a device's kernels."""
    return life_table(graph, setup, device.kernels_for(setup.precision).workspace)


def place_rows(
    graph: ModelGraph,
    device: DeviceProfile,
    costs: CostReport,
    rows: IntArray,
    enough_bytes: int = 0,
) -> CostReport:
    """The same report with `arena_bytes` of these rows placed, no smaller than is enough."""
    arena = costs.arena_bytes.copy()
    for row in rows:
        design = costs.designs.take(np.array([row]))
        network = normalised(graph, design.setup.norm)
        arena[row] = arena_plan(network, device, design, enough_bytes)[1]
    return replace(costs, arena_bytes=arena)


def arena_plan(
    graph: ModelGraph, device: DeviceProfile, designs: DesignBatch, enough_bytes: int = 0
) -> tuple[list[tuple[Buffer, int]], int]:
    """Buffers of the first design with their offsets in bytes, and the arena's size."""
    graph, designs = with_adapters(graph, designs.take(np.array([0])))
    life = device_life_table(graph, device, designs.setup)
    buffers = all_buffers(life, designs, weights_in_flash=device.runs_from_flash)
    plan = place(*buffer_columns(buffers), device.alignment_bytes, enough_bytes)
    offsets = [int(offset) for offset in plan.offsets]
    return list(zip(buffers, offsets, strict=True)), plan.arena_bytes


def live_profile(
    graph: ModelGraph, device: DeviceProfile, designs: DesignBatch
) -> tuple[FloatArray, tuple[str, ...]]:
    """Live bytes at every step [P, T] of designs with equal adapters, and what each step does."""
    graph, designs = with_adapters(graph, designs)
    life = device_life_table(graph, device, designs.setup)
    live = live_profile_of(life, designs, weights_in_flash=device.runs_from_flash)
    return live, life.schedule.step_labels


def _chunks(count: int) -> list[tuple[int, int]]:
    starts = range(0, count, CHUNK)
    return [(start, min(start + CHUNK, count)) for start in starts]


def _columns(device: DeviceProfile, graph: ModelGraph, designs: DesignBatch) -> Columns:
    """Columns [P] of a CostReport for designs without adapters."""
    if len(designs) <= SMALL:
        return _chunk_columns(device, graph, designs)
    with _BLAS.limit(limits=1, user_api="blas"):
        parts = [
            _chunk_columns(device, graph, designs.take(np.arange(start, stop)))
            for start, stop in _chunks(len(designs))
        ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _chunk_columns(device: DeviceProfile, graph: ModelGraph, designs: DesignBatch) -> Columns:
    setup = designs.setup
    life = device_life_table(graph, device, setup)
    table = life.schedule.table
    factors = Factors.of(life, designs)
    work = work_of(life, factors)
    macs = work.macs(table)
    memory = memory_of(life, factors, weights_in_flash=device.runs_from_flash)
    peak = memory["peak_live_bytes"]
    resting = 0.0 if device.runs_from_flash else stored_bytes(table, setup)
    busy_s = operator_times(table, device, setup, work).sum(axis=1)
    wait_s = overflow_seconds(device, setup, peak)
    energy_j = step_energy(rates_of(device, setup.precision), busy_s, step_macs(macs, setup))
    return {
        **memory,
        **macs,
        "training_extra_bytes": peak - life.inference_bytes - resting,
        "arena_bytes": np.full(len(designs), np.nan),
        "step_time_s": busy_s + wait_s,
        "step_energy_j": energy_j + overflow_joules(device, wait_s),
        "trained_parameter_count": factors.trained.sum(axis=1),
    }
