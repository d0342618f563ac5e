"""Several fidelities: screen by prediction, measure what tells most, predict anew, search on.

What is measured stays measured: it stands beside the score under its own name. Accuracy is
predicted afterwards only where that is earned (explorer.accuracy.calibrate); else the score
is what it was, and the front moves by nothing but the words of the measurement.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from explorer.accuracy.calibrate import Calibration
from explorer.accuracy.ranking import kendall_tau
from explorer.accuracy.records import (
    FEWEST_PAIRED,
    AnyProtocol,
    DesignRecord,
    Ledger,
    MeasuredRun,
    run_key,
)
from explorer.design import DesignBatch
from explorer.errors import CalibrationError, SpecError, check_whole
from explorer.paths import check_writable
from explorer.search.candidates import CandidateTable, ParetoFront
from explorer.search.control import SearchControl
from explorer.search.judge import calibrate_runs, design_keys, measured_accuracies
from explorer.search.loop import explore
from explorer.search.refinement import (
    Choice,
    MeasuredChoice,
    Refinement,
    measured_front,
    most_informative,
)
from explorer.search.sources import known_runs, measured_runs, own_ledger
from explorer.session import Session

if TYPE_CHECKING:
    from explorer.accuracy.torch_bridge import GraphModule

OnTuned = Callable[[int, int, int, int], None]

EPISODES, TUNING_EPISODES = 10, 4


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How designs are measured; None is as the runs at hand were, else the task's own.

    Runs are kept in `ledger`, the user's own one if absent, and none is made twice.
    """

    episodes: int | None = None
    tuning_episodes: int | None = None
    seed: int | None = None
    protocol: AnyProtocol | None = None
    ledger: Path | None = None


def refine(
    session: Session,
    front: ParetoFront,
    count: int,
    how: Measure | None = None,
    *,
    trials: int | None = None,
    space: str = "guided",
    on_tuned: OnTuned | None = None,
    control: SearchControl | None = None,
) -> ParetoFront:
    """A front with `count` of its designs measured, judged anew, and searched on.

    `trials` is how many more, as many as the front took if absent; there are none where the
    score does not change. `on_tuned(design, designs, done, total)` follows every fine-tuning.
    MissingDataError without the task's data or the network's weights, CancelledError when
    stopped; what was measured till then is kept, and the same call goes on.
    """
    check_whole("measure", count, 1)
    table, judge = front.table, session.problem.judge
    if table.designs.axes.names != session.graph.weighted:
        raise SpecError(f"front: its candidates are not of {session.graph.name}")
    choices = most_informative(table, judge, count, session.graph.norm)
    plan = _Plan.of(session, how or Measure())
    runs = plan.measured(table.designs, choices, on_tuned, control)
    calibration, reason = _calibrated(session, plan, runs)
    usual = judge.measured if plan.is_usual else {}
    measured = dict(usual) | measured_accuracies(session.graph, (*plan.beside, *runs))
    problem = session.problem_judged(
        replace(judge, calibration=None if reason else calibration, measured=measured)
    )
    again = problem.screen(table.designs, table.labels)
    after = replace(front, table=again)
    if problem.judge.calibration is not None:
        more = front.trial_count if trials is None else trials
        after = explore(
            problem,
            session._space(space),
            again,
            trials=more,
            sampler=front.sampler,
            seed=front.seed,
            question={},
            warm=False,
            control=control,
        )
        after = replace(after, trial_count=front.trial_count + after.trial_count)
    return replace(after, refinement=_moved(front, again, after, plan, choices, runs, reason))


def _calibrated(
    session: Session, plan: "_Plan", runs: Sequence[MeasuredRun]
) -> tuple[Calibration | None, str]:
    """A calibration on what was at hand and the new runs, and why it may not be used."""
    if not session.predicts:
        return None, "a proxy score, or another norm, was asked for"
    every = {
        run.key: run
        for run in (*plan.beside, *runs)
        if run.episodes >= plan.least_episodes and run.protocol == plan.protocol
    }
    try:
        found = calibrate_runs(session.graph, tuple(every.values()), session.scores)
    except CalibrationError as error:
        return None, str(error)
    return found, found.evidence.reason_against


def _moved(
    front: ParetoFront,
    again: CandidateTable,
    after: ParetoFront,
    plan: "_Plan",
    choices: Sequence[Choice],
    runs: Sequence[MeasuredRun],
    reason: str,
) -> Refinement:
    """What is different between a front and the one after measuring."""
    rows = np.array([choice.row for choice in choices], dtype=np.int64)
    accuracy = np.array([run.accuracy for run in runs])
    score = front.table.score[rows]
    best = measured_front(again)
    before, now = (_identities(one.table.take(one.rows)) for one in (front, after))
    members = again.take(front.rows)
    return Refinement(
        choices=tuple(
            MeasuredChoice(
                row=choice.row,
                why=choice.why,
                accuracy=run.accuracy,
                standard_error=np.nan if run.standard_error is None else run.standard_error,
                score_before=float(front.table.score[choice.row]),
                on_measured_front=bool(best[choice.row]),
            )
            for choice, run in zip(choices, runs, strict=True)
        ),
        episodes=plan.episodes,
        seed=plan.seed,
        reason_against=reason,
        tau=kendall_tau(score, accuracy) if len(rows) > 1 else np.nan,
        hypervolume_before=members.hypervolume,
        hypervolume_after=after.hypervolume,
        kept_count=len(before & now),
        left_count=len(before - now),
        entered_count=len(now - before),
    )


def _identities(table: CandidateTable) -> set[object]:
    return set(zip(design_keys(table.designs), table.designs.row_setups, strict=True))


@dataclass(frozen=True, eq=False, kw_only=True)
class _Plan:
    """How to measure, settled: `beside` are comparable runs, which new ones join.

    `is_usual` when accuracies are of one scale with those the session shows. Runs of less than
    `least_episodes` say what a design reached and calibrate nothing.
    """

    session: Session
    module: "GraphModule"
    weights_digest: str
    is_usual: bool
    least_episodes: int
    beside: tuple[MeasuredRun, ...]
    episodes: int
    tuning_episodes: int
    seed: int
    protocol: AnyProtocol
    data_digest: str
    ledger: Ledger

    @classmethod
    def of(cls, session: Session, how: Measure) -> "_Plan":
        from explorer.accuracy.course import task_protocol
        from explorer.accuracy.tasks import task_for
        from explorer.accuracy.torch_bridge import model_module, state_digest

        graph, task = session.graph, session.task_name
        path = how.ledger or own_ledger(graph, task).path
        check_writable(path)
        runs = known_runs(graph, task)
        like = runs[0] if runs else None
        data = task_for(task, graph.input_shape)
        usual = like.protocol if like else task_protocol(data)
        seed = like.seed if like else 0
        protocol = how.protocol or usual
        chosen = seed if how.seed is None else how.seed
        episodes = how.episodes or (like.episodes if like else EPISODES)
        module = model_module(graph)
        scale = (graph.digest, state_digest(module), task, protocol, chosen)
        kept = (*measured_runs(graph, task), *Ledger(path).read().of_data(data.digest))
        is_usual = like is None or (like.weights_digest, like.protocol) == scale[1:4:2]
        return cls(
            session=session,
            module=module,
            weights_digest=scale[1],
            is_usual=is_usual,
            least_episodes=like.episodes if like and is_usual else FEWEST_PAIRED,
            beside=tuple(
                run
                for run in kept
                if (run.model.digest, run.weights_digest, run.task, run.protocol, run.seed) == scale
            ),
            episodes=episodes,
            tuning_episodes=how.tuning_episodes
            or max((run.tuning.episodes for run in runs), default=TUNING_EPISODES),
            seed=chosen,
            protocol=protocol,
            data_digest=data.digest,
            ledger=Ledger(path),
        )

    def measured(
        self,
        designs: DesignBatch,
        choices: Sequence[Choice],
        on_tuned: OnTuned | None,
        control: SearchControl | None,
    ) -> list[MeasuredRun]:
        """Runs of the chosen designs, from the ledger where it has them."""
        from explorer.accuracy.course import measured_design
        from explorer.accuracy.finetune import measure

        graph, task = self.session.graph, self.session.task_name
        known = {run.key: run for run in self.ledger.read().of_data(self.data_digest)}
        runs = []
        for number, choice in enumerate(choices):
            policy = designs.policy(choice.row)
            record = DesignRecord.of(measured_design(policy, self.protocol))
            key = run_key(
                graph.digest,
                self.weights_digest,
                task,
                record,
                self.seed,
                self.episodes,
                self.protocol,
            )
            run = known.get(key)
            if run is None:
                run = measure(
                    graph,
                    task,
                    policy,
                    episodes=self.episodes,
                    tuning_episodes=self.tuning_episodes,
                    seed=self.seed,
                    protocol=self.protocol,
                    module=self.module,
                    on_episode=_told(on_tuned, number, len(choices)),
                    cancelled=None if control is None else lambda: control.is_stopped,
                )
                self.ledger.append(run)
            runs.append(run)
        return runs


def _told(on_tuned: OnTuned | None, number: int, count: int) -> Callable[[int, int], None] | None:
    if on_tuned is None:
        return None
    return lambda done, total: on_tuned(number, count, done, total)
