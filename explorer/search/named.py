"""Named studies: kept in a storage, gone on with after any end, shared by workers.

Workers take turns: whoever reads or writes the study holds its lock, which ends with the
process. In a turn a worker learns what others told, draws genes in memory and either tells
them at once or, where evaluating takes long, writes them down as running under its name, which
it holds a lock on as long as it lives. So a study never has more trials than asked for, and a
running trial whose worker is gone is failed and its genes are drawn again, once.
"""

import json
import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.document import design_record
from explorer.errors import SpecError
from explorer.search.candidates import CandidateTable
from explorer.search.draws import BATCH, DONE, PRUNED, REASON, Draws
from explorer.search.locks import FILE_DATABASE, FileLocks, Locks, database_locks
from explorer.search.problem import Problem, Tried

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage, JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileOpenLock
    from optuna.trial import FrozenTrial

QUESTION, POLICY, WORKER = "question", "policy", "worker"  # attributes of study and trial
CONSTRAINTS = "constraints"  # as a list Optuna reads them, and its dashboard shows them
WORDS = {"min": "MINIMIZE", "max": "MAXIMIZE"}
TURN = "turn"
WAIT_S = 0.1
LOCK_GRACE_S = 5  # Optuna's own lock of a journal outlives its process
DATABASE_PATIENCE_S = 60.0  # for one who only looks at an SQLite file


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
class NamedStudy:
    """One worker's part in a study; `draws` holds the sampler and every told candidate."""

    study: "optuna.Study"
    storage: "BaseStorage"
    draws: Draws
    locks: Locks
    turn: Callable[[], AbstractContextManager[None]]
    worker: str = field(default_factory=lambda: uuid.uuid4().hex)
    learnt: set[int] = field(default_factory=set)

    def work(self, trials: int) -> None:
        """Ask for some trials, evaluate and tell them; wait when others have the last in work."""
        if self.draws.problem.takes_long:
            self._work_between_turns(trials)
            return
        with self.turn():
            asked = self._ask(BATCH, trials)
            if asked:
                tried = self.draws.screen(asked)
                self._add(self.draws.tell(asked, tried), tried.table)

    def learn(self) -> None:
        """Join what others told."""
        with self.turn():
            self._learn()

    def _work_between_turns(self, trials: int) -> None:
        with self.turn():
            asked = self._ask(1, trials)
            self._add(self.draws.running())
        if not asked:
            time.sleep(WAIT_S)
            return
        tried = self.draws.screen(asked)
        with self.turn():
            self.draws.tell(asked, tried)
            self._tell(tried)

    def _ask(self, count: int, trials: int) -> "list[optuna.Trial]":
        """At most `count` trials, so many that the study ends with `trials`."""
        from optuna.trial import TrialState

        kept = self._learn()
        running = [trial for trial in kept if _runs(trial) and WORKER in trial.user_attrs]
        gone = {
            worker
            for worker in {trial.user_attrs[WORKER] for trial in running} - {self.worker}
            if self.locks.is_free(worker)
        }
        held = [trial for trial in running if trial.user_attrs[WORKER] not in gone]
        room = max(0, min(count, trials - self.draws.told - len(held)))
        orphans = [trial for trial in running if trial.user_attrs[WORKER] in gone][:room]
        for trial in orphans:
            self.study.tell(trial.number, state=TrialState.FAIL)
        self.draws.skip([self.draws.genes(trial.params) for trial in held])
        again = [self.draws.genes(trial.params) for trial in orphans]
        return self.draws.ask(room, first=again, after=len(kept))

    def _learn(self) -> "list[FrozenTrial]":
        """Every trial; those that others told since last time are joined."""
        kept = self.study.get_trials(deepcopy=False)
        new = [
            trial
            for trial in kept
            if trial.state.name in (DONE, PRUNED)
            and trial.number not in self.learnt
            and trial.user_attrs.get(WORKER) != self.worker
        ]
        self.draws.learn(new)
        self.learnt.update(trial.number for trial in new)
        return kept

    def _add(self, trials: "list[FrozenTrial]", batch: CandidateTable | None = None) -> None:
        """Write trials down under this worker's name, each at once with its whole policy."""
        from optuna.trial import create_trial

        for row, trial in enumerate(trials):
            design = self.draws.designs([trial])[0]
            policy = json.dumps(design_record(design), separators=(",", ":"))
            values, system = None, trial.system_attrs
            if batch is not None:
                values = batch.values[row].tolist()
                system = {k: v for k, v in system.items() if not k.startswith(CONSTRAINTS)}
                system[CONSTRAINTS] = batch.violations[row].tolist()
            self.study.add_trial(
                create_trial(
                    state=trial.state,
                    params=trial.params,
                    distributions=trial.distributions,
                    values=values,
                    user_attrs={POLICY: policy, WORKER: self.worker},
                    system_attrs=system,
                )
            )

    def _tell(self, tried: Tried) -> None:
        """Finish the trials that run under this worker's name, in their order."""
        from optuna.trial import TrialState

        running = [
            trial
            for trial in self.study.get_trials(deepcopy=False)
            if _runs(trial) and trial.user_attrs.get(WORKER) == self.worker
        ]
        table = tried.table
        for trial, row, reason in zip(running, tried.rows, tried.reasons, strict=True):
            if row is None:
                self.storage.set_trial_user_attr(trial._trial_id, REASON, reason)
                self.study.tell(trial.number, state=TrialState.PRUNED)
                continue
            over = table.violations[row].tolist()
            self.storage.set_trial_system_attr(trial._trial_id, CONSTRAINTS, over)
            self.study.tell(trial.number, table.values[row].tolist())


def exists(place: StudyPlace) -> bool:
    """Whether somebody has begun the study; SpecError when its storage cannot be opened."""
    import optuna

    if place.storage is None:
        return Path(place.where).exists()
    try:
        with _database(place.storage) as storage:
            return place.name in optuna.get_all_study_names(storage)
    except Exception as error:
        raise _refused(place, "opened", error) from error


def _refused(place: StudyPlace, what: str, error: BaseException) -> SpecError:
    """The storage's own reason: a failed commit hides the database's behind its own."""
    if what == "written" and error.__cause__ is not None:
        error = error.__cause__
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return SpecError(f"study {place.name}: {place.where} cannot be {what}: {reason}")


@contextmanager
def joined(place: StudyPlace, draws: Draws, question: Mapping[str, Any]) -> Iterator[NamedStudy]:
    """Work on the study at a place; SpecError when it cannot be, or asks another question.

    So it is when the storage fails meanwhile: what is written is kept, and gone on with.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    with ExitStack() as stack:
        try:
            named = stack.enter_context(_opened(place, draws, question))
        except SpecError:
            raise
        except Exception as error:
            raise _refused(place, "opened", error) from error
        try:
            yield named
        except (OSError, StorageInternalError, SQLAlchemyError) as error:
            raise _refused(place, "written", error) from error


@contextmanager
def _opened(place: StudyPlace, draws: Draws, question: Mapping[str, Any]) -> Iterator[NamedStudy]:
    with ExitStack() as stack:
        locks: Locks
        turn: Callable[[], AbstractContextManager[None]]
        make: Callable[[], AbstractContextManager[BaseStorage]]
        if place.storage is None:
            path = Path(place.where).absolute()
            locks = FileLocks(path)
            turn, make = partial(_journal_turn, locks, path), partial(_journal, path)
        else:
            locks = stack.enter_context(database_locks(place.storage, place.name))
            turn, make = partial(locks.held, TURN), partial(_database, place.storage)
        with turn():
            storage = stack.enter_context(make())
            study = _study(storage, place.name, draws.problem, question)
        named = NamedStudy(study=study, storage=storage, draws=draws, locks=locks, turn=turn)
        if draws.problem.takes_long:
            stack.enter_context(locks.held(named.worker, once=True))
        named.learn()
        yield named


def _study(
    storage: "BaseStorage", name: str, problem: Problem, question: Mapping[str, Any]
) -> "optuna.Study":
    """The study of that name; SpecError when it was made for another question."""
    import optuna

    study = optuna.create_study(
        study_name=name,
        storage=storage,
        directions=[
            optuna.study.StudyDirection[WORDS[objective.sense]] for objective in problem.objectives
        ],
        sampler=optuna.samplers.RandomSampler(),  # Draws have the sampler that draws
        load_if_exists=True,
    )
    asked = json.dumps(question, sort_keys=True)
    before = study.user_attrs.get(QUESTION)
    if before is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([objective.name for objective in problem.objectives])
        study.set_user_attr(QUESTION, asked)
    elif before != asked:
        raise SpecError(f"study {name}: {_difference(before, question)}; take another name")
    return study


def _difference(before: str, question: Mapping[str, Any]) -> str:
    """What an existing study asks otherwise: `device was gap9, is stm32h743`."""
    known: dict[str, Any] = json.loads(before)
    return ", ".join(
        f"{name} was {known.get(name)}, is {question.get(name)}"
        for name in known | dict(question)
        if known.get(name) != question.get(name)
    )


@contextmanager
def _database(url: str) -> "Iterator[RDBStorage]":
    from optuna.storages import RDBStorage

    patience = {"connect_args": {"timeout": DATABASE_PATIENCE_S}}
    storage = RDBStorage(url, engine_kwargs=patience if url.startswith(FILE_DATABASE) else {})
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


@contextmanager
def _journal(path: Path) -> "Iterator[JournalStorage]":
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    yield JournalStorage(JournalFileBackend(str(path), _journal_lock(path)))


@contextmanager
def _journal_turn(locks: Locks, path: Path) -> Iterator[None]:
    """A turn that begins without the half line of a process that died while it wrote."""
    with locks.held(TURN):
        if not _ends_well(path):
            from optuna.storages.journal._file import get_lock_file

            with get_lock_file(_journal_lock(path)), path.open("r+b") as file:
                file.truncate(file.read().rfind(b"\n") + 1)
        yield


def _ends_well(path: Path) -> bool:
    if not path.exists() or not path.stat().st_size:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _journal_lock(path: Path) -> "JournalFileOpenLock":
    """Optuna's own, which keeps out whoever else writes, such as a dashboard."""
    from optuna.storages.journal import JournalFileOpenLock

    return JournalFileOpenLock(str(path), grace_period=LOCK_GRACE_S)


def _runs(trial: "FrozenTrial") -> bool:
    return trial.state.name == "RUNNING"
