"""What measuring some designs of a front taught: plain values, and the rule that chooses them.

Half of the designs, rounded up, lie along the front: of the members that are not measured yet
those at even steps of their order by score, both ends among them. The others are those of the
front and of the layer behind it that the criteria rank most differently: depth, size, backward
MACs and, where there are channel scores, gradient norm and Fisher shares.
"""

from dataclasses import dataclass

import numpy as np

from explorer.search.candidates import CandidateTable
from explorer.search.front import is_non_dominated
from explorer.search.judge import Judge, design_keys, features
from explorer.units import BoolArray, FloatArray, IntArray

ALONG, DISAGREED = "along the front", "ranks disagree"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A row of the table that is worth measuring, and why."""

    row: int
    why: str


def most_informative(
    table: CandidateTable, judge: Judge, count: int, norm: str
) -> tuple[Choice, ...]:
    """At most `count` different rows to measure, none of which is measured or trains nothing.

    Weights are at hand for the network in its own `norm` only, so other rows are left out.
    """
    own = np.array([setup.norm in (None, norm) for setup in table.designs.row_setups])
    open_rows = own & table.designs.trains & ~np.isfinite(table.worth.measured)
    keys = design_keys(table.designs)
    first = {key: row for row, key in reversed(list(enumerate(keys)))}
    open_rows &= np.array([first[key] == row for row, key in enumerate(keys)], dtype=bool)
    front = np.flatnonzero(open_rows & table.on_front)
    along = _evenly(front[np.argsort(table.score[front], kind="stable")], -(-count // 2))
    chosen = [Choice(row=int(row), why=ALONG) for row in along]
    near = np.flatnonzero(open_rows & (table.on_front | _second_layer(table)))
    spread = _rank_spread(judge, table.take(near))
    for row in near[np.argsort(-spread, kind="stable")]:
        if len(chosen) < count and row not in along:
            chosen.append(Choice(row=int(row), why=DISAGREED))
    return tuple(chosen)


def measured_front(table: CandidateTable) -> BoolArray:
    """Which eligible measured rows no other beats in the measured metric and other goals [P].

    Where no score is among the objectives, the measured metric is one more.
    """
    known = np.flatnonzero(np.isfinite(table.worth.measured) & table.eligible)
    columns = [at for at, one in enumerate(table.objectives) if one.unit != "1"]
    signs = np.array([table.objectives[at].sign for at in columns])
    costs = np.concatenate(
        [table.values[known][:, columns] * signs, -table.worth.measured[known, None]], axis=1
    )
    found = np.zeros(len(table), dtype=bool)
    found[known] = _minimal(costs)
    return found


def _minimal(costs: FloatArray) -> BoolArray:
    """Rows [P, M] that no other row is below or equal to in everything and below in something."""
    below = np.all(costs[:, None] <= costs, axis=2) & np.any(costs[:, None] < costs, axis=2)
    minimal: BoolArray = ~below.any(axis=0)
    return minimal


def _second_layer(table: CandidateTable) -> BoolArray:
    """Eligible rows that nothing but the front dominates [P]."""
    rest = np.flatnonzero(table.eligible & ~table.on_front)
    layer = np.zeros(len(table), dtype=bool)
    layer[rest] = is_non_dominated(table.values[rest], table.objectives)
    return layer


def _evenly(rows: IntArray, count: int) -> IntArray:
    """At most `count` of the rows in even steps, the first and the last among them."""
    if count >= len(rows):
        return rows
    return rows[np.round(np.linspace(0, len(rows) - 1, count)).astype(np.int64)]


def _rank_spread(judge: Judge, table: CandidateTable) -> FloatArray:
    """Standard deviation of each row's ranks under the criteria [P]."""
    criteria = features(judge.table, table.designs, table.costs)
    ranks = [np.argsort(np.argsort(column, kind="stable")) for column in criteria.values()]
    spread: FloatArray = np.std(ranks, axis=0)
    return spread


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredChoice:
    """A candidate that was measured: the metric and the accuracy, with their standard errors.

    `score_before` is the score it had; `on_measured_front` says that no measured candidate
    beats it in the measured metric and all other objectives.
    """

    row: int
    why: str
    accuracy: float
    standard_error: float
    measured: float
    measured_error: float
    score_before: float
    on_measured_front: bool


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Refinement:
    """How a front moved when some of it was measured by a metric.

    `reason_against` says why it is not predicted after that; empty when it is. `tau` is of
    the score before with the measured metric of the choices, nan below two of them.
    Hypervolumes are both by the objectives after; `kept`, `left`, `entered` count members.
    """

    metric: str
    choices: tuple[MeasuredChoice, ...]
    episodes: int
    seed: int
    reason_against: str
    tau: float
    hypervolume_before: float
    hypervolume_after: float
    kept_count: int
    left_count: int
    entered_count: int
