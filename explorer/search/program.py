"""The optimum of an additive question under budgets, by mixed-integer programming.

Decisions are binaries. A set trains when any member does, stated as a chain from small
sets to those that hold them. Every step that can be the peak is a row under the memory
budget. With decisions relaxed to shares the answer is a bound, in milliseconds.
"""

import atexit
import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.design import DesignBatch
from explorer.search.additive import Additive, Columns
from explorer.units import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from scipy.optimize import LinearConstraint
    from scipy.sparse import csr_array

GAP = 1e-6
ROUGH_GAP, ROUGH_NODES = 0.03, 50
UNITS_PER_SCALE = 1e3  # the solver's tolerance, 1e-6 of a unit, is then less than a byte
INFEASIBLE = 2
STDOUT = 1

_ONE_AT_A_TIME = threading.Lock()
# A process that ends while a thread is in the solver aborts: it waits for that solve, the last.
atexit.register(_ONE_AT_A_TIME.acquire)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Optimum:
    """The best under some budgets: a batch of one, or None where nothing that trains fits.

    No design within the budgets scores above `score_bound`; `is_proven` when this one does.
    """

    design: DesignBatch | None
    score_bound: float
    is_proven: bool


@dataclass(frozen=True, eq=False)
class Program:
    """The program of a question. Budgets [C] are in the order of `question.names`."""

    question: Additive

    def best(self, budgets: FloatArray, time_limit_s: float = np.inf) -> Optimum:
        """The best design that spends at most `budgets`, or the best found in the time."""
        return self._optimum(budgets, {"mip_rel_gap": GAP, "time_limit": time_limit_s})

    def rough(self, budgets: FloatArray) -> Optimum:
        """A design near the best in a fraction of the time, the same on every machine."""
        return self._optimum(budgets, {"mip_rel_gap": ROUGH_GAP, "node_limit": ROUGH_NODES})

    def _optimum(self, budgets: FloatArray, options: Any) -> Optimum:
        result = self._solve(budgets, options, relaxed=False)
        bound = -np.inf if result.status == INFEASIBLE else np.inf
        if result.mip_dual_bound is not None and np.isfinite(result.mip_dual_bound):
            bound = self.question.score[-1] - result.mip_dual_bound
        if result.x is None:
            return Optimum(design=None, score_bound=bound, is_proven=result.status == INFEASIBLE)
        columns = self.question.columns
        slices, biases = columns.slices_and_biases(result.x[None, : columns.binary_count])
        design = self.question.space.designs(slices, biases, "exact")
        is_proven = result.status == 0 and options["mip_rel_gap"] <= GAP
        return Optimum(design=design, score_bound=bound, is_proven=is_proven)

    def relaxed(self, budgets: FloatArray) -> tuple[float, FloatArray | None]:
        """A bound and the shares of decisions [Y + B] that reach it; -inf and None without one.

        No design that trains something within `budgets` scores higher.
        """
        result = self._solve(budgets, {}, relaxed=True)
        if result.x is None:
            return -np.inf, None
        shares: FloatArray = result.x[: self.question.columns.binary_count]
        return float(self.question.score[-1] - result.fun), shares

    def _solve(self, budgets: FloatArray, options: Any, *, relaxed: bool) -> Any:
        columns = self.question.columns
        rows, constant, unit, goal = self._spent
        ceiling = (budgets[goal] - constant) / unit
        binary = np.arange(len(columns)) < columns.binary_count
        from scipy.optimize import Bounds, LinearConstraint, milp

        with _silent():
            return milp(
                -self.question.score[:-1],
                integrality=(binary & (not relaxed)).astype(np.int64),
                bounds=Bounds(0.0, 1.0),
                constraints=[self._logic, LinearConstraint(rows, -np.inf, ceiling)],
                options=options,
            )

    @cached_property
    def _spent(self) -> tuple["csr_array", FloatArray, FloatArray, IntArray]:
        """Rows of what is spent, their constants in natural units, their units, their goals."""
        question = self.question
        others, memory = iter(question.spending), question.problem.memory_name
        blocks = [
            question.live if name == memory else next(others)[None] for name in question.names
        ]
        goal = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
        unit = question.scales[goal] / UNITS_PER_SCALE
        rows = np.concatenate(blocks)
        from scipy.sparse import csr_array

        return csr_array(rows[:, :-1] / unit[:, None]), rows[:, -1], unit, goal

    @cached_property
    def _logic(self) -> "LinearConstraint":
        return _logic(self.question.columns)


def _logic(columns: Columns) -> "LinearConstraint":
    """What ties columns together: one level a layer, something trains, sets, shares."""
    layer_count, level_count = len(columns.table.axes.names), len(columns.level_layer)
    bias_count, unit = len(columns.bias_layer), np.eye(len(columns))
    trains = np.zeros((2 * layer_count, len(columns)))  # weights of layers, then their biases
    trains[columns.level_layer, np.arange(level_count)] = 1.0
    trains[layer_count + columns.bias_layer, level_count + np.arange(bias_count)] = 1.0
    at_most, at_least = [trains[:layer_count]], [trains.sum(axis=0, keepdims=True)]
    not_below, not_above = [], []
    start = columns.binary_count
    for index, members in enumerate(columns.reach):
        inner = _largest_inside(columns.reach[:index], members)
        rest = members & ~columns.reach[inner].any(axis=0)
        parts = np.concatenate([unit[start + inner], trains[rest]])
        not_below.append(unit[start + index] - parts)
        not_above.append((unit[start + index] - parts.sum(axis=0))[None])
    start += len(columns.reach)
    for index, layers in enumerate(columns.shared):
        share = np.where(columns.level_layer == layers[:, None], columns.level_share, 0.0)
        below = np.repeat(unit[None, start + index], len(layers), axis=0)
        below[:, :level_count] -= share
        not_below.append(below)
    groups = [(at_most, -np.inf, 1.0), (at_least, 1.0, np.inf)]
    groups += [(not_below, 0.0, np.inf), (not_above, -np.inf, 0.0)]
    stacked = [(np.concatenate(rows), low, high) for rows, low, high in groups if rows]
    from scipy.optimize import LinearConstraint
    from scipy.sparse import csr_array

    return LinearConstraint(
        csr_array(np.concatenate([rows for rows, _, _ in stacked])),
        np.concatenate([np.full(len(rows), low) for rows, low, _ in stacked]),
        np.concatenate([np.full(len(rows), high) for rows, _, high in stacked]),
    )


def _largest_inside(sets: BoolArray, whole: BoolArray) -> IntArray:
    """Which `sets` [R, S], by rising size, lie inside `whole` and inside no other that does."""
    inside = np.flatnonzero(~(sets & ~whole).any(axis=1))
    found = sets[inside]
    within = ~(found[:, None] & ~found[None]).any(axis=2) & ~np.eye(len(found), dtype=bool)
    largest: IntArray = inside[~within.any(axis=1)]
    return largest


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing on the process's stdout: some releases of the solver print while they work.

    One solve at a time, because stdout belongs to the whole process.
    """
    with _ONE_AT_A_TIME, open(os.devnull, "w") as nowhere:
        sys.stdout.flush()
        kept = os.dup(STDOUT)
        try:
            os.dup2(nowhere.fileno(), STDOUT)
            yield
        finally:
            ctypes.CDLL("ucrtbase" if os.name == "nt" else None).fflush(None)
            os.dup2(kept, STDOUT)
            os.close(kept)
