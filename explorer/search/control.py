"""Pause, resume and stop a search from another thread."""

import threading


class SearchControl:
    """Shared by a search and whoever watches it; every method may be called from any thread.

    A search calls `proceed` between batches. Stopping is final and wakes a
    paused search.
    """

    def __init__(self) -> None:
        self._may_run = threading.Event()
        self._may_run.set()
        self._stopped = threading.Event()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def pause(self) -> None:
        """Make the next `proceed` wait; ignored once stopped."""
        if not self._stopped.is_set():
            self._may_run.clear()

    def resume(self) -> None:
        """Let a paused search go on."""
        self._may_run.set()

    def stop(self) -> None:
        """End the search at its next `proceed`, paused or not."""
        self._stopped.set()
        self._may_run.set()

    def proceed(self) -> bool:
        """Wait while paused; True to go on, False once stopped."""
        while not self._stopped.is_set():
            if self._may_run.wait(timeout=0.5):
                break
        return not self._stopped.is_set()
