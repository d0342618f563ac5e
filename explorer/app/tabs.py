"""The tabs below the panels; only the open one is drawn, and only when something changed."""

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from explorer.app.answer_pane import same_items
from explorer.app.panes import Pane, Shown


class Tabs:
    """A row of tabs over panes; `on_open` is called when a person opens another."""

    def __init__(self, panes: Sequence[Pane], on_open: Callable[[], None]) -> None:
        self._panes = tuple(panes)
        self._drawn: list[tuple[object, ...] | None] = [None] * len(self._panes)
        self.box: Any = widgets.Tab(
            children=[pane.box for pane in self._panes],
            titles=[pane.title for pane in self._panes],
            selected_index=0,
        )
        self.box.add_class("explorer-below")
        self.box.observe(lambda _: on_open(), names="selected_index")

    def open(self, title: str) -> None:
        """Open a tab by its title."""
        self.box.selected_index = [pane.title for pane in self._panes].index(title)

    def show(self, shown: Shown) -> None:
        """Draw the open pane, unless it stands there already."""
        number = self.box.selected_index
        if number is None:
            return
        pane, drawn = self._panes[number], self._drawn[number]
        key = pane.key(shown)
        if drawn is None or not same_items(key, drawn):
            self._drawn[number] = key
            pane.show(shown)
