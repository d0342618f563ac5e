"""The search: ask Optuna for a batch of genes, screen it in one call, tell it back.

A study may live in a storage (named.py); then a search that was interrupted goes on where
it stopped, and others may work on it at the same time.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from explorer import catalog
from explorer.accuracy.progress import CancelledError
from explorer.errors import SpecError, check_whole
from explorer.search.candidates import CandidateTable, ParetoFront, concatenate
from explorer.search.control import SearchControl
from explorer.search.draws import Draws
from explorer.search.named import StudyPlace, joined
from explorer.search.problem import Problem
from explorer.search.space import SearchSpace
from explorer.search.sweep import warm_start

OnBatch = Callable[[int, int, CandidateTable, float], None]

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
    hypervolume)` is called after every batch, before the first trial with `done` 0. The same
    seed gives the same trials. One without a value is left out with its reason in `notes`;
    SpecError when all are.
    """
    import optuna

    check_whole("trials", trials, 0)
    check_whole("seed", seed, 0, LARGEST_SEED)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for good in warm_start(problem, space, trials) if warm else ():
        known = concatenate([known, good])
        if on_batch is not None:
            on_batch(0, trials, known, known.hypervolume)
        if control is not None and not control.proceed():
            break
    draws = Draws(problem, space, known, catalog.load("sampler", sampler).make, seed)
    with nullcontext(draws) if place is None else joined(place, draws, question) as study:
        while draws.told < trials and (control is None or control.proceed()):
            try:
                study.work(trials)
            except CancelledError:
                break
            if on_batch is not None:
                on_batch(draws.told, trials, draws.table, draws.table.hypervolume)
    if draws.left_out and not len(draws.table):
        raise SpecError(f"search: no design of {draws.told} has a value: {draws.left_out[0]}")
    counted = Counter(draws.left_out).items()
    left_out = [f"{count} of {draws.told} trials are left out: {why}" for why, count in counted]
    return ParetoFront(
        table=draws.table,
        seed=seed,
        sampler=sampler,
        trial_count=draws.told,
        limits=problem.all_limits,
        notes=(*problem.notes, *space.notes, *left_out),
    )
