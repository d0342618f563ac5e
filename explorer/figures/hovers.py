"""What a point of a trade-off figure says when the mouse is on it."""

import numpy as np

from explorer.figures.points import Points, worth_text
from explorer.figures.roles import HOVERED, PLAIN_HOVER, Role
from explorer.provenance import Kind
from explorer.units import IntArray, format_bytes, format_joules


def hover_texts(points: Points, selected_id: str | None, *, has_front: bool) -> dict[int, str]:
    """Hover texts of the few rows that have one."""
    named = points.on_front & has_front | points.known
    rows = {int(row) for row in np.flatnonzero(named)}
    rows |= {row for row, name in enumerate(points.ids) if name in (selected_id, points.choice_id)}
    return {
        row: f"{points.labels[row]}<br>{_worth_words(points, row)}<br>"
        f"{format_bytes(points.memory_bytes[row])} ({points.memory_kind.word})<br>"
        f"{format_joules(points.energy_j[row])} ({points.energy_kind.word})<br>"
        f"{'fits' if points.feasible[row] else 'does not fit'}"
        for row in rows
    }


def _worth_words(points: Points, row: int) -> str:
    """The worth and how it is known, and what was measured where that is something else."""
    measured, kind = points.measured[row], points.worth_kind[row]
    if measured and kind is Kind.MEASURED:
        return measured
    words = f"{points.worth_name} {worth_text(points.worth[row], points.worth_name)} ({kind.word})"
    return f"{words}<br>{measured}" if measured else words


def texts_of(role: Role, rows: IntArray, hovers: dict[int, str]) -> str | tuple[str, ...]:
    """A text a point, or one for all where they have none: texts cost more than their points."""
    if role.name not in HOVERED:
        return ()
    is_known = all(int(row) in hovers for row in rows)
    return tuple(hovers[int(row)] for row in rows) if is_known else PLAIN_HOVER.format(role.legend)
