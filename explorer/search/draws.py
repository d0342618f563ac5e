"""Genes drawn by one of Optuna's samplers, in memory, and the candidates they became."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.design import DesignBatch
from explorer.search.candidates import CandidateTable, concatenate
from explorer.search.front import normalised_values
from explorer.search.problem import Problem, Tried
from explorer.search.space import SearchSpace

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

Genes = tuple[int, ...]

BATCH = 25
REASON = "reason"  # attribute of a pruned trial
DONE, PRUNED = "COMPLETE", "PRUNED"  # states of trials that were told


class Draws:
    """A sampler that asks and is told; `table` holds `known` and one row a told trial.

    A trial whose design has no value for what is asked is told, too, as pruned, and has no row;
    `left_out` are the reasons.

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
        self.left_out: list[str] = []
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

    def screen(self, trials: "Sequence[optuna.Trial]") -> Tried:
        """Candidates of trials [P], in one call."""
        return self.problem.tried(self.designs(trials))

    def tell(self, asked: "list[optuna.Trial]", tried: Tried) -> "list[FrozenTrial]":
        """Values and violations of asked trials, from their rows; the trials as they ended."""
        from optuna.trial import TrialState

        told = []
        values, violations = _values(tried.table), tried.table.violations
        for trial, row, reason in zip(asked, tried.rows, tried.reasons, strict=True):
            if row is None:
                trial.set_user_attr(REASON, reason)
                told.append(self.study.tell(trial, state=TrialState.PRUNED))
                continue
            for index, value in enumerate(violations[row]):
                trial.set_constraint(f"over_{index}", float(value))
            told.append(self.study.tell(trial, values[row]))
        self._join(tried.table)
        self._leave_out(filter(None, tried.reasons))
        return told

    def running(self) -> "list[FrozenTrial]":
        """Trials asked for and not told."""
        from optuna.trial import TrialState

        return self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def learn(self, told: "Sequence[FrozenTrial]") -> None:
        """Trials that were told elsewhere: screened once, and the sampler knows them."""
        from optuna.trial import create_trial

        self.skip([self.genes(trial.params) for trial in told])
        done = [trial for trial in told if trial.state.name == DONE]
        values: dict[int, list[float]] = {}
        if done:
            batch = self.problem.recall(self.designs(done))
            values = dict(zip((trial.number for trial in done), _values(batch), strict=True))
            self._join(batch)
        for trial in told:
            self.study.add_trial(
                create_trial(
                    state=trial.state,
                    values=values.get(trial.number),
                    params=trial.params,
                    distributions=trial.distributions,
                    system_attrs=trial.system_attrs,
                )
            )
        self._leave_out(trial.user_attrs[REASON] for trial in told if trial.state.name != DONE)

    def genes(self, params: Mapping[str, Any]) -> Genes:
        """Genes of a trial's parameters, in the order of the space."""
        return tuple(int(params[name]) for name in self.distributions)

    def _join(self, batch: CandidateTable) -> None:
        self.table, self.told = concatenate([self.table, batch]), self.told + len(batch)

    def _leave_out(self, reasons: Iterable[str]) -> None:
        before = len(self.left_out)
        self.left_out += reasons
        self.told += len(self.left_out) - before


def _values(batch: CandidateTable) -> list[list[float]]:
    """Objective values as the sampler sees them: minimised, in units of their scales."""
    values: list[list[float]] = normalised_values(batch.values, batch.objectives).tolist()
    return values
