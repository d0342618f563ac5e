"""Which of many points are drawn: all that matter, and as many others as a person can see."""

import numpy as np

from explorer.figures.points import Points
from explorer.units import BoolArray, FloatArray, IntArray

POINT_CAP = 2000


def thinned(points: Points, selected_id: str | None, cap: int) -> IntArray:
    """Rows to draw of points, of which the front, known ones, choice and selection must stay."""
    ids = np.array(points.ids, dtype=object)
    keep = points.on_front & ~points.stale | points.known
    keep = keep | (ids == selected_id) | (ids == points.choice_id)
    return even_share(keep, points.memory_bytes, cap)


def even_share(keep: BoolArray, memory_bytes: FloatArray, cap: int) -> IntArray:
    """Rows to `keep` [P], then an even share of the others by memory.

    However many must stay, a quarter of the cap is left to the others.
    """
    others = np.flatnonzero(~keep)
    room = max(cap // 4, cap - int(keep.sum()))
    if len(others) > room:
        ordered = others[np.argsort(memory_bytes[others], kind="stable")]
        picks = np.linspace(0, len(ordered) - 1, room).round().astype(np.int64)
        others = ordered[picks]
    rows: IntArray = np.sort(np.concatenate([np.flatnonzero(keep), others]))
    return rows


def apart(
    points: Points,
    rows: IntArray,
    selected_id: str | None,
    across: FloatArray,
    upward: FloatArray,
    cell: float,
) -> BoolArray:
    """Which rows [P] to draw when one point stands for all dominated ones of a square."""
    front = points.on_front[rows]
    keep: BoolArray = points.known[rows] | front
    keep = keep | [points.ids[row] in (selected_id, points.choice_id) for row in rows]
    front_first = np.argsort(~front, kind="stable")
    squares = np.floor(np.column_stack([across, upward])[front_first] / cell)
    _, picks = np.unique(squares, axis=0, return_index=True)
    keep[front_first[picks]] = True
    return keep
