"""Keeps the view of an app in a file beside its notebook, and brings it back.

So a kernel that starts again finds it without the browser, and without the notebook being saved.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.app.answer import error_html, note_html
from explorer.app.kept import KeptView, kept_view, restore
from explorer.app.kept_designs import kept_session
from explorer.app.kernel import is_for_visitors
from explorer.document import parse_document
from explorer.errors import ExplorerError
from explorer.paths import replace_whole

if TYPE_CHECKING:
    from explorer.app.main import App

SESSION_VARIABLE = "JPY_SESSION_NAME"  # Jupyter's: the notebook of this kernel
REST_S = 1.5  # a person who still turns a control is not held up
_BACK = "This is the view as it was left."
_UNDO = " Undo takes you to the question of the cell."


def place_of(environment: Mapping[str, str]) -> Path | None:
    """Where the view of this kernel's notebook is kept: `.NAME.explorer.json` beside it.

    None where no notebook is known, and behind Voila, whose visitors share the notebook.
    """
    notebook = Path(environment.get(SESSION_VARIABLE, ""))
    if notebook.suffix != ".ipynb" or is_for_visitors(environment):
        return None
    return notebook.with_name(f".{notebook.stem}.explorer.json")


def attend(app: "App") -> None:
    """Bring back what was kept of this notebook's app, and keep it from now on."""
    Keeper(app, place_of(os.environ))


class Keeper:
    """Follows one app: when it rests, its view is written and what stays of it is redrawn.

    Without a `path` nothing is written. What cannot be read or written is one sentence in the
    app, which works on without.
    """

    def __init__(self, app: "App", path: Path | None) -> None:
        self._app = app
        self._path = path
        self._text = ""
        self._has_complained = False
        self._timer: asyncio.TimerHandle | None = None
        if path is not None:
            app.message.value += self._bring_back(path)
        app.on_rest = self._rest

    def _bring_back(self, path: Path) -> str:
        """What to say about it."""
        try:
            self._text = path.read_text(encoding="utf-8")
            kept = parse_document(KeptView, self._text, path.name)
            if kept.origin != kept_session(self._app.origin):
                return ""
            restore(self._app, kept)
        except FileNotFoundError:
            return ""
        except (ExplorerError, OSError, UnicodeDecodeError) as error:
            return error_html(f"the last view cannot be shown: {path.name}: {error}")
        return note_html(_BACK + (_UNDO if self._app.past.undo_count else ""))

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(REST_S, self.keep)

    def keep(self) -> None:
        """Write the view where it is not written yet; while a search runs it is not at rest."""
        if self._app.is_closed or self._app.run.is_active:
            return
        self._app.standing.update()
        text = kept_view(self._app).to_json()
        if text == self._text:
            return
        self._text = text
        if self._path is not None:
            try:
                replace_whole(self._path, text.encode())
            except OSError as error:
                self._complain(f"the view is not kept: {self._path.name}: {error.strerror}")

    def _complain(self, sentence: str) -> None:
        if not self._has_complained:
            self._has_complained = True
            self._app.message.value += note_html(sentence)
