"""Candidates: designs with their costs and their worth, as columns, and the front of them."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.accuracy.metrics import ACCURACY, METRIC_NAMES
from explorer.costmodel.report import CostReport
from explorer.design import DesignBatch
from explorer.provenance import Kind
from explorer.search.front import Objective, hypervolume, is_non_dominated, name_of
from explorer.search.picks import KNEE, Pick, choose
from explorer.search.quantities import (
    ENERGY,
    MEMORY_OBJECTIVES,
    PEAK,
    PROXY_SCORE,
    RETENTION,
    SCORES,
    Limit,
)
from explorer.units import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    import pandas as pd

    from explorer.search.refinement import Refinement


WORTH_COLUMNS = (
    *("value", "low", "high", "kind", "measured", "measured_error"),
    *("accuracy", "accuracy_error", "forgotten"),
)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Worth:
    """What designs are worth, columns [P].

    `value` is a measured or calibrated `metric` (0..1, a column of explorer.accuracy.metrics)
    or a proxy score; `name` says which and `is_merit` whether it is the metric. `low`, `high`
    are nan without an interval; `kind` holds Kind codes. `measured`, `measured_error` are the
    metric of designs in the ledger and its standard error, `accuracy`, `accuracy_error` always
    the accuracy, `forgotten` the accuracy they lost on the source domain, nan for all others.
    """

    name: str
    is_merit: bool
    value: FloatArray
    low: FloatArray
    high: FloatArray
    kind: IntArray
    measured: FloatArray
    measured_error: FloatArray
    accuracy: FloatArray
    accuracy_error: FloatArray
    forgotten: FloatArray
    metric: str = ACCURACY

    @property
    def is_accuracy(self) -> bool:
        """Whether the value may be called accuracy."""
        return self.name == METRIC_NAMES[ACCURACY]

    def take(self, rows: IntArray) -> "Worth":
        """Rows by index."""
        return replace(self, **{name: getattr(self, name)[rows] for name in WORTH_COLUMNS})


@dataclass(frozen=True, eq=False, kw_only=True)
class CandidateTable:
    """P candidates. `violations` [P, C] are violated when > 0; `labels` name known policies."""

    costs: CostReport
    worth: Worth
    violations: FloatArray
    labels: tuple[str, ...]
    objectives: tuple[Objective, ...]

    def __len__(self) -> int:
        return len(self.costs)

    @property
    def designs(self) -> DesignBatch:
        """The designs [P]."""
        return self.costs.designs

    @property
    def score(self) -> FloatArray:
        """A metric such as accuracy, or a proxy score [P]; `score_name` says which."""
        return self.worth.value

    @property
    def score_name(self) -> str:
        """Name of the axis: `accuracy`, `macro F1`, or `proxy score: ...`."""
        return self.worth.name

    @property
    def score_column(self) -> str:
        """The score's name among objectives."""
        return self.worth.metric if self.worth.is_merit else PROXY_SCORE

    @property
    def score_kind(self) -> tuple[Kind, ...]:
        """Kind of each score [P]."""
        return tuple(Kind(int(code)) for code in self.worth.kind)

    @property
    def peak_live_bytes(self) -> FloatArray:
        """Bytes [P]."""
        return self.costs.peak_live_bytes

    @property
    def memory_bytes(self) -> FloatArray:
        """What the memory objective makes small [P]; the peak where there is none."""
        return self.column(name_of(self.objectives, MEMORY_OBJECTIVES.values()) or PEAK)

    @property
    def training_extra_bytes(self) -> FloatArray:
        """Bytes above inference [P]."""
        return self.costs.training_extra_bytes

    @property
    def step_time_s(self) -> FloatArray:
        """Seconds of a step [P]."""
        return self.costs.step_time_s

    @property
    def step_energy_j(self) -> FloatArray:
        """Joules of a step [P]."""
        return self.costs.step_energy_j

    @cached_property
    def values(self) -> FloatArray:
        """Objective values in natural units [P, M]."""
        return np.stack([self.column(objective.name) for objective in self.objectives], axis=1)

    def column(self, name: str) -> FloatArray:
        """A quantity by the name it has as an objective [P]."""
        if name == RETENTION:
            return self.worth.forgotten
        column: FloatArray = self.score if name in SCORES else getattr(self.costs, name)
        return column

    @property
    def feasible(self) -> BoolArray:
        """No constraint violated [P]."""
        feasible: BoolArray = np.all(self.violations <= 0, axis=1)
        return feasible

    @cached_property
    def eligible(self) -> BoolArray:
        """Feasible rows or, when there are none, those of the smallest violation [P]."""
        if len(self) == 0 or self.feasible.any():
            return self.feasible
        over = np.maximum(self.violations, 0).sum(axis=1)
        least: BoolArray = over <= over.min() * (1 + 1e-9)
        return least

    @cached_property
    def on_front(self) -> BoolArray:
        """Not dominated among the eligible rows [P]."""
        front = np.zeros(len(self), dtype=bool)
        rows = np.flatnonzero(self.eligible)
        front[rows] = is_non_dominated(self.values[rows], self.objectives)
        return front

    @property
    def hypervolume(self) -> float:
        """Of the front, in units of the scales; 0 when nothing is feasible."""
        return hypervolume(self.values[self.on_front & self.feasible], self.objectives)

    def take(self, rows: IntArray) -> "CandidateTable":
        """Rows by index."""
        return replace(
            self,
            costs=self.costs.take(rows),
            worth=self.worth.take(rows),
            violations=self.violations[rows],
            labels=tuple(self.labels[row] for row in rows),
        )

    def to_frame(self) -> "pd.DataFrame":
        """One row a candidate, units in the column names."""
        frame = self.costs.to_frame()
        frame.insert(1, self.score_column, self.score)
        frame.insert(2, "score_kind", [kind.word for kind in self.score_kind])
        frame["measured_accuracy"] = self.worth.accuracy
        frame["measured_standard_error"] = self.worth.accuracy_error
        if self.worth.metric != ACCURACY:
            frame[f"measured_{self.worth.metric}"] = self.worth.measured
            frame[f"measured_{self.worth.metric}_standard_error"] = self.worth.measured_error
        frame["measured_forgotten_accuracy"] = self.worth.forgotten
        frame["feasible"] = self.feasible
        frame["on_front"] = self.on_front
        return frame


def concatenate(tables: list[CandidateTable]) -> CandidateTable:
    """Stack tables of one problem."""
    first = tables[0]
    designs = DesignBatch.joined([table.designs for table in tables])
    costs = CostReport(
        designs=designs,
        **{
            name: np.concatenate([getattr(table.costs, name) for table in tables])
            for name in CostReport.columns()
        },
    )
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(table.worth, name) for table in tables])
        for name in WORTH_COLUMNS
    }
    worth = replace(first.worth, **columns)
    return CandidateTable(
        costs=costs,
        worth=worth,
        violations=np.concatenate([table.violations for table in tables]),
        labels=tuple(label for table in tables for label in table.labels),
        objectives=first.objectives,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class ParetoFront:
    """The result of a search: every candidate, and which of them are the front.

    `exact_hypervolume_ratio` is the share of the additive proxy's optimum where computed.
    `limits` were in force; `notes` say what else to know; `refinement` how it moved when some
    of it was measured (explorer.refining).
    """

    table: CandidateTable
    seed: int
    sampler: str
    trial_count: int
    exact_hypervolume_ratio: float | None = None
    limits: tuple[Limit, ...] = ()
    notes: tuple[str, ...] = ()
    refinement: "Refinement | None" = None

    @property
    def rows(self) -> IntArray:
        """Row numbers of the front in the table, by memory."""
        rows = np.flatnonzero(self.table.on_front)
        return rows[np.argsort(self.table.memory_bytes[rows], kind="stable")]

    @property
    def hypervolume(self) -> float:
        """Of the feasible front."""
        return self.table.hypervolume

    def __len__(self) -> int:
        return len(self.rows)

    def to_frame(self) -> "pd.DataFrame":
        """The front, one row a member."""
        return self.table.to_frame().loc[self.rows]

    def pick(self, which: str) -> Pick:
        """A member by name, one of PICKS, as its row in the table, and the reason for it."""
        rows = self.rows
        fits = self.table.feasible[rows]
        others = {
            name: self.table.column(name)[rows] for name in (self.table.score_column, PEAK, ENERGY)
        }
        picked = choose(which, self.table.values[rows], self.table.objectives, fits, others)
        return Pick(row=int(rows[picked.row]), reason=picked.reason)

    def knee(self) -> int:
        """Row nearest to the ideal corner of the front in units of its spread."""
        return self.pick(KNEE).row

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html())
