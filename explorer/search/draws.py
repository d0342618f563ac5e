"""Genes drawn by one of Optuna's samplers, in memory, and the candidates they became."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.design import DesignBatch
from explorer.search.candidates import CandidateTable, concatenate
from explorer.search.front import normalised_values
from explorer.search.problem import Problem
from explorer.search.space import SearchSpace

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

Genes = tuple[int, ...]

BATCH = 25


class Draws:
    """A sampler that asks and is told; `table` holds `known` and one row a told trial.

    The plain policies of the space come first. A search that follows `after` trials of a named
    study draws others than they were.
    """

    def __init__(
        self,
        problem: Problem,
        space: SearchSpace,
        known: CandidateTable,
        make: "Callable[[int], optuna.samplers.BaseSampler]",
        seed: int,
    ) -> None:
        import optuna
        from optuna.distributions import IntDistribution

        self.problem, self.space, self.table, self.told = problem, space, known, 0
        self.study = optuna.create_study(
            directions=[optuna.study.StudyDirection.MINIMIZE] * len(problem.objectives),
            sampler=make(seed),
        )
        self.distributions: dict[str, IntDistribution] = {
            gene.name: IntDistribution(gene.low, gene.high) for gene in space.genes
        }
        self._make, self._seed, self._has_drawn = make, seed, False
        self._line: list[Genes] = [tuple(map(int, row)) for row in space.seeds()]

    def work(self, trials: int) -> None:
        """Ask for a batch, at most up to `trials` told ones, screen and tell it."""
        asked = self.ask(min(BATCH, trials - self.told))
        self.tell(asked, self.screen(asked))

    def ask(
        self, count: int, *, first: Sequence[Genes] = (), after: int = 0
    ) -> "list[optuna.Trial]":
        """Trials with genes: `first`, plain policies, then what the sampler draws."""
        if after and not self._has_drawn:
            entropy = np.random.SeedSequence([self._seed, after])
            self.study.sampler = self._make(int(entropy.generate_state(1)[0]))
        self._has_drawn = True
        line = list(dict.fromkeys([*first, *self._line]))
        for genes in line[:count]:
            self.study.enqueue_trial(dict(zip(self.distributions, genes, strict=True)))
        self.skip(line[:count])
        return [self.study.ask(dict(self.distributions)) for _ in range(count)]

    def skip(self, genes: Sequence[Genes]) -> None:
        """Leave out plain policies that someone else has asked for."""
        if self._line:
            taken = set(genes)
            self._line = [one for one in self._line if one not in taken]

    def designs(self, trials: "Sequence[optuna.Trial | FrozenTrial]") -> DesignBatch:
        """Designs of trials [P]."""
        return self.space.decode(np.array([self.genes(trial.params) for trial in trials]))

    def screen(self, trials: "Sequence[optuna.Trial]") -> CandidateTable:
        """Candidates of trials [P], in one call."""
        return self.problem.screen(self.designs(trials))

    def tell(self, asked: "list[optuna.Trial]", batch: CandidateTable) -> "list[FrozenTrial]":
        """Values and violations of asked trials, from their rows; the trials as they ended."""
        told = []
        for trial, values, over in zip(asked, _values(batch), batch.violations, strict=True):
            for index, value in enumerate(over):
                trial.set_constraint(f"over_{index}", float(value))
            told.append(self.study.tell(trial, values))
        self._join(batch)
        return told

    def running(self) -> "list[FrozenTrial]":
        """Trials asked for and not told."""
        from optuna.trial import TrialState

        return self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def learn(self, told: "Sequence[FrozenTrial]") -> None:
        """Trials that were told elsewhere: screened once, and the sampler knows them."""
        from optuna.trial import create_trial

        if not told:
            return
        self.skip([self.genes(trial.params) for trial in told])
        batch = self.problem.recall(self.designs(told))
        for trial, values in zip(told, _values(batch), strict=True):
            self.study.add_trial(
                create_trial(
                    values=values,
                    params=trial.params,
                    distributions=trial.distributions,
                    system_attrs=trial.system_attrs,
                )
            )
        self._join(batch)

    def genes(self, params: Mapping[str, Any]) -> Genes:
        """Genes of a trial's parameters, in the order of the space."""
        return tuple(int(params[name]) for name in self.distributions)

    def _join(self, batch: CandidateTable) -> None:
        self.table, self.told = concatenate([self.table, batch]), self.told + len(batch)


def _values(batch: CandidateTable) -> list[list[float]]:
    """Objective values as the sampler sees them: minimised, in units of their scales."""
    values: list[list[float]] = normalised_values(batch.values, batch.objectives).tolist()
    return values
