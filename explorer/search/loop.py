"""The search: ask Optuna for a batch of genes, screen it in one call, tell it back.

A study may live in a storage; then a search that was interrupted goes on where it
stopped: finished trials are decoded and screened again, which costs milliseconds.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer import catalog
from explorer.errors import SpecError, check_whole
from explorer.search.candidates import CandidateTable, ParetoFront, concatenate
from explorer.search.control import SearchControl
from explorer.search.front import normalised_values
from explorer.search.problem import Problem
from explorer.search.space import SearchSpace
from explorer.search.sweep import warm_start

if TYPE_CHECKING:
    import optuna

OnBatch = Callable[[int, int, CandidateTable, float], None]

BATCH = 25
QUESTION = "question"
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlace:
    """Where a study lives: a name and a storage URL, or a journal file `NAME.journal`."""

    name: str
    storage: str | None = None


def explore(
    problem: Problem,
    space: SearchSpace,
    known: CandidateTable,
    *,
    trials: int,
    sampler: str,
    seed: int,
    question: Mapping[str, Any],
    place: StudyPlace | None = None,
    warm: bool = True,
    on_batch: OnBatch | None = None,
    control: SearchControl | None = None,
) -> ParetoFront:
    """Search until the study has `trials` trials, or until stopped.

    `known` policies join the candidates as they are, and with `warm` about as many designs of
    `warm_start` as there are trials; neither enters the study. `on_batch(done, total, table,
    hypervolume)` is called after every batch. The same seed gives the same trials.
    """
    check_whole("trials", trials, 0)
    check_whole("seed", seed, 0, LARGEST_SEED)
    study = _open_study(catalog.load("sampler", sampler).make(seed), problem, question, place)
    started = warm_start(problem, space, trials) if warm else None
    if started is not None:
        known = concatenate([known, started])
    table, done = _told(study, problem, space, known)
    if not done:
        for row in space.seeds():
            names = [gene.name for gene in space.genes]
            study.enqueue_trial(dict(zip(names, (int(value) for value in row), strict=True)))
    while done < trials and (control is None or control.proceed()):
        batch = _batch(study, problem, space, min(BATCH, trials - done))
        if place is None:
            table, done = concatenate([table, batch]), done + len(batch)
        else:  # others may have told trials too
            table, done = _told(study, problem, space, known)
        if on_batch is not None:
            on_batch(done, trials, table, table.hypervolume)
    return ParetoFront(
        table=table,
        seed=seed,
        sampler=sampler,
        trial_count=done,
        limits=problem.all_limits,
        notes=(*problem.notes, *space.notes),
    )


def _batch(
    study: "optuna.Study", problem: Problem, space: SearchSpace, count: int
) -> CandidateTable:
    """Ask, screen and tell one batch."""
    from optuna.distributions import BaseDistribution, IntDistribution

    distributions: dict[str, BaseDistribution] = {
        gene.name: IntDistribution(gene.low, gene.high) for gene in space.genes
    }
    trials = [study.ask(distributions) for _ in range(count)]
    genes = np.array([[trial.params[gene.name] for gene in space.genes] for trial in trials])
    batch = problem.screen(space.decode(genes))
    goals = normalised_values(batch.values, batch.objectives)
    for row, trial in enumerate(trials):
        for index, over in enumerate(batch.violations[row]):
            trial.set_constraint(f"over_{index}", float(over))
        study.tell(trial, [float(value) for value in goals[row]])
    return batch


def _told(
    study: "optuna.Study", problem: Problem, space: SearchSpace, known: CandidateTable
) -> tuple[CandidateTable, int]:
    """Known policies and the designs of every told trial, and how many trials that are."""
    from optuna.trial import TrialState

    told = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not told:
        return known, 0
    genes = np.array([[trial.params[gene.name] for gene in space.genes] for trial in told])
    return concatenate([known, problem.screen(space.decode(genes))]), len(told)


def _open_study(
    sampler: "optuna.samplers.BaseSampler",
    problem: Problem,
    question: Mapping[str, Any],
    place: StudyPlace | None,
) -> "optuna.Study":
    """A study in memory, or the one at a place if it asks the same question."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [optuna.study.StudyDirection.MINIMIZE] * len(problem.objectives)
    if place is None:
        return optuna.create_study(directions=directions, sampler=sampler)
    try:
        study = optuna.create_study(
            study_name=place.name,
            storage=_storage(place),
            directions=directions,
            sampler=sampler,
            load_if_exists=True,
        )
    except Exception as error:
        where = place.storage or f"{place.name}.journal"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SpecError(f"study {place.name}: {where} cannot be opened: {reason}") from error
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


def _storage(place: StudyPlace) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if place.storage is not None:
        return place.storage
    return JournalStorage(JournalFileBackend(f"{place.name}.journal"))
