"""Runs work in a thread and brings what it says back through a queue.

The thread never touches a widget: it puts reports on a queue and calls `wake`.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from explorer.search.candidates import CandidateTable, ParetoFront
from explorer.search.control import SearchControl

T = TypeVar("T")
Search = Callable[..., ParetoFront]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Everything found so far, after one more batch; the time is since the first trial began."""

    done: int
    total: int
    table: CandidateTable
    hypervolume: float
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The last report: what the work returned, or what it raised."""

    result: object = None
    error: BaseException | None = None


Report = Batch | Ended


class Worker(Generic[T]):
    """One piece of work, from start to end; make another for the next one.

    Args:
        work: called in the thread as `work(report, control)`; reports are of type T.
        wake: called from the thread after every report.
        name: says in errors what died.
    """

    def __init__(
        self,
        work: Callable[[Callable[[T], None], SearchControl], object],
        wake: Callable[[], None],
        name: str,
    ) -> None:
        self._do = work
        self._wake = wake
        self._name = name
        self._control = SearchControl()
        self._reports: queue.SimpleQueue[T | Ended] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._live, name=f"explorer-{name}", daemon=True)
        self._began_s = 0.0
        self._has_ended = False
        self._is_over = False

    def start(self) -> None:
        """Begin."""
        self._began_s = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Ask the work to end."""
        self._control.stop()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def drain(self) -> list[T | Ended]:
        """Reports since the last call; a thread that died in silence is an error of its own."""
        was_over = self._is_over
        reports: list[T | Ended] = []
        while not self._reports.empty():
            reports.append(self._reports.get_nowait())
        self._has_ended |= any(isinstance(report, Ended) for report in reports)
        if was_over and not self._has_ended:
            self._has_ended = True
            error = RuntimeError(f"the {self._name} thread ended without a word")
            reports.append(Ended(error=error))
        return reports

    def _live(self) -> None:
        """Work, and wake whoever waits whatever became of it."""
        try:
            self._work()
        finally:
            self._is_over = True
            self._wake()

    def _work(self) -> None:
        try:
            result = self._do(self._report, self._control)
        except BaseException as error:  # noqa: BLE001 - nobody else sees what a thread raises
            self._report(Ended(error=error))
        else:
            self._report(Ended(result=result))

    def _report(self, report: T | Ended) -> None:
        self._reports.put(report)
        self._wake()


class Runner(Worker[Batch]):
    """One search.

    Args:
        search: called in the thread as `search(on_batch=..., control=...)`.
        wake: called from the thread after every report.
    """

    def __init__(self, search: Search, wake: Callable[[], None]) -> None:
        super().__init__(
            lambda _, control: search(on_batch=self._on_batch, control=control), wake, "search"
        )
        self._paused_at_s: float | None = None
        self._paused_s = 0.0

    def pause(self) -> None:
        """Wait before the next batch."""
        self._control.pause()
        self._paused_at_s = time.monotonic()

    def resume(self) -> None:
        """Go on."""
        if self._paused_at_s is not None:
            self._paused_s += time.monotonic() - self._paused_at_s
            self._paused_at_s = None
        self._control.resume()

    def _on_batch(self, done: int, total: int, table: CandidateTable, hypervolume: float) -> None:
        if done == 0:
            self._began_s, self._paused_s = time.monotonic(), 0.0
        elapsed_s = time.monotonic() - self._began_s - self._paused_s
        self._report(
            Batch(done=done, total=total, table=table, hypervolume=hypervolume, elapsed_s=elapsed_s)
        )
