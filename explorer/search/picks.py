"""Picks by name: one member of a front, and in one sentence why it.

Nearness to the best is one point of accuracy or, where the axis is a proxy score, one
hundredth of the score's scale: from nothing trained to everything trained.
"""

from dataclasses import dataclass

import numpy as np

from explorer.errors import SpecError
from explorer.search.front import ACCURACY, Objective, knee_index, normalised_values, position_of
from explorer.units import BoolArray, FloatArray, IntArray, format_bytes, format_joules

KNEE = "knee"
PICKS = (KNEE, "min-memory", "max-accuracy", "cheapest-near-best", "best-that-fits")
NEAR_RATIO = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A row of the front's members and the reason for it."""

    row: int
    reason: str


def choose(
    which: str, values: FloatArray, objectives: tuple[Objective, ...], fits: BoolArray
) -> Pick:
    """A member of a front by name, of natural values [K, M]; `fits` [K].

    SpecError on an unknown name, an empty front, or when the best that fits is asked for and
    nothing does.
    """
    if which not in PICKS:
        raise SpecError.of("pick", which, ", ".join(PICKS))
    if not len(values):
        raise SpecError.of("pick", which, "a front with at least one member")
    if which == "best-that-fits" and not fits.any():
        raise SpecError.of("pick", which, "a front with a member that fits; none does")
    members = _Members(values=values, objectives=objectives)
    row = members.rows_of(which, fits)
    return Pick(row=row, reason=members.reason(which, row, int(fits.sum())))


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class _Members:
    """The front in natural values [K, M]."""

    values: FloatArray
    objectives: tuple[Objective, ...]

    def rows_of(self, which: str, fits: BoolArray) -> int:
        """The row a name stands for."""
        score, memory, energy = (self.values[:, self._column(unit)] for unit in ("1", "byte", "J"))
        everyone = np.arange(len(self.values))
        if which == "min-memory":
            return _first(everyone, memory, -score)
        if which == "max-accuracy":
            return _first(everyone, -score, energy)
        if which == "best-that-fits":
            return _first(np.flatnonzero(fits), -score, energy)
        if which == "cheapest-near-best":
            near = np.flatnonzero(score >= score.max() - self.near)
            return _first(near, energy, -score)
        return knee_index(normalised_values(self.values, self.objectives))

    def reason(self, which: str, row: int, fit_count: int) -> str:
        """One sentence on why a row was picked."""
        columns = [self._column(unit) for unit in ("1", "byte", "J")]
        score, memory, energy = self.values[row, columns]
        count, name = len(self.values), self._score.name.replace("_", " ")
        best = f"{name} {self._text(score)}"
        spent = f"{format_bytes(memory)} and {format_joules(energy)} a step"
        highest = self.values[:, self._column("1")].max()
        measure = "one point of" if self.is_accuracy else "1 % of the range of"
        return {
            KNEE: f"nearest of {count} members to the best of every objective at once: {best}, "
            f"{spent}",
            "min-memory": f"least memory of {count} members: {format_bytes(memory)}, {best}",
            "max-accuracy": f"highest {name} of {count} members: {self._text(score)}, {spent}",
            "cheapest-near-best": f"least energy within {measure} {name} "
            f"below the best, {self._text(highest)}: {best}, {format_joules(energy)} a step",
            "best-that-fits": f"highest {name} of the {fit_count} of {count} members that fit: "
            f"{self._text(score)}, {spent}",
        }[which]

    @property
    def is_accuracy(self) -> bool:
        """Whether the score may be called accuracy."""
        return self._score.name == ACCURACY

    @property
    def near(self) -> float:
        """How far below the best is still near, in the score's own unit."""
        return NEAR_RATIO * (1.0 if self.is_accuracy else self._score.scale)

    @property
    def _score(self) -> Objective:
        return self.objectives[self._column("1")]

    def _column(self, unit: str) -> int:
        return position_of(self.objectives, unit)

    def _text(self, score: float) -> str:
        return f"{score:.1%}" if self.is_accuracy else f"{score:.3f}"


def _first(rows: IntArray, leading: FloatArray, then: FloatArray) -> int:
    """Of `rows`, that of the smallest `leading` value; of equal ones the smallest `then`."""
    return int(rows[np.lexsort((then[rows], leading[rows]))[0]])
