"""The compare pane: designs a person pinned, side by side."""

from collections.abc import Callable

import ipywidgets as widgets

from explorer.app.compare import PIN_CAP, compare_html
from explorer.app.panes import Shown
from explorer.app.view import Selection
from explorer.app.words import line
from explorer.costmodel.report import Cost


class PinsPane:
    """Up to four pinned designs; `on_change` is called when their number changes."""

    title = "Compare"

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._pins: tuple[tuple[Selection, Cost], ...] = ()
        self.table = widgets.HTML()
        self.buttons = widgets.HBox()
        self.buttons.add_class("explorer-row")
        self.box = widgets.VBox([self.table, self.buttons])

    @property
    def pins(self) -> tuple[Selection, ...]:
        """What is pinned, in order."""
        return tuple(pin for pin, _ in self._pins)

    @property
    def is_full(self) -> bool:
        """Whether one must go before another can come."""
        return len(self._pins) >= PIN_CAP

    def has(self, chosen: Selection) -> bool:
        """Whether a design is pinned."""
        return any(pin.table is chosen.table and pin.row == chosen.row for pin in self.pins)

    def pin(self, chosen: Selection) -> None:
        """Add a design; nothing when it is there or there is no room."""
        if not self.is_full and not self.has(chosen):
            cost = chosen.session.candidate_cost(chosen.table, chosen.row)
            self._put((*self._pins, (chosen, cost)))

    def unpin(self, number: int) -> None:
        """Take one away by its place."""
        self._put(self._pins[:number] + self._pins[number + 1 :])

    def key(self, _: Shown) -> tuple[object, ...]:
        """What is pinned."""
        return self.pins

    def show(self, _: Shown) -> None:
        """A column a design, and a button to take it away."""
        self.table.value = compare_html(self._pins)
        for button in self.buttons.children:
            button.close()
        self.buttons.children = tuple(
            self._button(number, pin) for number, pin in enumerate(self.pins)
        )

    def _put(self, pins: tuple[tuple[Selection, Cost], ...]) -> None:
        self._pins = pins
        self._on_change()

    def _button(self, number: int, pin: Selection) -> widgets.Button:
        button = widgets.Button(
            description=f"Unpin {pin.label}",
            tooltip=line("unpin"),
            layout=widgets.Layout(width="auto", max_width="220px"),
        )
        button.on_click(lambda _: self.unpin(number))
        return button
