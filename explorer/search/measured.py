"""A search on measured accuracy: every design asked for is really fine-tuned, once.

What was measured is kept in a ledger that many workers share. A design is measured under a
lock and looked up first, so no two workers measure it, and nor does one that comes later.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from explorer.accuracy.records import (
    AnyProtocol,
    DesignRecord,
    Ledger,
    MeasuredRun,
    RunKey,
    run_key,
)
from explorer.design import DesignBatch, UpdatePolicy
from explorer.errors import SpecError, check_whole
from explorer.provenance import Kind
from explorer.search.candidates import CandidateTable, Worth
from explorer.search.front import anchored
from explorer.search.locks import FileLocks
from explorer.search.problem import Problem
from explorer.search.quantities import ACCURACY, SCORES

if TYPE_CHECKING:
    from explorer.accuracy.tasks import Task
    from explorer.accuracy.torch_bridge import GraphModule


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
    """A problem whose accuracy is measured; memory, energy and limits are those it had.

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
        """The same question with accuracy, from 0 to 1, for the score, limits on it too."""
        accuracy = anchored(ACCURACY, "1", "max", np.array([0.0, 1.0]))
        objectives = [accuracy if one.name in SCORES else one for one in problem.objectives]
        limits = tuple(
            replace(one, name=ACCURACY) if one.name in SCORES else one for one in problem.limits
        )
        same = {field.name: getattr(problem, field.name) for field in fields(Problem)}
        made = cls(
            **same | {"objectives": tuple(objectives), "limits": limits},
            task=task,
            measuring=measuring,
            cancelled=cancelled,
        )
        if made.asks_retention and False not in getattr(made._data, "domains", ()):
            raise SpecError(f"retention: task {task} has no source domain that could be forgotten")
        return made

    def screen(self, designs: DesignBatch, labels: Sequence[str] | None = None) -> CandidateTable:
        """Measure designs that the ledger does not have, one by one."""
        policies = [designs.policy(row) for row in range(len(designs))]
        runs = [self._measured_once(policy) for policy in policies]
        return self._candidates(designs, runs, labels)

    def recall(self, designs: DesignBatch) -> CandidateTable:
        """Designs of the ledger; SpecError when it lacks one."""
        known = self._ledger_runs()
        runs = [known.get(self._key(designs.policy(row))) for row in range(len(designs))]
        found = [run for run in runs if run is not None]
        if len(found) < len(runs):
            raise SpecError(
                f"ledger {self.measuring.ledger}: {len(runs) - len(found)} of {len(runs)} measured"
                " designs of the study are not in it; give the ledger the study was made with"
            )
        return self._candidates(designs, found)

    def _measured_once(self, policy: UpdatePolicy) -> MeasuredRun:
        from explorer.accuracy.finetune import measure

        key = self._key(policy)
        name = hashlib.sha256(repr(key).encode()).hexdigest()
        ledger = Ledger(self.measuring.ledger)
        ledger.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLocks(ledger.path).held(name[:16], once=True):
            known = self._ledger_runs().get(key)
            if known is not None:
                return known
            run = measure(
                self.graph,
                self.task,
                policy,
                episodes=self.measuring.episodes,
                seed=self.measuring.seed,
                protocol=self.measuring.protocol,
                tuning_episodes=self.measuring.tuning_episodes,
                module=self._module,
                cancelled=self.cancelled,
            )
            ledger.append(run)
        return run

    def _candidates(
        self, designs: DesignBatch, runs: list[MeasuredRun], labels: Sequence[str] | None = None
    ) -> CandidateTable:
        accuracy = np.array([run.accuracy for run in runs], dtype=np.float64)
        error = np.array([run.standard_error for run in runs], dtype=np.float64)
        worth = Worth(
            name=ACCURACY,
            is_accuracy=True,
            value=accuracy,
            low=np.maximum(accuracy - 2 * error, 0),
            high=np.minimum(accuracy + 2 * error, 1),
            kind=np.full(len(runs), Kind.MEASURED, dtype=np.int64),
            measured=accuracy,
            measured_error=error,
            forgotten=np.array([run.forgotten_accuracy for run in runs], dtype=np.float64),
        )
        table = self._table(designs, labels)
        violations = self._violations(table.costs, worth)
        return self._checked(replace(table, worth=worth, violations=violations))

    def _ledger_runs(self) -> dict[RunKey, MeasuredRun]:
        found = Ledger(self.measuring.ledger).read().of_data(self._data.digest)
        return {run.key: run for run in found}

    def _key(self, policy: UpdatePolicy) -> RunKey:
        from explorer.accuracy.course import measured_design

        return run_key(
            self.graph.digest,
            self._weights_digest,
            self.task,
            DesignRecord.of(measured_design(policy, self._protocol)),
            self.measuring.seed,
            self.measuring.episodes,
            self._protocol,
        )

    @cached_property
    def _protocol(self) -> AnyProtocol:
        from explorer.accuracy.course import task_protocol

        return self.measuring.protocol or task_protocol(self._data)

    @cached_property
    def _data(self) -> "Task":
        from explorer.accuracy.tasks import task_for
        from explorer.accuracy.torch_bridge import unseen_task

        return unseen_task(task_for(self.task, self.graph.input_shape), self._module)

    @cached_property
    def _module(self) -> "GraphModule":
        from explorer.accuracy.torch_bridge import model_module

        return model_module(self.graph)

    @cached_property
    def _weights_digest(self) -> str:
        from explorer.accuracy.torch_bridge import state_digest

        return state_digest(self._module)
