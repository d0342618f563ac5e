"""Static placement: offsets for buffers with known lifetimes.

Greedy by size, first fit (as in TensorFlow Lite Micro's planner): large buffers
first, each at the lowest aligned offset that no buffer alive with it occupies.
Lifetimes are half-open, so buffers overlap when `a.birth < b.death and b.birth <
a.death`. Knows no layer.
"""

from dataclasses import dataclass

import numpy as np

from explorer.units import IntArray


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ArenaPlan:
    """Offsets [B] in bytes, in the order the buffers came, and the size of it all."""

    offsets: IntArray
    arena_bytes: int


def place(
    sizes: IntArray, births: IntArray, deaths: IntArray, alignment_bytes: int = 16
) -> ArenaPlan:
    """Offsets for B buffers: `sizes` in bytes, lifetimes in steps, all [B]."""
    offsets = np.zeros(len(sizes), dtype=np.int64)
    order = np.lexsort((births, -(deaths - births), -sizes))
    placed = np.zeros(len(sizes), dtype=bool)
    arena_bytes = 0
    for buffer in order:
        rivals = placed & (births < deaths[buffer]) & (births[buffer] < deaths)
        taken = np.flatnonzero(rivals)
        taken = taken[np.argsort(offsets[taken], kind="stable")]
        offset = 0
        for other in taken:
            if offset + sizes[buffer] <= offsets[other]:
                break
            end = int(offsets[other] + sizes[other])
            offset = max(offset, -(-end // alignment_bytes) * alignment_bytes)
        offsets[buffer] = offset
        placed[buffer] = True
        arena_bytes = max(arena_bytes, offset + int(sizes[buffer]))
    return ArenaPlan(offsets=offsets, arena_bytes=arena_bytes)
