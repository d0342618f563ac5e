"""The questions that were asked, to go back to and forth."""

from explorer.app.state import Settings

_CAP = 100


class Past:
    """Settings in the order they were shown, and which of them is shown now."""

    def __init__(self, first: Settings) -> None:
        self._all = [first]
        self._at = 0

    def note(self, settings: Settings) -> None:
        """A question is shown; what was undone before it is forgotten."""
        if settings != self._all[self._at]:
            self._all = [*self._all[: self._at + 1], settings][-_CAP:]
            self._at = len(self._all) - 1

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier question."""
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        """Whether a question was undone."""
        return self._at < len(self._all) - 1

    def undo(self) -> Settings:
        """The question before, or the first."""
        self._at = max(0, self._at - 1)
        return self._all[self._at]

    def redo(self) -> Settings:
        """The question that was undone last, or the newest."""
        self._at = min(len(self._all) - 1, self._at + 1)
        return self._all[self._at]
