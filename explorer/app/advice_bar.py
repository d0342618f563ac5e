"""The inverse questions: what fits, where, and what would make it fit."""

from collections.abc import Callable
from html import escape

import ipywidgets as widgets

from explorer.advice import Advice
from explorer.app.answer import error_html
from explorer.errors import ExplorerError
from explorer.session import Session

_CHANGE_CAP = 5


class AdviceBar:
    """A button and its answer for what the controls say, forgotten when they change."""

    def __init__(self, session_now: Callable[[], Session]) -> None:
        self._session_now = session_now
        self._asked_about: Session | None = None
        self.ask = widgets.Button(
            description="What would fit?",
            tooltip="For your choice: largest micro-batch, smallest device, what saves memory",
            layout=widgets.Layout(width="128px"),
        )
        self.answer = widgets.HTML()
        self.answer.add_class("explorer-text")
        self.box = widgets.VBox([self.ask, self.answer])
        self.ask.on_click(lambda _: self._answer())

    def keep_for(self, session: Session) -> None:
        """Forget an answer that was about another session."""
        if self._asked_about is not None and self._asked_about != session:
            self._asked_about = None
            self.answer.value = ""

    def _answer(self) -> None:
        session = self._session_now()
        self._asked_about = session
        try:
            self.answer.value = advice_html(session.advise())
        except ExplorerError as error:
            self.answer.value = error_html(str(error))


def advice_html(advice: Advice) -> str:
    """Largest micro-batch, smallest device and the best changes, as lines."""
    lines = [f"for your choice: {'; '.join(advice.sentences)} (modelled)"]
    lines += [f"{change.sentence} (modelled)" for change in advice.changes[:_CHANGE_CAP]]
    return "".join(f"<div>{escape(line)}</div>" for line in lines)
