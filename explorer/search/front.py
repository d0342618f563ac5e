"""Pareto fronts and hypervolume over plain [P, M] arrays, by moocore.

Inside everything is minimised and divided by its objective's scale; a maximised
objective changes its sign on the way in. Imports nothing of the cost model.
"""

from dataclasses import dataclass

import moocore
import numpy as np

from explorer.units import BoolArray, FloatArray

ACCURACY = "accuracy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A column to optimise, in natural units. `reference` bounds the hypervolume."""

    name: str
    unit: str
    sense: str
    reference: float
    scale: float

    @property
    def sign(self) -> float:
        """+1 when minimised, -1 when maximised."""
        return 1.0 if self.sense == "min" else -1.0


def position_of(objectives: tuple[Objective, ...], unit: str) -> int:
    """Which objective is in a unit: 1 (the score), byte or J; ValueError when none is."""
    return [objective.unit for objective in objectives].index(unit)


def normalised_values(values: FloatArray, objectives: tuple[Objective, ...]) -> FloatArray:
    """Natural values [P, M] as minimised multiples of the scales."""
    signs = np.array([objective.sign for objective in objectives])
    scales = np.array([objective.scale for objective in objectives])
    normal: FloatArray = np.asarray(values, dtype=np.float64) * signs / scales
    return normal


def is_non_dominated(values: FloatArray, objectives: tuple[Objective, ...]) -> BoolArray:
    """Which rows no other row dominates [P]; of equal rows only the first."""
    if len(values) == 0:
        return np.zeros(0, dtype=bool)
    return np.asarray(moocore.is_nondominated(normalised_values(values, objectives)), dtype=bool)


def hypervolume(values: FloatArray, objectives: tuple[Objective, ...]) -> float:
    """Volume the rows dominate up to the reference point, in units of the scales."""
    if len(values) == 0:
        return 0.0
    reference = normalised_values(
        np.array([[objective.reference for objective in objectives]]), objectives
    )[0]
    return float(moocore.hypervolume(normalised_values(values, objectives), ref=reference))


def anchored(
    name: str, unit: str, sense: str, anchors: FloatArray, margin_ratio: float = 0.05
) -> Objective:
    """An objective scaled by the spread of anchor values, its reference just outside."""
    low, high = float(np.nanmin(anchors)), float(np.nanmax(anchors))
    scale = high - low or abs(high) or 1.0
    reference = high + margin_ratio * scale if sense == "min" else low - margin_ratio * scale
    return Objective(name=name, unit=unit, sense=sense, reference=reference, scale=scale)


def knee_index(costs: FloatArray) -> int:
    """Row of minimised values [K, M] nearest to the ideal corner, in units of the spread."""
    spread = np.ptp(costs, axis=0)
    distance = (costs - costs.min(axis=0)) / np.where(spread > 0, spread, 1.0)
    return int(np.argmin(np.linalg.norm(distance, axis=1)))
