"""The inverse questions: what fits, where, and what would make it fit, each at a button."""

from collections.abc import Callable
from html import escape

import ipywidgets as widgets

from explorer.advice import Advice, Change
from explorer.app.answer import error_html
from explorer.errors import ExplorerError
from explorer.session import Session

_CHANGE_CAP = 5


class AdviceBar:
    """A button and its answer for what the controls say, forgotten when they change.

    `apply` is called with the setting of a change that a person takes.
    """

    def __init__(self, session_now: Callable[[], Session], apply: Callable[[str], None]) -> None:
        self._session_now = session_now
        self._apply = apply
        self._asked_about: Session | None = None
        self.ask = widgets.Button(
            description="What would fit?",
            tooltip="For your choice: largest micro-batch, smallest device, what saves memory",
            layout=widgets.Layout(width="128px"),
        )
        self.answer = widgets.HTML()
        self.answer.add_class("explorer-text")
        self.changes = widgets.VBox()
        self.changes.add_class("explorer-changes")
        self.box = widgets.VBox([self.ask, self.answer, self.changes])
        self.ask.on_click(lambda _: self.advise())

    def keep_for(self, session: Session) -> None:
        """Forget an answer that was about another session."""
        if self._asked_about is not None and self._asked_about != session:
            self._asked_about = None
            self._show(None)

    def advise(self) -> None:
        """Answer for what the controls say."""
        session = self._session_now()
        self._asked_about = session
        try:
            self._show(session.advise())
        except ExplorerError as error:
            self.answer.value = error_html(str(error))

    @property
    def is_answered(self) -> bool:
        """Whether an answer for the present question stands there."""
        return self._asked_about is not None

    def _show(self, advice: Advice | None) -> None:
        self.answer.value = "" if advice is None else advice_html(advice)
        old = self.changes.children
        changes = [] if advice is None else advice.changes[:_CHANGE_CAP]
        self.changes.children = tuple(self._row(change) for change in changes)
        for row in old:
            for part in (*row.children, row):
                part.close()

    def _row(self, change: Change) -> widgets.HBox:
        """A button that takes a change, and what it does."""
        button = widgets.Button(
            description=change.setting,
            tooltip=f"Set {change.setting}",
            layout=widgets.Layout(width="auto", max_width="100%"),
        )
        button.on_click(lambda _: self._apply(change.setting))
        words = change.sentence.removeprefix(f"{change.setting}: ")
        said = widgets.HTML(f"{escape(words)} (modelled)")
        said.add_class("explorer-text")
        row = widgets.HBox([button, said])
        row.add_class("explorer-row")
        return row


def advice_html(advice: Advice) -> str:
    """Largest micro-batch and smallest device."""
    words = f"for your choice: {'; '.join(advice.sentences)} (modelled)"
    return f"<div>{escape(words)}</div>"
