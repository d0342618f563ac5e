"""The questions that were asked, to go back to and forth."""

from explorer.app.state import Settings

_CAP = 100


class Past:
    """Settings in the order they were shown, and which of them is shown now."""

    def __init__(self, first: Settings) -> None:
        self._all = [first]
        self._at = 0
        self._is_astray = False

    def note(self, settings: Settings) -> None:
        """A question is shown; what was undone before it is forgotten."""
        self._is_astray = False
        if settings != self._all[self._at]:
            self._all = [*self._all[: self._at + 1], settings][-_CAP:]
            self._at = len(self._all) - 1

    def go_astray(self) -> None:
        """The controls ask what has no answer; the question that is shown comes before that."""
        self._is_astray = True

    @property
    def undo_count(self) -> int:
        """Questions to go back to."""
        return self._at + self._is_astray

    @property
    def redo_count(self) -> int:
        """Questions that were undone."""
        return len(self._all) - 1 - self._at

    def undo(self) -> Settings:
        """The question before, or the first."""
        if self._is_astray:
            self._is_astray = False
        else:
            self._at = max(0, self._at - 1)
        return self._all[self._at]

    def redo(self) -> Settings:
        """The question that was undone last, or the newest."""
        self._is_astray = False
        self._at = min(len(self._all) - 1, self._at + 1)
        return self._all[self._at]
