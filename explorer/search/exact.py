"""How near to the best a front can be: optima of the additive proxy over a grid of budgets.

Bounds by relaxation come first, for every cell of the grid. Then budgets are solved
exactly, those first where the bound is farthest above what is known, until the time is
over. Nothing here is about accuracy: the optimum is of the proxy, which is additive.
Designs that do not fit the device are not considered.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from explorer.design import DesignBatch
from explorer.errors import SpecError
from explorer.search.additive import Additive
from explorer.search.candidates import CandidateTable, ParetoFront, concatenate
from explorer.search.control import SearchControl
from explorer.search.front import hypervolume
from explorer.search.problem import Problem
from explorer.search.program import Program
from explorer.search.quantities import PEAK, PROXY_SCORE
from explorer.search.space import SearchSpace
from explorer.search.sweep import budget_grid, rounded_designs, sweep
from explorer.units import FloatArray, IntArray

OnOptimum = Callable[[int, int, CandidateTable, float], None]

TIME_LIMIT_S = 20.0
MEMORY_SIDE, SIDE = 6, 24
SWEEP_DESIGNS = 4000
SOLVED_GAP = 1e-4  # relative: budgets whose bound is as near as this are not solved again
LONGEST_SOLVE_S = 5.0
SETTLED_GAIN = 2e-3  # relative: a grid that adds less to the hypervolume is fine enough
FINER_CELLS = 4  # cells of the next grid for each of this one
ROUNDING = 1e-9

_KEPT: dict[str, tuple[float, "ExactFront"]] = {}  # by question: the time it had, what it found


@dataclass(frozen=True, eq=False, kw_only=True)
class ExactFront:
    """Optima and near-optima of the additive proxy under a problem's own objectives.

    `table` holds those not dominated; the hypervolume of no set of designs exceeds
    `hypervolume_limit`. Of `budget_count` budgets `proven_count` are optimal to 1e-4;
    `is_finished` when none was left to solve.
    """

    table: CandidateTable
    hypervolume_limit: float
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


def reason_against(problem: Problem) -> str:
    """Why the exact program cannot answer for these objectives and limits; empty when it can."""
    if problem.judge.calibration is not None:
        return f"predicted {problem.judge.name} is not additive, only a proxy score is"
    names = {objective.name for objective in problem.objectives}
    if PROXY_SCORE not in names:
        return "there is no score among the objectives"
    if problem.memory_name not in names:
        return "memory is not among the objectives"
    for limit in problem.limits:
        if limit.name not in names - {PROXY_SCORE} | {PEAK}:
            return f"a limit on {limit.name} is not among its rows"
    return ""


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
    was `asked` once is not solved again, unless it was stopped or there is more time now.
    """
    if reason := reason_against(problem):
        raise SpecError(f"exact front: {reason}")
    key = json.dumps(asked, sort_keys=True)
    if key in _KEPT:
        allowed_s, kept = _KEPT[key]
        if kept.is_finished or allowed_s >= time_limit_s:
            return kept
    found = _solved(problem, space, time_limit_s, on_optimum, control)
    if control is None or not control.is_stopped:
        _KEPT[key] = time_limit_s, found
    return found


def _solved(
    problem: Problem,
    space: SearchSpace,
    time_limit_s: float,
    on_optimum: OnOptimum | None,
    control: SearchControl | None,
) -> ExactFront:
    start = time.monotonic()
    question = Additive.of(problem, space)
    known = [space.decode(space.seeds()), sweep(question, SWEEP_DESIGNS)]
    grid = _Grid(
        program=Program(question),
        table=_best_rows(concatenate([problem.screen(designs) for designs in known])),
        deadline_s=start + time_limit_s,
        on_optimum=on_optimum,
        control=control,
    )
    sides, is_finished, bound = (MEMORY_SIDE, SIDE), False, np.inf
    while True:
        before = grid.table.hypervolume
        relaxed_s, is_solved = grid.refine(*sides)
        bound = min(bound, grid.hypervolume_limit)
        settled = grid.table.hypervolume <= before * (1 + SETTLED_GAIN)
        is_finished = is_solved and settled
        too_late = time.monotonic() + FINER_CELLS * relaxed_s > grid.deadline_s
        if settled or not is_solved or too_late:
            break
        sides = (2 * sides[0], 2 * sides[1])
    return ExactFront(
        table=grid.table,
        hypervolume_limit=bound,
        budget_count=len(grid.bounds),
        proven_count=int((grid.gaps() <= SOLVED_GAP).sum()),
        is_finished=is_finished,
        time_s=time.monotonic() - start,
    )


@dataclass(eq=False, kw_only=True)
class _Grid:
    """Cells of budgets: what is known and what is possible in each.

    `lower`, `upper` [K, C] corners; `bounds` [K] of the score under the upper ones; `proven`
    are budgets solved on any grid, with their bound.
    """

    program: Program
    table: CandidateTable
    deadline_s: float
    on_optimum: OnOptimum | None
    control: SearchControl | None
    lower: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    upper: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    bounds: FloatArray = field(default_factory=lambda: np.zeros(0))
    proven: list[tuple[FloatArray, float]] = field(default_factory=list)

    def refine(self, memory_side: int, side: int) -> tuple[float, bool]:
        """Bounds of a new grid, then its optima; seconds of the bounds, whether all is solved."""
        start = time.monotonic()
        question = self.program.question
        self.lower, self.upper = budget_grid(question, memory_side, side)
        self.bounds = np.full(len(self.upper), np.inf)
        for budgets, bound in self.proven:
            self._bound(budgets, bound)
        unknown = np.flatnonzero(self.gaps() > SOLVED_GAP)
        answers = []
        for cell in unknown:
            if self._is_stopped:
                break
            answers.append(self.program.relaxed(self.upper[cell]))
            self._bound(self.upper[cell], answers[-1][0])
        self._add(rounded_designs(question, answers))
        relaxed_s = time.monotonic() - start
        return relaxed_s, self._solve()

    def _solve(self) -> bool:
        """Solve open budgets, the most promising first; whether none is left."""
        is_open, done = self.bounds > -np.inf, 0
        room = _room(self.program.question, self.upper)
        while True:
            gaps = self.gaps()
            is_open &= gaps > SOLVED_GAP
            left_s = self.deadline_s - time.monotonic()
            if not is_open.any() or left_s <= 0 or self._is_stopped:
                return not is_open.any()
            gain = np.where(is_open, gaps * np.abs(self.bounds) * room, -np.inf)
            cell = int(np.argmax(gain))
            optimum = self.program.best(self.upper[cell], min(left_s, LONGEST_SOLVE_S))
            self.proven.append((self.upper[cell], optimum.score_bound))
            self._bound(*self.proven[-1])
            is_open[cell] = False
            done += 1
            if optimum.design is not None:
                self._add(optimum.design)
            if self.on_optimum is not None:
                total = done + int(is_open.sum())
                self.on_optimum(done, total, self.table, self.table.hypervolume)

    @property
    def _is_stopped(self) -> bool:
        """Whether to give up; waits while paused."""
        return self.control is not None and not self.control.proceed()

    def _bound(self, budgets: FloatArray, bound: float) -> None:
        """What no design within `budgets` exceeds, none within smaller ones does."""
        below = (self.upper <= budgets * (1 + ROUNDING)).all(axis=1)
        self.bounds[below] = np.minimum(self.bounds[below], bound)

    def _add(self, designs: DesignBatch) -> None:
        found = self.program.question.problem.screen(designs)
        self.table = _best_rows(concatenate([self.table, found]))

    def gaps(self) -> FloatArray:
        """By how much the bounds [K] exceed the best known score of their budgets, relatively."""
        score, spent = _order(self.program.question)
        values = self.table.values
        inside = (values[None, :, spent] <= self.upper[:, None] * (1 + ROUNDING)).all(axis=2)
        inside &= self.table.feasible
        best = np.where(inside, values[:, score], -np.inf).max(axis=1, initial=-np.inf)
        gaps = np.where(self.bounds == np.inf, np.inf, 0.0)
        possible = np.isfinite(self.bounds)
        gaps[possible] = 1 - best[possible] / self.bounds[possible]
        return gaps

    @property
    def hypervolume_limit(self) -> float:
        """Hypervolume no design exceeds: each cell at its lower corner and its bound."""
        if np.isposinf(self.bounds).any():  # stopped before all were known
            return np.inf
        objectives = self.program.question.problem.objectives
        score, spent = _order(self.program.question)
        corners = np.zeros((len(self.lower), len(objectives)))
        corners[:, spent], corners[:, score] = self.lower, self.bounds
        known = self.table.values[self.table.feasible]
        return hypervolume(np.concatenate([known, corners[np.isfinite(self.bounds)]]), objectives)


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
