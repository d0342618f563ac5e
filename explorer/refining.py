"""Several fidelities: screen by prediction, measure what tells most, predict anew, search on.

What is measured stays measured: it stands beside the score under its own name. Accuracy is
predicted afterwards only where that is earned (explorer.accuracy.calibrate); else the score
is what it was, and the front moves by nothing but the words of the measurement.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from explorer import catalog
from explorer.accuracy.calibrate import Calibration
from explorer.accuracy.protocols import AnyProtocol
from explorer.accuracy.ranking import FEWEST_PAIRED, kendall_tau
from explorer.accuracy.records import Ledger, MeasuredRun
from explorer.design import DesignBatch
from explorer.errors import CalibrationError, SpecError, check_whole
from explorer.paths import check_writable
from explorer.search.candidates import CandidateTable, ParetoFront
from explorer.search.control import SearchControl
from explorer.search.judge import (
    calibrate_runs,
    design_keys,
    known_columns,
    known_of,
    measured_designs,
)
from explorer.search.loop import explore
from explorer.search.measurer import Measurer
from explorer.search.refinement import (
    Choice,
    MeasuredChoice,
    Refinement,
    measured_front,
    most_informative,
)
from explorer.search.sources import known_runs, measured_runs, own_ledger
from explorer.session import Session

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
    every = (*plan.beside, *runs)
    measured = dict(usual) | measured_designs(session.graph, every, judge.metric)
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
        if run.episodes >= plan.least_episodes and run.protocol == plan.measurer.rules
    }
    try:
        found = calibrate_runs(
            session.graph, tuple(every.values()), session.scores, session.metric_column
        )
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
    metric = front.table.worth.metric
    known = [known_of(run, metric) for run in runs]
    score = front.table.score[rows]
    best = measured_front(again)
    before, now = (_identities(one.table.take(one.rows)) for one in (front, after))
    members = again.take(front.rows)
    return Refinement(
        metric=metric,
        choices=tuple(
            MeasuredChoice(
                row=choice.row,
                why=choice.why,
                accuracy=one.accuracy,
                standard_error=one.accuracy_error,
                measured=one.measured,
                measured_error=one.measured_error,
                score_before=float(front.table.score[choice.row]),
                on_measured_front=bool(best[choice.row]),
            )
            for choice, one in zip(choices, known, strict=True)
        ),
        episodes=plan.measurer.episodes,
        seed=plan.measurer.seed,
        reason_against=reason,
        tau=kendall_tau(score, known_columns(known).measured) if len(rows) > 1 else np.nan,
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

    measurer: Measurer
    is_usual: bool
    least_episodes: int
    beside: tuple[MeasuredRun, ...]

    @classmethod
    def of(cls, session: Session, how: Measure) -> "_Plan":
        graph, task = session.graph, session.task_name
        runs = known_runs(graph, task)
        like = runs[0] if runs else None
        seed = like.seed if like else 0
        measurer = Measurer(
            graph=graph,
            task=task,
            ledger=own_ledger(graph, task) if how.ledger is None else Ledger(how.ledger),
            episodes=how.episodes or (like.episodes if like else EPISODES),
            tuning_episodes=how.tuning_episodes
            or max((run.tuning.episodes for run in runs), default=TUNING_EPISODES),
            seed=seed if how.seed is None else how.seed,
            protocol=how.protocol or (like.protocol if like else None),
        )
        check_writable(measurer.ledger.path)
        weights, rules = measurer.weights_digest, measurer.rules
        scale = (graph.digest, weights, catalog.task_key(task), rules, measurer.seed)
        kept = (*measured_runs(graph, task), *measurer.runs().values())
        is_usual = like is None or (like.weights_digest, like.protocol) == (weights, rules)
        return cls(
            measurer=measurer,
            is_usual=is_usual,
            least_episodes=like.episodes if like and is_usual else FEWEST_PAIRED,
            beside=tuple(
                run
                for run in kept
                if (run.model.digest, run.weights_digest, run.task, run.protocol, run.seed) == scale
                and run.suits(graph)
            ),
        )

    def measured(
        self,
        designs: DesignBatch,
        choices: Sequence[Choice],
        on_tuned: OnTuned | None,
        control: SearchControl | None,
    ) -> list[MeasuredRun]:
        """Runs of the chosen designs, from the ledger where it has them."""
        return [
            self.measurer.measured(
                designs.policy(choice.row),
                _told(on_tuned, number, len(choices)),
                None if control is None else lambda: control.is_stopped,
            )
            for number, choice in enumerate(choices)
        ]


def _told(on_tuned: OnTuned | None, number: int, count: int) -> Callable[[int, int], None] | None:
    if on_tuned is None:
        return None
    return lambda done, total: on_tuned(number, count, done, total)
