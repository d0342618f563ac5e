"""Named studies: kept in a storage, gone on with after any end, shared by workers.

What the trials of a study are is agreed on without a lock. Trial numbers are unique and rise,
so a worker that asked for a trial keeps it only if fewer earlier ones are told or in work than
the study shall have. Genes told before are not evaluated again: such a trial gets the same
values and the number of its twin as `same_as`. Genes another worker has in work are given up.
Work of a process that died is taken up by whoever comes; only a worker that sleeps longer
than HELD_S between asking and telling can make a study longer than asked.
"""

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.errors import SpecError
from explorer.search.candidates import CandidateTable, concatenate
from explorer.search.front import normalised_values
from explorer.search.problem import Problem
from explorer.search.space import SearchSpace
from explorer.units import IntArray

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import IntDistribution
    from optuna.trial import FrozenTrial

QUESTION = "question"
WORKER = "worker"
SAME_AS = "same_as"
FIXED = "fixed_params"  # Optuna's own name for the genes of a trial that waits in line
HELD_S = 60.0  # a trial asked for longer ago is not in work any more
ASKING_S, ASKING_PAUSE_S = 10.0, 0.02  # a trial without a worker's name is being asked for
WAIT_S = 0.1
LOCK_GRACE_S = 5  # a journal's lock older than that was left by a process that died
OPENINGS, OPENING_PAUSE_S = 5, 0.2  # workers that start at once make the tables of one database
DATABASE_PATIENCE_S = 60.0  # for a lock of sqlite

Genes = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlace:
    """Where a study lives: a name and a storage URL, or a journal file `NAME.journal`."""

    name: str
    storage: str | None = None

    @property
    def where(self) -> str:
        """The storage URL or the file."""
        return self.storage or f"{self.name}.journal"


@dataclass(eq=False, kw_only=True)
class Worker:
    """One process's view of a study; `store` holds each design once, `rows` by its genes."""

    study: "optuna.Study"
    problem: Problem
    space: SearchSpace
    store: CandidateTable | None = None
    rows: dict[Genes, int] = field(default_factory=dict)

    def told(self) -> tuple[CandidateTable | None, int]:
        """Designs of every told trial, whoever told it, and how many trials that are."""
        told = [trial for trial in self._trials() if _is_told(trial)]
        rows = self._rows_of([self._genes(trial.params) for trial in told])
        return (None if self.store is None else self.store.take(rows)), len(told)

    def work(self, distributions: "dict[str, IntDistribution]", count: int, trials: int) -> None:
        """Ask for at most `count` trials, evaluate and tell them; wait when none is left to ask.

        The study ends with `trials` told ones.
        """
        from optuna.trial import TrialState

        room = trials - sum(_is_told(trial) or _is_held(trial) for trial in self._trials())
        if room <= 0:
            time.sleep(WAIT_S)
            return
        asked = []
        for _ in range(min(count, room)):
            asked.append(self.study.ask(dict(distributions)))
            asked[-1].set_user_attr(WORKER, [socket.gethostname(), os.getpid()])
        mine = {trial.number for trial in asked}
        kept, first = [], dict[Genes, int]()
        for number, genes, ahead, others in self._order(mine):
            if ahead >= trials or genes in others:
                self.study.tell(number, state=TrialState.FAIL)
            else:
                first.setdefault(genes, number)
                kept.append((number, genes))
            if genes in others:  # two workers draw alike
                self.study.sampler.reseed_rng()
        self._tell({trial.number: trial for trial in asked}, kept, first)

    def _order(self, mine: set[int]) -> Iterator[tuple[int, Genes, int, set[Genes]]]:
        """Of my trials the number, genes, trials ahead of it, and genes others have in work."""
        ahead, others = 0, set[Genes]()
        for trial in self._asked_up_to(max(mine)):
            waits = trial.state.name == "WAITING"
            if trial.number in mine:
                yield trial.number, self._genes(trial.params), ahead, others
            elif waits:
                others.add(self._genes(trial.system_attrs[FIXED]))
            elif _is_held(trial):
                others.add(self._genes(trial.params))
            ahead += waits or _is_told(trial) or _is_held(trial)

    def _asked_up_to(self, last: int) -> "list[FrozenTrial]":
        """Trials by number, once those that others are just asking for have all their genes."""
        while True:
            trials = self._trials()[: last + 1]
            if all(len(t.params) == len(self._names) for t in trials if _is_held(t)):
                return trials
            time.sleep(ASKING_PAUSE_S)

    def _tell(
        self,
        asked: "dict[int, optuna.Trial]",
        kept: list[tuple[int, Genes]],
        first: dict[Genes, int],
    ) -> None:
        twins = {self._genes(t.params): t.number for t in self._trials() if _is_told(t)}
        rows = self._rows_of([genes for _, genes in kept])
        if self.store is None or not kept:
            return
        goals = normalised_values(self.store.values[rows], self.store.objectives)
        for (number, genes), goal, over in zip(
            kept, goals, self.store.violations[rows], strict=True
        ):
            twin = twins.get(genes, first[genes])
            if twin != number:
                asked[number].set_user_attr(SAME_AS, twin)
            for index, value in enumerate(over):
                asked[number].set_constraint(f"over_{index}", float(value))
            self.study.tell(number, [float(value) for value in goal])

    def _rows_of(self, genes: list[Genes]) -> IntArray:
        """Rows of the store; designs that are not there yet are screened in one call."""
        new = list(dict.fromkeys(one for one in genes if one not in self.rows))
        if new:
            found = self.problem.screen(self.space.decode(np.array(new)))
            start = len(self.rows)
            self.store = found if self.store is None else concatenate([self.store, found])
            self.rows |= {one: start + at for at, one in enumerate(new)}
        return np.array([self.rows[one] for one in genes], dtype=np.int64)

    def _genes(self, params: Mapping[str, Any]) -> Genes:
        return tuple(int(params[name]) for name in self._names)

    @property
    def _names(self) -> list[str]:
        return [gene.name for gene in self.space.genes]

    def _trials(self) -> "list[FrozenTrial]":
        return self.study.get_trials(deepcopy=False)


def open_study(
    sampler: "optuna.samplers.BaseSampler",
    directions: "list[optuna.study.StudyDirection]",
    question: Mapping[str, Any],
    place: StudyPlace,
) -> "optuna.Study":
    """The study at a place; SpecError when it cannot be opened or asks another question."""
    import optuna

    try:
        study = optuna.create_study(
            study_name=place.name,
            storage=_storage(place),
            directions=directions,
            sampler=sampler,
            load_if_exists=True,
        )
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SpecError(f"study {place.name}: {place.where} cannot be opened: {reason}") from error
    asked = json.dumps(question, sort_keys=True)
    before = study.user_attrs.get(QUESTION)
    if before is None:
        study.set_user_attr(QUESTION, asked)
    elif before != asked:
        raise SpecError(f"study {place.name}: {_difference(before, question)}; take another name")
    return study


def _difference(before: str, question: Mapping[str, Any]) -> str:
    """What an existing study asks otherwise: `device was gap9, is stm32h743`."""
    known: dict[str, Any] = json.loads(before)
    return ", ".join(
        f"{name} was {known.get(name)}, is {value}"
        for name, value in question.items()
        if known.get(name) != value
    )


def _storage(place: StudyPlace) -> "optuna.storages.BaseStorage":
    if place.storage is None:
        return _journal(Path(place.where))
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import DBAPIError

    patience = {"connect_args": {"timeout": DATABASE_PATIENCE_S}}
    options = patience if place.storage.startswith("sqlite") else {}
    for _ in range(OPENINGS):
        try:
            return RDBStorage(place.storage, engine_kwargs=options)
        except DBAPIError:
            time.sleep(OPENING_PAUSE_S)
    return RDBStorage(place.storage, engine_kwargs=options)


def _journal(path: Path) -> "optuna.storages.JournalStorage":
    """A journal, without the half line that a process may have left when it died."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    lock = JournalFileSymlinkLock(str(path), grace_period=LOCK_GRACE_S)
    backend = JournalFileBackend(str(path), lock)
    with _locked(lock), path.open("r+b") as file:
        kept = file.read().rfind(b"\n") + 1
        file.truncate(kept)
    return JournalStorage(backend)


@contextmanager
def _locked(lock: Any) -> Iterator[None]:
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_told(trial: "FrozenTrial") -> bool:
    return trial.state.name == "COMPLETE"


def _is_held(trial: "FrozenTrial") -> bool:
    """Whether a worker that lives, as far as can be known, has a trial in work."""
    if trial.state.name != "RUNNING" or trial.datetime_start is None:
        return False
    age_s = (datetime.now() - trial.datetime_start).total_seconds()
    if WORKER not in trial.user_attrs:
        return abs(age_s) < ASKING_S
    host, process = trial.user_attrs[WORKER]
    return abs(age_s) < HELD_S and (host != socket.gethostname() or _lives(int(process)))


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
