"""A search on measured accuracy: every design asked for is really fine-tuned, once.

What was measured is kept in a ledger that many workers share (explorer.search.measurer).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from explorer.accuracy.metrics import METRIC_NAMES
from explorer.accuracy.protocols import AnyProtocol
from explorer.accuracy.records import DivergedError, Ledger, MeasuredRun
from explorer.design import DesignBatch
from explorer.errors import SpecError, check_whole
from explorer.provenance import Kind
from explorer.search.candidates import CandidateTable, Worth
from explorer.search.front import anchored
from explorer.search.judge import known_columns, known_of
from explorer.search.measurer import Measurer
from explorer.search.problem import Problem, Tried
from explorer.search.quantities import SCORES


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How a search measures: the ledger that keeps runs, and what `measure` is told.

    `protocol` None is the task's own.
    """

    ledger: Path
    episodes: int = 10
    seed: int = 0
    tuning_episodes: int = 4
    protocol: AnyProtocol | None = None

    def __post_init__(self) -> None:
        check_whole("episodes", self.episodes, 1)
        check_whole("tuning_episodes", self.tuning_episodes, 1)

    @property
    def question(self) -> dict[str, object]:
        """What makes two studies the same; where the ledger lies is not part of it."""
        protocol = None if self.protocol is None else self.protocol.model_dump(mode="json")
        return {
            "episodes": self.episodes,
            "episode_seed": self.seed,
            "tuning_episodes": self.tuning_episodes,
            "protocol": protocol,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class MeasuredProblem(Problem):
    """A problem whose metric is measured; memory, energy and limits are those it had.

    A true `cancelled()` ends a measurement with CancelledError.
    """

    takes_long: ClassVar[bool] = True
    task: str
    measuring: Measuring
    cancelled: Callable[[], bool] | None = None

    @classmethod
    def on(
        cls,
        problem: Problem,
        task: str,
        measuring: Measuring,
        cancelled: Callable[[], bool] | None = None,
    ) -> "MeasuredProblem":
        """The same question with the judge's metric, 0 to 1, for the score, limits on it too."""
        metric = problem.judge.metric
        merit = anchored(metric, "1", "max", np.array([0.0, 1.0]))
        objectives = [merit if one.name in SCORES else one for one in problem.objectives]
        limits = tuple(
            replace(one, name=metric) if one.name in SCORES else one for one in problem.limits
        )
        same = {field.name: getattr(problem, field.name) for field in fields(Problem)}
        made = cls(
            **same | {"objectives": tuple(objectives), "limits": limits},
            task=task,
            measuring=measuring,
            cancelled=cancelled,
        )
        if made.asks_retention and False not in getattr(made._measurer.data, "domains", ()):
            raise SpecError(f"retention: task {task} has no source domain that could be forgotten")
        return made

    def screen(self, designs: DesignBatch, labels: Sequence[str] | None = None) -> CandidateTable:
        """Measure designs that the ledger does not have; SpecError when one has no value."""
        tried = self.tried(designs)
        if any(tried.reasons):
            raise SpecError(next(filter(None, tried.reasons)))
        return tried.table if labels is None else replace(tried.table, labels=tuple(labels))

    def tried(self, designs: DesignBatch) -> Tried:
        """Measure designs that the ledger does not have, one by one."""
        runs: list[MeasuredRun] = []
        reasons = []
        for row in range(len(designs)):
            try:
                run = self._measurer.measured(designs.policy(row), cancelled=self.cancelled)
                reason = self._reason_against(run)
            except DivergedError as error:
                reason = str(error)
            if not reason:
                runs.append(run)
            reasons.append(reason)
        rows = np.flatnonzero([not reason for reason in reasons])
        return Tried(table=self._candidates(designs.take(rows), runs), reasons=tuple(reasons))

    def _reason_against(self, run: MeasuredRun) -> str:
        """Why a run has no value for what is asked; empty when it has."""
        metric = self.judge.metric
        if run.figure(metric) is None:
            return f"{METRIC_NAMES[metric]} is not defined on the tests of {self.task}"
        if self.asks_retention and run.forgotten_accuracy is None:
            return "what the source lost was not measured"
        return ""

    def recall(self, designs: DesignBatch) -> CandidateTable:
        """Designs of the ledger; SpecError when it lacks one."""
        known = self._measurer.runs()
        keys = [self._measurer.key(designs.policy(row)) for row in range(len(designs))]
        found = [known[key] for key in keys if key in known]
        if len(found) < len(keys):
            raise SpecError(
                f"ledger {self.measuring.ledger}: {len(keys) - len(found)} of {len(keys)} measured"
                " designs of the study are not in it; give the ledger the study was made with"
            )
        return self._candidates(designs, found)

    def _candidates(self, designs: DesignBatch, runs: list[MeasuredRun]) -> CandidateTable:
        metric = self.judge.metric
        known = known_columns([known_of(run, metric) for run in runs])
        merit, error = known.measured, known.measured_error
        worth = Worth(
            name=METRIC_NAMES[metric],
            is_merit=True,
            value=merit,
            low=np.maximum(merit - 2 * error, 0),
            high=np.minimum(merit + 2 * error, 1),
            kind=np.full(len(runs), Kind.MEASURED, dtype=np.int64),
            **known._asdict(),
            metric=metric,
        )
        table = self._table(designs, None)
        violations = self._violations(table.costs, worth)
        return replace(table, worth=worth, violations=violations)

    @cached_property
    def _measurer(self) -> Measurer:
        return Measurer(
            graph=self.graph,
            task=self.task,
            ledger=Ledger(self.measuring.ledger),
            episodes=self.measuring.episodes,
            seed=self.measuring.seed,
            tuning_episodes=self.measuring.tuning_episodes,
            protocol=self.measuring.protocol,
        )
