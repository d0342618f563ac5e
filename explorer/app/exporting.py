"""Writing the selected design as a policy document, or handing it to a visitor's browser."""

import os
from collections.abc import Callable
from html import escape
from pathlib import Path

from explorer.app.answer import error_html
from explorer.app.bars import PointBar
from explorer.app.kernel import is_for_visitors
from explorer.app.view import Selection
from explorer.app.visitors import download_html
from explorer.errors import ExplorerError, SpecError
from explorer.paths import write_whole


class Exporting:
    """What the button Export policy of a bar does with what is selected."""

    def __init__(self, bar: PointBar, chosen_now: Callable[[], Selection]) -> None:
        self._bar = bar
        self._chosen_now = chosen_now
        bar.export.on_click(lambda _: self._clicked())

    def write(self, path: str | Path) -> Path:
        """Write a policy document; makes the folder if it is missing, SpecError where it cannot."""
        target = _named(path)
        write_whole(target, self._text())
        return target

    def _text(self) -> str:
        chosen = self._chosen_now()
        return chosen.session.export(chosen.table, chosen.row).to_json()

    def _clicked(self) -> None:
        try:
            if is_for_visitors(os.environ):
                words = download_html(_named(self._bar.path.value).name, self._text())
            else:
                words = saved_words(self.write(self._bar.path.value))
        except ExplorerError as error:
            words = error_html(str(error))
        self._bar.saved.value = words


def _named(path: str | Path) -> Path:
    if not str(path).strip():
        raise SpecError("Export needs a file name, such as exports/policy.json")
    return Path(path)


def saved_words(target: Path) -> str:
    """`saved policy.json (1,234 bytes)`, as HTML."""
    return f"saved {escape(str(target))} ({target.stat().st_size:,} bytes)"
