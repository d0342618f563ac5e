"""Published rows as marks of a trade-off figure, with all that must be said of them on hover."""

import textwrap

import numpy as np

from explorer.accuracy.published_points import PublishedRow, PublishedTable
from explorer.figures.points import Mark
from explorer.units import format_bytes, format_joules, format_seconds

_LINE_LENGTH = 64


def marks_of(table: PublishedTable, *, is_accuracy: bool, is_peak: bool) -> tuple[Mark, ...]:
    """A mark a row; accuracy has a place only on an accuracy axis, the peak only on a peak axis."""
    return tuple(
        Mark(
            label=f"{table.system} {row.method}",
            worth=row.accuracy if is_accuracy else np.nan,
            memory_bytes=row.peak_bytes if is_peak else np.nan,
            energy_j=row.energy_j,
            hover="<br>".join(line for words in _sentences(table, row) for line in _wrapped(words)),
        )
        for row in table.row
    )


def row_words(row: PublishedRow) -> str:
    """`accuracy 86.4 % ± 7.9 %, 654 KiB, 470 ms, 20.2 mJ`: what is printed of a row."""
    accuracy, spread = row.accuracy, row.accuracy_spread
    parts = [f"accuracy {accuracy:.1%}" + (f" ± {spread:.1%}" if spread == spread else "")]
    parts = parts if accuracy == accuracy else []
    costs = (
        (row.peak_bytes, format_bytes),
        (row.time_s, format_seconds),
        (row.energy_j, format_joules),
    )
    return ", ".join([*parts, *(text_of(value) for value, text_of in costs if value == value)])


def _sentences(table: PublishedTable, row: PublishedRow) -> list[str]:
    sentences = [
        f"{table.system} {row.method}, published, as our {row.policy}",
        f"{row_words(row)} an update of {table.batch}",
        table.cite,
        f"measured with: {table.conditions}",
        f"may differ: {table.differs}",
    ]
    return [*sentences, f"note: {row.note}"] if row.note else sentences


def _wrapped(sentence: str) -> list[str]:
    return textwrap.wrap(sentence, _LINE_LENGTH)
