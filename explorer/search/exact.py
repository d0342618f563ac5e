"""How near to the best a front can be: optima of the additive proxy over a grid of budgets.

Bounds by relaxation come first, for every cell of the grid. Then budgets are solved
exactly, those first where the bound is farthest above what is known, until the time is
over. Nothing here is about accuracy: the optimum is of the proxy, which is additive.
Designs that do not fit the device are not considered.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer.errors import SpecError
from explorer.search.additive import Additive
from explorer.search.candidates import CandidateTable, ParetoFront, concatenate
from explorer.search.control import SearchControl
from explorer.search.front import hypervolume
from explorer.search.problem import Problem
from explorer.search.program import Program
from explorer.search.space import SearchSpace
from explorer.search.sweep import budget_grid, rounded_designs, sweep
from explorer.units import FloatArray, IntArray

OnOptimum = Callable[[int, int, CandidateTable, float], None]

TIME_LIMIT_S = 20.0
MEMORY_SIDE, SIDE = 6, 24
SWEEP_DESIGNS = 4000
SOLVED_GAP = 1e-4  # relative: budgets whose bound is as near as this are not solved again
LONGEST_SOLVE_S = 5.0
ROUNDING = 1e-9

_KEPT: dict[str, "ExactFront"] = {}


@dataclass(frozen=True, eq=False, kw_only=True)
class ExactFront:
    """Optima and near-optima of the additive proxy under a problem's own objectives.

    `table` holds those not dominated; the hypervolume of no design exceeds
    `bound_hypervolume`. Of `budget_count` budgets `proven_count` are optimal to 1e-4;
    `is_finished` when none was left to solve.
    """

    table: CandidateTable
    bound_hypervolume: float
    budget_count: int
    proven_count: int
    is_finished: bool
    time_s: float

    @property
    def hypervolume(self) -> float:
        """Of the table, on the search's own objectives, reference point and scales."""
        return self.table.hypervolume


def exact_share(front: ParetoFront, exact: ExactFront) -> float | None:
    """Hypervolume of a front as a share of the near-exact one; None when nothing fits.

    Near-exact is the union of the exact front and of what this search found, so the share
    is at most 1.
    """
    best = concatenate([exact.table, front.table]).hypervolume
    return front.hypervolume / best if best > 0 else None


def exact_front(
    problem: Problem,
    space: SearchSpace,
    asked: Mapping[str, Any],
    *,
    time_limit_s: float = TIME_LIMIT_S,
    on_optimum: OnOptimum | None = None,
    control: SearchControl | None = None,
) -> ExactFront:
    """Solve until done, out of time or stopped; SpecError when the score is not additive.

    `on_optimum(done, total, table, hypervolume)` is called after every solved budget. What
    was `asked` once is not solved again, unless there is more time now.
    """
    key = json.dumps(asked, sort_keys=True)
    kept = _KEPT.get(key)
    if kept is None or not (kept.is_finished or kept.time_s >= time_limit_s):
        kept = _KEPT[key] = _solved(problem, space, time_limit_s, on_optimum, control)
    return kept


def _solved(
    problem: Problem,
    space: SearchSpace,
    time_limit_s: float,
    on_optimum: OnOptimum | None,
    control: SearchControl | None,
) -> ExactFront:
    if problem.judge.calibration is not None:
        raise SpecError("exact front: predicted accuracy is not additive, only a proxy score is")
    start = time.monotonic()
    question = Additive.of(problem, space)
    program = Program(question)
    lower, upper = budget_grid(question, MEMORY_SIDE, SIDE)
    answers = [program.relaxed(budgets) for budgets in upper]
    bounds = np.array([bound for bound, _ in answers])
    known = [
        space.decode(space.seeds()),
        sweep(question, SWEEP_DESIGNS),
        rounded_designs(question, answers),
    ]
    table = _best_rows(concatenate([problem.screen(designs) for designs in known]))
    open_budgets, done = np.isfinite(bounds), 0
    room = _room(question, upper)
    while True:
        gaps = _gaps(question, table, upper, bounds)
        open_budgets &= gaps > SOLVED_GAP
        left_s = time_limit_s - (time.monotonic() - start)
        if not open_budgets.any() or left_s <= 0 or (control and not control.proceed()):
            break
        cell = int(np.argmax(np.where(open_budgets, gaps * np.abs(bounds) * room, -np.inf)))
        optimum = program.best(upper[cell], min(left_s, LONGEST_SOLVE_S))
        bounds[cell] = min(bounds[cell], optimum.bound)
        open_budgets[cell] = False
        done += 1
        if optimum.design is not None:
            table = _best_rows(concatenate([table, problem.screen(optimum.design)]))
        if on_optimum is not None:
            waiting = int(open_budgets.sum())
            on_optimum(done, done + waiting, table, table.hypervolume)
    return ExactFront(
        table=table,
        bound_hypervolume=_bound_hypervolume(question, table, lower, bounds),
        budget_count=len(upper),
        proven_count=int((_gaps(question, table, upper, bounds) <= SOLVED_GAP).sum()),
        is_finished=not open_budgets.any(),
        time_s=time.monotonic() - start,
    )


def _best_rows(table: CandidateTable) -> CandidateTable:
    return table.take(np.flatnonzero(table.on_front))


def _order(question: Additive) -> tuple[int, IntArray]:
    """Positions of the score and of what is spent among the objectives."""
    names = [objective.name for objective in question.problem.objectives]
    spent = np.array([names.index(name) for name in question.names])
    return next(at for at in range(len(names)) if at not in spent), spent


def _room(question: Additive, budgets: FloatArray) -> FloatArray:
    """Hypervolume a design at budgets [K, C] has for each unit of score."""
    _, spent = _order(question)
    objectives = [question.problem.objectives[at] for at in spent]
    references = np.array([objective.reference for objective in objectives])
    scales = np.array([objective.scale for objective in objectives])
    room: FloatArray = np.maximum((references - budgets) / scales, 0).prod(axis=1)
    return room


def _gaps(
    question: Additive, table: CandidateTable, budgets: FloatArray, bounds: FloatArray
) -> FloatArray:
    """By how much bounds [K] exceed the highest known score under budgets [K, C], relatively."""
    score, spent = _order(question)
    inside = (table.values[None, :, spent] <= budgets[:, None] * (1 + ROUNDING)).all(axis=2)
    inside &= table.feasible
    best = np.where(inside, table.values[:, score], -np.inf).max(axis=1, initial=-np.inf)
    gaps = np.zeros(len(bounds))
    open_rows = np.isfinite(bounds)
    gaps[open_rows] = 1 - best[open_rows] / bounds[open_rows]
    return gaps


def _bound_hypervolume(
    question: Additive, table: CandidateTable, lower: FloatArray, bounds: FloatArray
) -> float:
    """Hypervolume no design can exceed: every cell at its lower corner and its upper bound."""
    objectives = question.problem.objectives
    score, spent = _order(question)
    corners = np.zeros((len(lower), len(objectives)))
    corners[:, spent], corners[:, score] = lower, bounds
    known = table.values[table.feasible]
    possible = corners[np.isfinite(bounds)]
    return hypervolume(np.concatenate([known, possible]), objectives)
