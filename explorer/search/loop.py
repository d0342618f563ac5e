"""The search: ask Optuna for a batch of genes, screen it in one call, tell it back.

A study may live in a storage (named.py); then a search that was interrupted goes on where
it stopped, and its sampler draws anew: told trials are decoded and screened once.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer import catalog
from explorer.errors import check_whole
from explorer.search.candidates import CandidateTable, ParetoFront, concatenate
from explorer.search.control import SearchControl
from explorer.search.front import normalised_values
from explorer.search.named import StudyPlace, Worker, open_study
from explorer.search.problem import Problem
from explorer.search.space import SearchSpace
from explorer.search.sweep import warm_start

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import IntDistribution

OnBatch = Callable[[int, int, CandidateTable, float], None]

BATCH = 25
LARGEST_SEED = 2**32 - 1


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
    started = warm_start(problem, space, trials) if warm else None
    if started is not None:
        known = concatenate([known, started])
    study = _study(partial(_sampler, sampler), seed, len(problem.objectives), question, place)
    worker = Worker(study=study, problem=problem, space=space)
    table, done = _joined(known, worker)
    if not study.get_trials(deepcopy=False):
        for row in space.seeds():
            names = [gene.name for gene in space.genes]
            study.enqueue_trial(dict(zip(names, (int(value) for value in row), strict=True)))
    distributions = _distributions(space)
    while done < trials and (control is None or control.proceed()):
        if place is None:
            batch = _batch(study, problem, space, distributions, min(BATCH, trials - done))
            table, done = concatenate([table, batch]), done + len(batch)
        else:  # others may have told trials too
            worker.work(distributions, BATCH, trials)
            table, done = _joined(known, worker)
        if on_batch is not None:
            on_batch(done, trials, table, table.hypervolume)
    return ParetoFront(table=table, seed=seed, sampler=sampler, trial_count=done)


def _joined(known: CandidateTable, worker: Worker) -> tuple[CandidateTable, int]:
    """Known policies and the designs of every told trial, and how many trials that are."""
    told, done = worker.told()
    return (known if told is None else concatenate([known, told])), done


def _study(
    make: Callable[[int], "optuna.samplers.BaseSampler"],
    seed: int,
    goal_count: int,
    question: Mapping[str, Any],
    place: StudyPlace | None,
) -> "optuna.Study":
    """A study in memory, or the one at a place; one that has trials draws others than before."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [optuna.study.StudyDirection.MINIMIZE] * goal_count
    if place is None:
        return optuna.create_study(directions=directions, sampler=make(seed))
    study = open_study(make(seed), directions, question, place)
    count = len(study.get_trials(deepcopy=False))
    if count:
        study.sampler = make(int(np.random.SeedSequence([seed, count]).generate_state(1)[0]))
    return study


def _sampler(name: str, seed: int) -> "optuna.samplers.BaseSampler":
    made: optuna.samplers.BaseSampler = catalog.load("sampler", name).make(seed)
    return made


def _distributions(space: SearchSpace) -> "dict[str, IntDistribution]":
    from optuna.distributions import IntDistribution

    return {gene.name: IntDistribution(gene.low, gene.high) for gene in space.genes}


def _batch(
    study: "optuna.Study",
    problem: Problem,
    space: SearchSpace,
    distributions: "dict[str, IntDistribution]",
    count: int,
) -> CandidateTable:
    """Ask, screen and tell one batch."""
    trials = [study.ask(dict(distributions)) for _ in range(count)]
    genes = np.array([[trial.params[gene.name] for gene in space.genes] for trial in trials])
    batch = problem.screen(space.decode(genes))
    goals = normalised_values(batch.values, batch.objectives)
    for row, trial in enumerate(trials):
        for index, over in enumerate(batch.violations[row]):
            trial.set_constraint(f"over_{index}", float(over))
        study.tell(trial, [float(value) for value in goals[row]])
    return batch
