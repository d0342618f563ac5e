"""Static placement: offsets for buffers with known lifetimes.

Greedy by size, first fit (as in TensorFlow Lite Micro's planner): large buffers first,
each at the lowest aligned offset that no buffer alive with it occupies. Where that stays
above the live bytes, which no arena can go below, the buffer that ends highest is moved
in front of its rivals and the order tried again, from two starting orders.

Lifetimes are half-open, so buffers overlap when `a.birth < b.death and b.birth <
a.death`. Knows no layer.
"""

from dataclasses import dataclass

import numpy as np

from explorer.units import BoolArray, IntArray

ROUNDS = 20


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ArenaPlan:
    """Offsets [B] in bytes, in the order the buffers came, and the size of it all."""

    offsets: IntArray
    arena_bytes: int


def place(
    sizes: IntArray, births: IntArray, deaths: IntArray, alignment_bytes: int = 16
) -> ArenaPlan:
    """Offsets for B buffers: `sizes` in bytes, lifetimes in steps, all [B]."""
    if len(sizes) == 0:
        return ArenaPlan(offsets=np.zeros(0, dtype=np.int64), arena_bytes=0)
    rivals = (births[:, None] < deaths) & (births < deaths[:, None])
    np.fill_diagonal(rivals, False)
    bound = _most_alive(sizes, births, deaths) + alignment_bytes
    lives = deaths - births
    plans: list[ArenaPlan] = []
    for order in (np.lexsort((births, -lives, -sizes)), np.lexsort((-sizes, -lives))):
        for _ in range(ROUNDS):
            offsets = _first_fit(order, sizes, rivals, alignment_bytes)
            plans.append(ArenaPlan(offsets=offsets, arena_bytes=int((offsets + sizes).max())))
            if plans[-1].arena_bytes <= bound:
                return plans[-1]
            order = _promoted(order, int(np.argmax(offsets + sizes)), rivals)
    return min(plans, key=lambda plan: plan.arena_bytes)


def _first_fit(
    order: IntArray, sizes: IntArray, rivals: BoolArray, alignment_bytes: int
) -> IntArray:
    """Lowest aligned gap for each buffer, in this order."""
    offsets = np.zeros(len(sizes), dtype=np.int64)
    placed = np.zeros(len(sizes), dtype=bool)
    aligned = -(-sizes // alignment_bytes) * alignment_bytes
    for buffer in order:
        taken = np.flatnonzero(placed & rivals[buffer])
        taken = taken[np.argsort(offsets[taken], kind="stable")]
        size, offset = int(sizes[buffer]), 0
        for start, length in zip(offsets[taken].tolist(), aligned[taken].tolist(), strict=True):
            if offset + size <= start:
                break
            offset = max(offset, start + length)
        offsets[buffer] = offset
        placed[buffer] = True
    return offsets


def _promoted(order: IntArray, buffer: int, rivals: BoolArray) -> IntArray:
    """The order with a buffer moved in front of the first one alive with it."""
    rest = order[order != buffer]
    alive = np.flatnonzero(rivals[buffer][rest])
    return np.insert(rest, alive[0] if len(alive) else 0, buffer)


def _most_alive(sizes: IntArray, births: IntArray, deaths: IntArray) -> int:
    """Largest sum of sizes alive at one step."""
    change = np.zeros(int(deaths.max()) + 1, dtype=np.int64)
    np.add.at(change, births, sizes)
    np.add.at(change, deaths, -sizes)
    return int(np.cumsum(change).max())
