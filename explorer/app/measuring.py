"""Measuring from the app: designs really fine-tuned in a thread, kept in the user's ledger."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from explorer.accuracy.metrics import METRIC_NAMES
from explorer.accuracy.progress import CancelledError, Progress
from explorer.accuracy.records import MeasuredRun
from explorer.app.bars import MeasureBar
from explorer.app.runner import Ended, Worker
from explorer.app.view import Selection
from explorer.errors import check_whole
from explorer.paths import check_writable
from explorer.search.control import SearchControl
from explorer.search.measurer import Measurer
from explorer.search.sources import known_runs, own_ledger

TUNING_EPISODES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """One more fine-tuning of a design is done."""

    title: str
    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A design is measured, and in the ledger."""

    title: str
    run: MeasuredRun
    metric: str

    @property
    def words(self) -> str:
        """`digits-cnn, last-layer: accuracy 75.1 % ± 3.1 % on digits (measured, ...)`."""
        run, name = self.run, METRIC_NAMES[self.metric]
        figure = run.figure(self.metric)
        value = "not defined" if figure is None else f"{figure.after:.1%}"
        error = None if figure is None else figure.standard_error
        spread = "" if error is None else f" ± {error:.1%}"
        count = f"{run.episodes} episode{'s' * (run.episodes > 1)}"
        return (
            f"{self.title}: {name} {value}{spread} on {run.task} (measured, {count}, "
            f"{run.protocol.words})"
        )


class Measuring:
    """One measurement at a time; `wake` is called when there is news."""

    def __init__(self, bar: MeasureBar, wake: Callable[[], None]) -> None:
        self._bar = bar
        self._wake = wake
        self._worker: Worker[Tuned | Measured] | None = None
        self._lines: list[str] = []
        self._began: tuple[str, float] = "", 0.0
        self.is_active = False

    def start(self, designs: Sequence[Selection], episodes: int) -> None:
        """Measure designs one after the other; ignored while one is at it."""
        check_whole("episodes", episodes, 1)
        if self.is_active:
            return
        self.is_active, self._lines, self._began = True, [], ("", 0.0)
        self._worker = Worker(
            lambda report, control: measure_each(designs, episodes, report, control),
            self._wake,
            "measure",
        )
        self._bar.show(["measuring"], is_active=True)
        self._worker.start()

    def cancel(self) -> None:
        """End after the fine-tuning it is at; designs that are measured stay measured."""
        if self._worker is not None:
            self._worker.stop()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; whether it has ended."""
        return self._worker is None or self._worker.join(timeout_s)

    def take(self) -> tuple[bool, BaseException | None]:
        """Show what the thread says; whether a design was measured, and what was raised.

        Cancelling is no error.
        """
        reports = [] if self._worker is None else self._worker.drain()
        is_news, failure = False, None
        for report in reports:
            match report:
                case Tuned(title=title, done=done, total=total):
                    left = self._left_words(title, done, total)
                    self._show(f"measuring {title}: {done}/{total} fine-tunings{left}")
                case Measured():
                    is_news = True
                    self._lines.append(report.words)
                    self._show()
                case Ended(error=error):
                    self._worker, self.is_active = None, False
                    is_cancelled = isinstance(error, CancelledError)
                    self._show(*([str(error)] if is_cancelled else []))
                    failure = None if is_cancelled else error
        return is_news, failure

    def _left_words(self, title: str, done: int, total: int) -> str:
        """At the pace since the first fine-tuning of this design."""
        now_s = time.monotonic()
        if self._began[0] != title:
            self._began = title, now_s
        if done < 2:
            return ""
        left_s = (now_s - self._began[1]) / (done - 1) * (total - done)
        return f", about {left_s:.0f} s left"

    def _show(self, *more: str) -> None:
        self._bar.show([*self._lines, *more], is_active=self.is_active)


def measure_each(
    designs: Sequence[Selection],
    episodes: int,
    report: Callable[[Tuned | Measured], None],
    control: SearchControl,
) -> None:
    """Fine-tune designs under the protocol and seed of what was measured before, and keep the runs.

    Raises CancelledError when stopped, MissingDataError without the data or the weights.
    """

    def told(title: str) -> Progress:
        return lambda done, total: report(Tuned(title=title, done=done, total=total))

    for number, design in enumerate(designs, 1):
        session = design.session
        title = design.label
        if len(designs) > 1:
            title += f" ({number} of {len(designs)})"
        before = known_runs(session.graph, session.task_name)
        measurer = Measurer(
            graph=session.graph,
            task=session.task_name,
            ledger=own_ledger(session.graph, session.task_name),
            episodes=episodes,
            tuning_episodes=TUNING_EPISODES,
            seed=before[0].seed if before else 0,
            protocol=before[0].protocol if before else None,
        )
        check_writable(measurer.ledger.path)
        policy = design.table.designs[design.row].policy
        run = measurer.measured(policy, told(title), lambda: control.is_stopped)
        what = design.label.removeprefix("your choice: ")
        report(Measured(title=f"{session.model}, {what}", run=run, metric=session.metric_column))
