"""One design's memory over its step: every buffer placed, and what each level holds.

One arena holds every buffer of the data level. Beside it stands the same step with an
inner level (L1, DTCM) in use: whole buffers live there for their whole life, those with
most traffic per byte and step first, as long as they fit beside each other.

Traffic is modelled: a buffer is written once and read once in a micro-batch pass; a
parameter, or an activation kept for backward, is touched once more.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from explorer.adapters import with_adapters
from explorer.costmodel.arena import LEFT_OUT, place, place_at_run_time, place_within
from explorer.costmodel.evaluate import arena_plan, device_life_table, live_profile
from explorer.costmodel.forms import FORMS
from explorer.costmodel.levels import ROUND_TRIP, overflow_bytes
from explorer.costmodel.lifetimes import (
    Buffer,
    LifeTable,
    buffer_columns,
    feature_values,
    parameter_bytes,
    run_again,
    trained_counts,
)
from explorer.costmodel.tiling import Tiling, tilings
from explorer.design import DesignBatch
from explorer.device import DeviceProfile, MemoryLevel
from explorer.graph import ModelGraph
from explorer.units import BITS_PER_BYTE, FloatArray, IntArray

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelUse:
    """Bytes one level must hold, and those read and written there in a micro-batch pass."""

    level: str
    holds: str
    needed_bytes: float
    usable_bytes: float
    traffic_bytes: float


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class MemoryMap:
    """Buffers of one design, live bytes [T] and what each step does.

    `placed`: offsets in bytes in one arena of the data level; `runtime_arena_bytes` is what
    an allocator in order of need takes for the same buffers. `level_of`, `level_offsets`
    [B] and `levels`: the same buffers over the inner and the data level. `tilings` are the
    step's passes where kernels tile through an inner level instead, none where there is none.
    """

    placed: tuple[tuple[Buffer, int], ...]
    arena_bytes: int
    runtime_arena_bytes: int
    live_bytes: FloatArray
    step_labels: tuple[str, ...]
    level_of: tuple[str, ...]
    level_offsets: IntArray
    levels: tuple[LevelUse, ...]
    tilings: tuple[Tiling, ...]

    def to_frame(self) -> "pd.DataFrame":
        """One row a buffer: what it is, its lifetime in steps, where it sits."""
        import pandas as pd

        return pd.DataFrame(
            {**asdict(buffer), "offset_bytes": offset, "level": level, "level_offset_bytes": at}
            for (buffer, offset), level, at in zip(
                self.placed, self.level_of, self.level_offsets.tolist(), strict=True
            )
        )


def memory_map(graph: ModelGraph, device: DeviceProfile, designs: DesignBatch) -> MemoryMap:
    """The first design's memory over its step."""
    graph, designs = with_adapters(graph, designs.take(np.array([0])))
    life = device_life_table(graph, device, designs.setup)
    placed, arena_bytes = arena_plan(graph, device, designs)
    buffers = [buffer for buffer, _ in placed]
    sizes, births, deaths = columns = buffer_columns(buffers)
    live, labels = live_profile(graph, device, designs)
    touches = _touches(buffers, life.schedule.forward_steps)
    offsets = _inner_offsets(device, columns, touches)
    rest = offsets == LEFT_OUT
    ram = place(sizes[rest], births[rest], deaths[rest], device.alignment_bytes)
    inner_bytes = (offsets + sizes)[~rest].max(initial=0)
    offsets[rest] = ram.offsets
    traffic = sizes * touches
    over = float(overflow_bytes(device, np.array([ram.arena_bytes]))[0])
    uses = (
        _use(device.ram, ram.arena_bytes, traffic[rest].sum()),
        _use(device.level("inner"), inner_bytes, traffic[~rest].sum()),
        _use(device.level("weights"), *_frozen_weights(life, designs)),
        _use(device.level("overflow"), over, ROUND_TRIP * over),
    )
    levels = tuple(use for use in uses if use is not None)
    names = {use.holds: use.level for use in levels}
    return MemoryMap(
        placed=tuple(placed),
        arena_bytes=arena_bytes,
        runtime_arena_bytes=place_at_run_time(*columns, device.alignment_bytes).arena_bytes,
        live_bytes=live[0],
        step_labels=labels,
        level_of=tuple(names["data" if out else "inner"] for out in rest),
        level_offsets=offsets,
        levels=levels,
        tilings=tilings(graph, device, designs),
    )


def _inner_offsets(
    device: DeviceProfile, columns: tuple[IntArray, IntArray, IntArray], touches: IntArray
) -> IntArray:
    """Offset of each buffer in the inner level [B], LEFT_OUT for those outside."""
    sizes, births, deaths = columns
    level = device.level("inner")
    if level is None:
        return np.full(len(sizes), LEFT_OUT)
    order = np.lexsort((-sizes, -touches / (deaths - births)))
    return place_within(level.usable_bytes, order, *columns, device.alignment_bytes).offsets


def _frozen_weights(life: LifeTable, designs: DesignBatch) -> tuple[float, float]:
    """Bytes of weights in a level of their own, and bytes read from them in a pass.

    Forward reads them all, backward again where a gradient passes or a layer runs again.
    """
    setup, table = designs.setup, life.schedule.table
    trained = trained_counts(table, designs)
    stored = parameter_bytes(table, trained, setup, weights_in_flash=True)["flash_bytes"][0]
    frozen = table.weight_count - trained[0, : len(table.weight_count)]
    passes = table.gradient_passes(table.active_sites(designs)) + run_again(
        life, feature_values(life, designs)
    )
    again = passes[0, table.op_index] @ frozen * FORMS[setup.precision].weight_bits / BITS_PER_BYTE
    return stored, stored + again


def _use(level: MemoryLevel | None, needed_bytes: float, traffic_bytes: float) -> LevelUse | None:
    """What a level holds; None where the device has no such level."""
    if level is None:
        return None
    return LevelUse(
        level=level.name,
        holds=level.holds,
        needed_bytes=float(needed_bytes),
        usable_bytes=float(level.usable_bytes),
        traffic_bytes=float(traffic_bytes),
    )


def _touches(buffers: Sequence[Buffer], loss_step: int) -> IntArray:
    """How often each buffer is written or read in whole in one pass [B]."""
    once_more = [
        buffer.form == "parameter"
        or (buffer.form == "activation" and buffer.birth < loss_step < buffer.death - 1)
        for buffer in buffers
    ]
    return 2 + np.array(once_more, dtype=np.int64)
