"""Fields for numbers: one that is out of range is brought back into it, and that is said.

The widgets of ipywidgets that know bounds clamp in the browser, where nobody hears of it.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ipywidgets as widgets
import traitlets


def _nobody(_: str) -> None:
    pass


class Within(widgets.ValueWidget):  # type: ignore[misc]  # ipywidgets ships no types
    """A field of a number from `low` to `most`; `on_clamp` is told what came and is allowed."""

    def __init__(
        self, description: str, value: float, low: float, most: float, **looks: Any
    ) -> None:
        self.low, self.most = low, most
        self.name = description
        self.on_clamp: Callable[[str], None] = _nobody
        super().__init__(description=description, value=value, **looks)

    @traitlets.validate("value")
    def _within(self, proposal: Any) -> Any:
        asked = proposal["value"]
        taken = min(max(asked, self.low), self.most)
        if taken != asked:
            allowed = f"{_text(self.low)} to {_text(self.most)}"
            sentence = f"got {_text(asked)}, allowed: {allowed}; {_text(taken)} is taken"
            self.on_clamp(f"{self.name}: {sentence}")
        return taken


class WholeNumber(Within, widgets.IntText):  # type: ignore[misc]  # likewise
    """A whole number."""


class Number(Within, widgets.FloatText):  # type: ignore[misc]  # likewise
    """Any number."""


class Clamps:
    """What is to be said of the numbers within a widget; `on_news` is called when that changes.

    Fields that stand `alone` are set by a person only: another number there takes the word back.
    """

    def __init__(self, widget: Any, alone: Iterable[Within], on_news: Callable[[], None]) -> None:
        self._on_news = on_news
        self._next = self._said = ""
        for field in numbers_of(widget):
            field.on_clamp = self._clamped
        for field in alone:
            field.observe(self._changed, names="value")

    def take(self) -> str:
        """The sentence, once; empty where there is none."""
        self._said, self._next = self._next, ""
        return self._said

    def _clamped(self, sentence: str) -> None:
        self._next = sentence
        self._on_news()

    def _changed(self, _: object) -> None:
        if self._said:
            self._on_news()


def numbers_of(widget: Any) -> Iterator[Within]:
    """Every such field within a widget."""
    if isinstance(widget, Within):
        yield widget
    for child in getattr(widget, "children", ()):
        yield from numbers_of(child)


def _text(value: float) -> str:
    return f"{value:,.10g}"
