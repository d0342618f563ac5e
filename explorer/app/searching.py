"""Searching from the app: one search at a time in a thread, and how near it came to the optimum."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from explorer.app import state
from explorer.app.bars import SearchBar
from explorer.app.optimum import Optimum
from explorer.app.runner import Batch, Ended, Runner
from explorer.app.view import same_space
from explorer.search.candidates import CandidateTable, ParetoFront
from explorer.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What came since the last look: the candidates so far, whether that was all, an error."""

    table: CandidateTable | None = None
    is_over: bool = False
    error: BaseException | None = None


class Searching:
    """What a search is at; `wake` is called when there is news.

    `session` is the one that searched, `sampler` what with, `volumes` pairs of designs
    evaluated and hypervolume after every batch, `front` the result once there is one.
    """

    def __init__(self, bar: SearchBar, wake: Callable[[], None]) -> None:
        self._bar = bar
        self._wake = wake
        self._runner: Runner | None = None
        self.optimum = Optimum(wake)
        self.run = state.Run()
        self._outdated: state.Run | None = None
        self.session: Session | None = None
        self.sampler = ""
        self.seed = 0
        self.front: ParetoFront | None = None
        self.volumes: list[tuple[int, float]] = []
        self._noting = threading.Lock()

    def start(self, session: Session, *, warm: bool) -> None:
        """Search what a session asks with what the bar says."""
        bar = self._bar
        self.optimum.stop()
        self.front, self.volumes, self.session = None, [], session
        self._outdated = None
        self.sampler, self.seed = bar.sampler.value, bar.seed.value
        self._note(state.Started(total=bar.trials.value))
        asked = (bar.trials.value, self.sampler, self.seed)
        self._runner = Runner(partial(session.search, *asked, warm=warm), self._wake)
        self._runner.start()
        self._wake()

    def recall(
        self,
        session: Session,
        run: state.Run,
        sampler: str,
        seed: int,
        volumes: Iterable[tuple[int, float]],
    ) -> None:
        """Show how a search of an earlier kernel went."""
        self.session, self.run, self.sampler, self.seed = session, run, sampler, seed
        self.volumes = list(volumes)

    def _note(self, event: state.Event) -> None:
        """Some kernels hear buttons in another thread, and no event may undo another."""
        with self._noting:
            self.run = state.reduce(self.run, event)

    @property
    def last_run(self) -> state.Run:
        """The run, also where the controls ask about other designs now."""
        return self._outdated or self.run

    def pause_or_resume(self) -> None:
        """Pause a running search, or let a paused one go on."""
        if self._runner is None:
            return
        if self.run.phase is state.Phase.RUNNING:
            self._runner.pause()
            self._note(state.PauseAsked())
        elif self.run.phase is state.Phase.PAUSED:
            self._runner.resume()
            self._note(state.ResumeAsked())
        self.show()
        self._wake()

    def stop(self) -> None:
        """End the search after the batch it is at."""
        if self._runner is not None and self.run.is_active:
            self._runner.stop()
            self._note(state.StopAsked())
            self.show()
            self._wake()

    def show(self) -> None:
        """Make the bar say what the run is: at once where a person asks, frames may wait."""
        self._bar.show(self.run, self.share, is_outdated=self._outdated is not None)

    def is_old(self, asked: Session) -> bool:
        """Whether a session asks about other designs than were searched."""
        return self.session is not None and not same_space(self.session, asked)

    def age(self, asked: Session) -> None:
        """Take in what the controls ask about now; undone, the run is shown again."""
        if self.is_old(asked):
            self.optimum.stop()
            if self.run.phase in (state.Phase.DONE, state.Phase.FAILED):
                self._outdated = self.run
            self._note(state.Outdated())
        elif self._outdated is not None:
            self.run, self._outdated = self._outdated, None

    def close(self, timeout_s: float) -> None:
        """Stop, and wait for the threads."""
        self.optimum.close(timeout_s)
        if self._runner is not None:
            self._runner.stop()
            self._runner.join(timeout_s)

    def take(self) -> News:
        """What the thread said since the last time, oldest first."""
        news = News()
        for report in [] if self._runner is None else self._runner.drain():
            match report:
                case Batch(table=table):
                    self.volumes.append((len(table), report.hypervolume))
                    event = state.Progressed(
                        done=report.done,
                        total=report.total,
                        hypervolume=report.hypervolume,
                        front_count=int(table.on_front.sum()),
                        elapsed_s=report.elapsed_s,
                    )
                    self._note(event)
                    news = News(table=table)
                case Ended(result=ParetoFront() as front):
                    self.front = front
                    self._note(state.Finished())
                    news = News(table=front.table, is_over=True)
                    if self.session is not None:
                        self.optimum.start(self.session, front)
                case Ended(error=error):
                    self._note(state.Failed(error=str(error)))
                    news = News(table=news.table, error=error)
        return news

    def take_share(self) -> None:
        """The front with its share of the optimum, once that is worked out."""
        self.front = self.optimum.take() or self.front

    @property
    def share(self) -> float | None:
        """Of the additive proxy's optimum, for a search that is over and still asked for."""
        is_done = self.front is not None and self.run.phase is state.Phase.DONE
        return self.front.exact_hypervolume_ratio if self.front and is_done else None
