"""The inverse questions: what fits, where, and what would make it fit, each at a button."""

from collections.abc import Callable, Sequence
from html import escape

import ipywidgets as widgets

from explorer.advice import Advice, Change
from explorer.app import fields
from explorer.app.answer import error_html
from explorer.app.asked import DesignSession, asked_about
from explorer.app.bars import close_tree
from explorer.app.view import View, selection_of
from explorer.app.words import CHANGE, line, sourced
from explorer.errors import ExplorerError
from explorer.session import Session

_CHANGE_CAP = 5


class AdviceBar:
    """A button and its answer for the selected design, forgotten when that or its setup changes.

    `apply` is called with the session that was asked about and the setting of a change that a
    person takes.
    """

    def __init__(self, view_now: Callable[[], View], apply: Callable[[Session, str], None]) -> None:
        self._view_now = view_now
        self._apply = apply
        self._asked_about: Session | None = None
        self.ask = widgets.Button(
            description="What would fit?",
            tooltip=line("advise"),
            layout=widgets.Layout(width="128px"),
        )
        self.answer = widgets.HTML()
        self.answer.add_class("explorer-text")
        self.changes = widgets.VBox()
        self.changes.add_class("explorer-changes")
        self.box = widgets.VBox([self.ask, self.answer, self.changes])
        self.ask.on_click(lambda _: self.advise())

    def keep_for(self, view: View) -> None:
        """Forget an answer that was about another design or setup."""
        if self._asked_about is not None and self._asked_about != asked_about(view):
            self._asked_about = None
            self.ask.layout.display = None
            self.answer.value = ""
            self._offer([])

    def advise(self) -> None:
        """Answer for the selected design."""
        view = self._view_now()
        session = self._asked_about = asked_about(view)
        try:
            advice = session.advise()
        except ExplorerError as error:
            self.answer.value = error_html(str(error))
            return
        self.ask.layout.display = "none"  # it stands there now
        self.answer.value = advice_html(advice, selection_of(view).label)
        self._offer([self._row(session, change) for change in advice.changes[:_CHANGE_CAP]])

    @property
    def is_answered(self) -> bool:
        """Whether an answer for the present question stands there."""
        return self._asked_about is not None

    def _offer(self, rows: Sequence[widgets.HBox]) -> None:
        old, self.changes.children = self.changes.children, tuple(rows)
        for row in old:
            close_tree(row)

    def _row(self, session: Session, change: Change) -> widgets.HBox:
        """What a change does, and a button that takes it.

        A design of a search has no buttons: the controls have no name for it to change it by.
        """
        setting, parts = change.setting, []
        if not isinstance(session, DesignSession):
            button = fields.button(setting, sourced(f"set {setting}", CHANGE))
            button.on_click(lambda _: self._apply(session, setting))
            parts.append(button)
        words = change.sentence.removeprefix(f"{setting}: " if parts else "")
        parts.append(widgets.HTML(escape(words)))
        parts[-1].add_class("explorer-text")
        row = widgets.HBox(parts)
        row.add_class("explorer-row")
        return row


def advice_html(advice: Advice, label: str) -> str:
    """Largest micro-batch and smallest device, and what the changes below it are."""
    what = label.replace(": ", " ", 1)
    words = f"for {what}: {'; '.join(advice.sentences)} (modelled)"
    head = "what saves memory, and how many times the time of a step now (modelled):"
    return f"<div>{escape(words)}</div>" + (f"<div>{head}</div>" if advice.changes else "")
