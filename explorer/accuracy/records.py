"""Measured accuracy: one run, and the ledger that keeps runs as JSON lines.

A line is appended by one write to a file opened for appending and then synced, so
several writers may share a ledger and a kill costs at most the line being written.
Reading passes over broken lines and counts them. This file knows nothing of torch.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, ValidationError, model_validator

from explorer import catalog
from explorer.accuracy.metrics import ACCURACY
from explorer.accuracy.protocols import AnyProtocol
from explorer.design import Design, LayerAxes, UpdatePolicy
from explorer.device import first_problem
from explorer.document import (
    Adapters,
    DistillationRecord,
    Document,
    LayerChoices,
    Named,
    SetupRecord,
    design_record,
    policy_of,
)
from explorer.errors import SpecError
from explorer.graph import ModelGraph
from explorer.units import FloatArray

if TYPE_CHECKING:
    import pandas as pd

RunKey = tuple[str, str, str, str, int, int, str]


class DesignRecord(Document):
    """A design as a ledger row holds it: the policy's trained layers, adapters and the setup."""

    family: str
    setup: SetupRecord
    layers: LayerChoices
    adapters: Adapters = ()
    distillation: DistillationRecord | None = None

    @classmethod
    def of(cls, design: Design) -> "DesignRecord":
        """Copy a design."""
        return cls.model_validate_json(json.dumps(design_record(design)))

    def policy(self, graph: ModelGraph) -> UpdatePolicy:
        """The policy again, for the graph it was made for."""
        axes = LayerAxes.of(graph)
        return policy_of(self.family, self.layers, axes, self.adapters, self.distillation)


class Metric(Document):
    """A figure of merit, 0..1, before and after fine-tuning; means over repeats.

    A repeat in which it is not defined (a class is missing) has None.
    """

    before: float
    after: float
    standard_error: float | None
    standard_error_change: float | None
    per_episode_before: tuple[float | None, ...]
    per_episode_after: tuple[float | None, ...]

    @property
    def gains(self) -> FloatArray:
        """What each repeat gained [E]; nan where it is not defined."""
        before, after = self.per_episode_before, self.per_episode_after
        return np.array(after, dtype=np.float64) - np.array(before, dtype=np.float64)

    @classmethod
    def of(cls, before: Sequence[float | None], after: Sequence[float | None]) -> "Metric | None":
        """Collect one value a repeat; None where none is defined."""
        pairs = zip(before, after, strict=True)
        known = np.array([pair for pair in pairs if None not in pair], dtype=float).reshape(-1, 2)
        if not len(known):
            return None
        return cls(
            before=float(known[:, 0].mean()),
            after=float(known[:, 1].mean()),
            standard_error=standard_error(known[:, 1]),
            standard_error_change=standard_error(known[:, 1] - known[:, 0]),
            per_episode_before=tuple(before),
            per_episode_after=tuple(after),
        )


class Tuning(Document):
    """The learning-rate budget: rates tried, and mean accuracy on the tuning episodes."""

    episodes: int = Field(ge=0)
    rates: tuple[float, ...]
    accuracies: tuple[float, ...]


class MeasuredRun(Document):
    """One policy really fine-tuned on paired episodes; equal seeds mean equal episodes.

    `standard_error` is that of `accuracy` over episodes, `standard_error_gain` that of the
    paired gain. The `per_episode` columns pair runs of different designs. `data_digest` is of
    the task's images; rows from before it was kept have none. On a task of signals an episode
    is a repeat, `metrics` are further figures of the target's tests, and `source` those of the
    held-out part of the source domain: what fine-tuning forgot.
    """

    model: Named
    weights_digest: str
    task: str
    design: DesignRecord
    seed: int
    episodes: int = Field(ge=1)
    protocol: AnyProtocol
    learning_rate: float = Field(ge=0)
    tuning: Tuning
    accuracy_before: float
    accuracy: float
    standard_error: float | None
    standard_error_gain: float | None
    nll_before: float
    nll: float
    per_episode_accuracy_before: tuple[float, ...]
    per_episode_accuracy: tuple[float, ...]
    wall_time_s: float
    versions: dict[str, str]
    data_digest: str = ""
    metrics: dict[str, Metric] = Field(default_factory=dict)
    source: dict[str, Metric] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_value_an_episode(self) -> "MeasuredRun":
        for column in (self.per_episode_accuracy_before, self.per_episode_accuracy):
            if len(column) != self.episodes:
                raise ValueError(f"{len(column)} accuracies for {self.episodes} episodes")
        return self

    def suits(self, graph: ModelGraph) -> bool:
        """Whether it is of this network, and its design one that the network can have."""
        try:
            return self.model.digest == graph.digest and bool(self.design.policy(graph))
        except SpecError:
            return False

    def figure(self, metric: str) -> Metric | None:
        """A metric of the tests by its column (explorer.accuracy.metrics); None without it."""
        if metric != ACCURACY:
            return self.metrics.get(metric)
        return Metric(
            before=self.accuracy_before,
            after=self.accuracy,
            standard_error=self.standard_error,
            standard_error_change=self.standard_error_gain,
            per_episode_before=self.per_episode_accuracy_before,
            per_episode_after=self.per_episode_accuracy,
        )

    @property
    def forgotten_accuracy(self) -> float | None:
        """Accuracy on the source that fine-tuning lost, as a share; None without a source."""
        kept = self.source.get("accuracy")
        return None if kept is None else kept.before - kept.after

    @property
    def key(self) -> RunKey:
        """What makes a run the same measurement again."""
        return run_key(
            self.model.digest,
            self.weights_digest,
            self.task,
            self.design,
            self.seed,
            self.episodes,
            self.protocol,
        )


def run_key(
    digest: str,
    weights_digest: str,
    task: str,
    design: DesignRecord,
    seed: int,
    episodes: int,
    protocol: AnyProtocol,
) -> RunKey:
    """Digests of network and weights, task, canonical design, seed, episodes and protocol."""
    task_key, rules = catalog.task_key(task), protocol.to_json()
    return (digest, weights_digest, task_key, design.to_json(), seed, episodes, rules)


def standard_error(values: FloatArray) -> float | None:
    """Standard error of the mean of one value an episode; None for a single one."""
    return float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None


class AccuracyCurve(Document):
    """Time to accuracy: a measured run, and its query accuracy after some of the steps.

    `per_episode_accuracy` has a row for each episode and a column for each of `steps`.
    """

    run: MeasuredRun
    steps: tuple[int, ...]
    per_episode_accuracy: tuple[tuple[float, ...], ...]

    @property
    def accuracy(self) -> FloatArray:
        """Mean over episodes at each step [S]."""
        mean: FloatArray = np.array(self.per_episode_accuracy).mean(axis=0)
        return mean

    @property
    def error(self) -> FloatArray:
        """Its standard error [S]; nan with a single episode."""
        columns = np.array(self.per_episode_accuracy).T
        return np.array([standard_error(column) for column in columns], dtype=float)


def comparable(runs: Iterable[MeasuredRun]) -> tuple[tuple[MeasuredRun, ...], ...]:
    """Runs in groups whose accuracies are of one scale, the largest group first.

    A group has one network with one set of weights, one task and one protocol.
    """
    groups: dict[tuple[str, str, str, AnyProtocol], list[MeasuredRun]] = {}
    for run in runs:
        key = (run.model.digest, run.weights_digest, run.task, run.protocol)
        groups.setdefault(key, []).append(run)
    return tuple(tuple(group) for group in sorted(groups.values(), key=len, reverse=True))


class DivergedError(SpecError):
    """Fine-tuning ended in a loss that is not finite; there is no run to keep."""


class UnkeptError(SpecError):
    """A ledger cannot take `run`, which is measured all the same."""

    def __init__(self, sentence: str, run: MeasuredRun) -> None:
        super().__init__(f"{sentence}; is the disk full")
        self.run = run


@dataclass(frozen=True, eq=False)
class LedgerContent:
    """What a ledger held: its runs, in order, and how many lines could not be read.

    `problem` says which, in one sentence; empty when all could be.
    """

    runs: tuple[MeasuredRun, ...]
    corrupt_lines: int
    problem: str = ""

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[MeasuredRun]:
        return iter(self.runs)

    def measured(self) -> frozenset[RunKey]:
        """Keys of every run, to skip what is measured already."""
        return frozenset(run.key for run in self.runs)

    def of_data(self, digest: str) -> tuple[MeasuredRun, ...]:
        """Runs on that very data, and rows from before its digest was kept."""
        return tuple(run for run in self.runs if run.data_digest in ("", digest))

    def to_frame(self) -> "pd.DataFrame":
        """One row a run; accuracies are shares, times seconds; nan is no such figure."""
        import pandas as pd

        def column(domain: str, name: str, when: str) -> list[float]:
            found = (getattr(run, domain).get(name) for run in self.runs)
            return [np.nan if metric is None else getattr(metric, when) for metric in found]

        return pd.DataFrame(
            {
                "model": [run.model.name for run in self.runs],
                "task": [run.task for run in self.runs],
                "family": [run.design.family for run in self.runs],
                "trained_layers": [len(run.design.layers) for run in self.runs],
                "seed": [run.seed for run in self.runs],
                "episodes": [run.episodes for run in self.runs],
                "learning_rate": [run.learning_rate for run in self.runs],
                "accuracy_before": [run.accuracy_before for run in self.runs],
                "accuracy": [run.accuracy for run in self.runs],
                "standard_error": [run.standard_error for run in self.runs],
                "standard_error_gain": [run.standard_error_gain for run in self.runs],
                "nll_before": [run.nll_before for run in self.runs],
                "nll": [run.nll for run in self.runs],
                "wall_time_s": [run.wall_time_s for run in self.runs],
                "macro_f1": column("metrics", "macro_f1", "after"),
                "macro_auroc": column("metrics", "macro_auroc", "after"),
                "source_accuracy_before": column("source", "accuracy", "before"),
                "source_accuracy": column("source", "accuracy", "after"),
            }
        )


@dataclass(frozen=True)
class Ledger:
    """Measured runs in a JSON-lines file that may not exist yet."""

    path: Path

    def append(self, run: MeasuredRun) -> None:
        """Add a run durably; a broken last line of an earlier kill is closed first.

        UnkeptError, which has the run, when it cannot be written.
        """
        line = json.dumps(run.model_dump(mode="json"), ensure_ascii=False).encode() + b"\n"
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, flags, 0o644)
            try:
                size = os.fstat(descriptor).st_size
                line = b"\n" * (size > 0 and self._last_byte(descriptor, size) != b"\n") + line
                if os.write(descriptor, line) != len(line):
                    raise UnkeptError(f"{self.path}: the run is written only in part", run)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            sentence = f"{self.path}: the run cannot be written: {error.strerror}"
            raise UnkeptError(sentence, run) from None

    def read(self) -> LedgerContent:
        """Every run that can be read; an absent file holds none."""
        if not self.path.is_file():
            return LedgerContent((), 0)
        try:
            lines = self.path.read_bytes().split(b"\n")
        except OSError as error:
            raise SpecError(f"{self.path}: cannot be read: {error.strerror}") from None
        runs, problems = [], []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                runs.append(MeasuredRun.model_validate_json(line))
            except ValidationError as error:
                problems.append(f"line {number}: {first_problem(error)}")
        problem = ""
        if problems:
            many = f"{len(problems)} of {len(problems) + len(runs)} lines cannot be read"
            problem = f"{self.path}: {many} and are left out, the first is {problems[0]}"
        return LedgerContent(tuple(runs), len(problems), problem)

    @staticmethod
    def _last_byte(descriptor: int, size: int) -> bytes:
        os.lseek(descriptor, size - 1, os.SEEK_SET)
        return os.read(descriptor, 1)
