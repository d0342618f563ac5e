"""Runs a search in a thread and brings what it says back through a queue.

The thread never touches a widget: it puts reports on a queue and calls `wake`.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from explorer.search.candidates import CandidateTable, ParetoFront
from explorer.search.control import SearchControl

OnBatch = Callable[[int, int, CandidateTable, float], None]
Search = Callable[[OnBatch, SearchControl], ParetoFront]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Everything found so far, after one more batch."""

    done: int
    total: int
    table: CandidateTable
    hypervolume: float
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The last report: what the search returned, or what it raised."""

    front: ParetoFront | None = None
    error: BaseException | None = None


Report = Batch | Ended


class Runner:
    """One search, from start to end; make another for the next one.

    Args:
        search: called in the thread as `search(on_batch, control)`.
        wake: called from the thread after every report.
    """

    def __init__(self, search: Search, wake: Callable[[], None]) -> None:
        self._search = search
        self._wake = wake
        self._control = SearchControl()
        self._reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="explorer-search", daemon=True)
        self._began_s = 0.0
        self._paused_at_s: float | None = None
        self._paused_s = 0.0
        self._has_ended = False

    def start(self) -> None:
        """Begin."""
        self._began_s = time.monotonic()
        self._thread.start()

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

    def stop(self) -> None:
        """End before the next batch."""
        self._control.stop()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def drain(self) -> list[Report]:
        """Reports since the last call; a thread that died in silence is an error of its own."""
        was_alive = self._thread.is_alive()
        reports: list[Report] = []
        while not self._reports.empty():
            reports.append(self._reports.get_nowait())
        self._has_ended |= any(isinstance(report, Ended) for report in reports)
        if not was_alive and not self._has_ended and self._began_s:
            self._has_ended = True
            reports.append(Ended(error=RuntimeError("the search thread ended without a word")))
        return reports

    def _work(self) -> None:
        try:
            front = self._search(self._on_batch, self._control)
        except BaseException as error:  # noqa: BLE001 - nobody else sees what a thread raises
            self._report(Ended(error=error))
        else:
            self._report(Ended(front=front))

    def _on_batch(self, done: int, total: int, table: CandidateTable, hypervolume: float) -> None:
        elapsed_s = time.monotonic() - self._began_s - self._paused_s
        self._report(
            Batch(done=done, total=total, table=table, hypervolume=hypervolume, elapsed_s=elapsed_s)
        )

    def _report(self, report: Report) -> None:
        self._reports.put(report)
        self._wake()
