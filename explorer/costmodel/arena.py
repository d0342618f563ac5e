"""Static placement: offsets for buffers with known lifetimes.

First fit: buffers one after another, each at the lowest aligned offset that no buffer
alive with it occupies. The order decides. Large buffers first is TensorFlow Lite Micro's;
where the arena stays above the live bytes, which none can go below, the buffer that ends
highest is moved in front of its rivals and the order tried again, from several starts.
The same fit in order of birth is what a run-time allocator does.

Lifetimes are half-open, so buffers overlap when `a.birth < b.death and b.birth <
a.death`. Knows no layer.
"""

from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from explorer.units import IntArray

Rivals = list[bytes]  # 1 where two buffers meet
ROUNDS = 10  # of each starting order
TIGHT_RATIO = 1.0005  # arena over live bytes at which no other order is tried
GOOD_RATIO = 1.005  # at which no other start is tried
LEFT_OUT = -1


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ArenaPlan:
    """Offsets [B] in bytes, in the order the buffers came, and the size of it all.

    A buffer that was left out has the offset LEFT_OUT.
    """

    offsets: IntArray
    arena_bytes: int


def place(
    sizes: IntArray,
    births: IntArray,
    deaths: IntArray,
    alignment_bytes: int = 16,
    enough_bytes: int = 0,
) -> ArenaPlan:
    """Offsets for B buffers: `sizes` in bytes, lifetimes in steps, all [B].

    Once an arena is no larger than `enough_bytes`, no smaller one is looked for.
    """
    rivals = _rivals(births, deaths)
    alive = _alive_bytes(sizes, births, deaths)
    bound = alive.max(initial=0)
    tight, good = (
        max(ratio * bound + alignment_bytes, enough_bytes) for ratio in (TIGHT_RATIO, GOOD_RATIO)
    )
    best = ArenaPlan(offsets=np.zeros(0, dtype=np.int64), arena_bytes=0)
    for start in _starting_orders(sizes, births, deaths, alive):
        order = start.tolist()
        for _ in range(ROUNDS):
            plan = _first_fit(order, sizes, rivals, alignment_bytes)
            if plan.arena_bytes < best.arena_bytes or not len(best.offsets):
                best = plan
            if best.arena_bytes <= tight:
                return best
            order = _promoted(order, int(np.argmax(plan.offsets + sizes)), rivals)
        if best.arena_bytes <= good:
            return best
    return best


def place_at_run_time(
    sizes: IntArray, births: IntArray, deaths: IntArray, alignment_bytes: int = 16
) -> ArenaPlan:
    """Where an allocator that knows no future puts B buffers [B]: first fit, frees at death.

    Buffers of one step in the order they came, but those alive throughout first of all.
    """
    end = deaths.max(initial=0)
    passing = (births > births.min(initial=end)) | (deaths < end)
    order = np.lexsort((passing, births)).tolist()
    return _first_fit(order, sizes, _rivals(births, deaths), alignment_bytes)


def place_within(
    limit_bytes: int,
    order: IntArray,
    sizes: IntArray,
    births: IntArray,
    deaths: IntArray,
    alignment_bytes: int = 16,
) -> ArenaPlan:
    """First fit of B buffers [B] in this order; those that end above the limit are left out."""
    rivals = _rivals(births, deaths)
    return _first_fit(order.tolist(), sizes, rivals, alignment_bytes, limit_bytes)


def _rivals(births: IntArray, deaths: IntArray) -> Rivals:
    """Which buffers are alive at a step of another, a row each; rows are quick to index."""
    meets = (births[:, None] < deaths) & (births < deaths[:, None])
    return [row.tobytes() for row in meets]


def _starting_orders(
    sizes: IntArray, births: IntArray, deaths: IntArray, alive: IntArray
) -> Iterator[IntArray]:
    """By size, by life, by the fullest step lived through (life or size breaks ties), by area."""
    lives = deaths - births
    yield np.lexsort((births, -lives, -sizes))
    yield np.lexsort((-sizes, -lives))
    pairs = zip(births.tolist(), deaths.tolist(), strict=True)
    fullest = np.array([alive[birth:death].max() for birth, death in pairs])
    yield np.lexsort((-sizes, -lives, -fullest))
    yield np.lexsort((-lives, -sizes, -fullest))
    yield np.lexsort((births, -sizes * lives))


def _first_fit(
    order: Sequence[int],
    sizes: IntArray,
    rivals: Rivals,
    alignment_bytes: int,
    limit_bytes: int | None = None,
) -> ArenaPlan:
    """Lowest aligned gap for each buffer, in this order.

    Plain lists: for a few hundred buffers, one at a time, they are faster than arrays.
    """
    offsets = [LEFT_OUT] * len(sizes)
    aligned = (-(-sizes // alignment_bytes) * alignment_bytes).tolist()
    exact = sizes.tolist()
    placed: list[tuple[int, int, int]] = []  # start, aligned end, buffer; by start
    top = 0
    for buffer in order:
        size, offset, meets = exact[buffer], 0, rivals[buffer]
        for start, end, other in placed:
            if meets[other]:
                if offset + size <= start:
                    break
                if end > offset:  # quicker than max, and this is the inner loop
                    offset = end
        if limit_bytes is None or offset + size <= limit_bytes:
            offsets[buffer] = offset
            insort(placed, (offset, offset + aligned[buffer], buffer))
            top = max(top, offset + size)
    return ArenaPlan(offsets=np.array(offsets, dtype=np.int64), arena_bytes=top)


def _promoted(order: list[int], buffer: int, rivals: Rivals) -> list[int]:
    """The order with a buffer moved in front of the first one alive with it."""
    rest = [other for other in order if other != buffer]
    first = next((at for at, other in enumerate(rest) if rivals[buffer][other]), 0)
    return [*rest[:first], buffer, *rest[first:]]


def _alive_bytes(sizes: IntArray, births: IntArray, deaths: IntArray) -> IntArray:
    """Sum of sizes alive at each step [T]."""
    change = np.zeros(int(deaths.max(initial=0)) + 1, dtype=np.int64)
    np.add.at(change, births, sizes)
    np.add.at(change, deaths, -sizes)
    return np.cumsum(change)
