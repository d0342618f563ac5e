"""Picks by name: one member of a front, and in one sentence why it.

Nearness to the best is one point of the metric, such as accuracy, or, where the axis is a proxy
score, one hundredth of the score's scale: from nothing trained to everything trained.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from explorer.accuracy.metrics import METRIC_NAMES
from explorer.errors import SpecError
from explorer.search.front import Objective, knee_index, normalised_values
from explorer.search.quantities import ENERGY, MEMORY_OBJECTIVES, MERITS, SCORES
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
    which: str,
    values: FloatArray,
    objectives: tuple[Objective, ...],
    fits: BoolArray,
    others: Mapping[str, FloatArray] | None = None,
) -> Pick:
    """A member of a front by name, of natural values [K, M]; `fits` [K].

    `others` [K] are a score, a memory and the energy, for where they are no objective. SpecError
    on an unknown name, an empty front, or when the best that fits is asked for and nothing does.
    """
    if which not in PICKS:
        raise SpecError.of("pick", which, ", ".join(PICKS))
    if not len(values):
        raise SpecError.of("pick", which, "a front with at least one member")
    if which == "best-that-fits" and not fits.any():
        raise SpecError.of("pick", which, "a front with a member that fits; none does")
    members = _Members(values=values, objectives=objectives, others=others or {})
    row = members.rows_of(which, fits)
    return Pick(row=row, reason=members.reason(which, row, int(fits.sum())))


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class _Members:
    """The front in natural values [K, M], and other quantities [K] by name."""

    values: FloatArray
    objectives: tuple[Objective, ...]
    others: Mapping[str, FloatArray] = field(default_factory=dict)

    def rows_of(self, which: str, fits: BoolArray) -> int:
        """The row a name stands for."""
        if which == KNEE:
            return knee_index(normalised_values(self.values, self.objectives))
        score, memory, energy = self._columns
        everyone = np.arange(len(self.values))
        if which == "min-memory":
            return _first(everyone, memory, -score)
        if which == "max-accuracy":
            return _first(everyone, -score, energy)
        if which == "best-that-fits":
            return _first(np.flatnonzero(fits), -score, energy)
        near = np.flatnonzero(score >= score.max() - self.near)
        return _first(near, energy, -score)

    def reason(self, which: str, row: int, fit_count: int) -> str:
        """One sentence on why a row was picked."""
        scores, memory, energy = self._columns
        score, memory, energy = scores[row], memory[row], energy[row]
        count, column = len(self.values), self._score_name
        name = METRIC_NAMES.get(column, column.replace("_", " "))
        best = f"{name} {self._text(score)}"
        spent = f"{format_bytes(memory)} and {format_joules(energy)} a step"
        highest = scores.max()
        measure = "one point of" if self.is_merit else "1 % of the range of"
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
    def is_merit(self) -> bool:
        """Whether the score is a metric such as accuracy."""
        return self._score_name in MERITS

    @property
    def near(self) -> float:
        """How far below the best is still near, in the score's own unit."""
        scales = {objective.name: objective.scale for objective in self.objectives}
        return NEAR_RATIO * (1.0 if self.is_merit else scales.get(self._score_name, 1.0))

    @property
    def _score_name(self) -> str:
        return self._name(SCORES)

    @property
    def _columns(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Score, memory and energy [K]."""
        known = dict(self.others)
        known |= {one.name: self.values[:, at] for at, one in enumerate(self.objectives)}
        memory = self._name(tuple(MEMORY_OBJECTIVES.values()))
        return known[self._score_name], known[memory], known[self._name((ENERGY,))]

    def _name(self, names: tuple[str, ...]) -> str:
        """Which of some quantities is known, an objective first; SpecError when none is."""
        for name in (*(objective.name for objective in self.objectives), *self.others):
            if name in names:
                return name
        raise SpecError.of("pick", names[0], "a quantity that is known of the front")

    def _text(self, score: float) -> str:
        return f"{score:.1%}" if self.is_merit else f"{score:.3f}"


def _first(rows: IntArray, leading: FloatArray, then: FloatArray) -> int:
    """Of `rows`, that of the smallest `leading` value; of equal ones the smallest `then`."""
    return int(rows[np.lexsort((then[rows], leading[rows]))[0]])
