"""Progress of long work, and a way to stop it. Nothing here knows what is done."""

from collections.abc import Callable

from explorer.errors import ExplorerError

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]


class CancelledError(ExplorerError):
    """Work was stopped before its end; the sentence says what was kept, if anything."""


class Ticker:
    """Counts pieces of work and asks whether to go on."""

    def __init__(
        self, unit: str, total: int, on_done: Progress | None, cancelled: Cancelled | None
    ) -> None:
        self._unit, self._count, self._total = unit, 0, total
        self._on_done, self._cancelled = on_done, cancelled

    def check(self) -> None:
        """CancelledError when it shall stop."""
        if self._cancelled is not None and self._cancelled():
            raise CancelledError(f"stopped after {self._count} of {self._total} {self._unit}")

    def expect(self, more: int) -> None:
        """So many more pieces than thought."""
        self._total += more

    def done(self, count: int = 1) -> None:
        """Some pieces are done."""
        self._count += count
        if self._on_done is not None:
            self._on_done(self._count, self._total)
