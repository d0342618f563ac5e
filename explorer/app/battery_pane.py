"""The battery pane: how many sessions one charge of a cell pays for."""

from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from explorer.app.numbers import Number
from explorer.app.plot import Plot
from explorer.app.view import CHOICE
from explorer.app.words import line
from explorer.costmodel.battery import COUNTED, Battery, charge_and_voltage
from explorer.costmodel.report import Cost
from explorer.figures import charges
from explorer.units import MILLI, format_joules

if TYPE_CHECKING:
    from explorer.app.panes import Shown

DEFAULT_CELL = "320mAh@3.7V"
DEFAULT_SOURCE = "the cell of BioTrain, arXiv 2604.13359"
_LEAST, _MOST_MAH, _MOST_V = 0.1, 99_999.0, 1000.0


class BatteryPane:
    """A cell to set, and a bar of sessions for the selection and every known policy."""

    title = "Battery"

    def __init__(self, cell: str | None) -> None:
        self._costs: dict[str, Cost] = {}
        self._selected = ""
        self._plot = Plot()
        label, source = (DEFAULT_CELL, DEFAULT_SOURCE) if cell is None else (cell, "as asked")
        self._source = source
        charge_ah, volts = charge_and_voltage(label)
        self.charge = _number("Cell, mAh", charge_ah / MILLI, _MOST_MAH, line("cell"))
        self.volts = _number("V", volts, _MOST_V, line("volts"))
        self.words = widgets.HTML()
        self.words.add_class("explorer-text")
        row = widgets.HBox([self.charge, self.volts, self.words])
        row.add_class("explorer-row")
        self.box = widgets.VBox([row, self._plot.box])
        for field in (self.charge, self.volts):
            field.observe(lambda _: self._changed(), names="value")

    @property
    def battery(self) -> Battery:
        """The cell that is set."""
        return Battery.of(f"{self.charge.value:g}mAh@{self.volts.value:g}V")

    def key(self, shown: "Shown") -> tuple[object, ...]:
        """The selection and the known policies."""
        return (*shown.key, shown.view.known)

    def show(self, shown: "Shown") -> None:
        """The selected design among the known policies."""
        view, known = shown.view, shown.view.known
        self._selected = shown.chosen.label
        same = view.session.policy if view.selected_id == CHOICE else self._selected
        self._costs = {self._selected: shown.cost} | {
            label: view.session.candidate_cost(known, row)
            for row, label in enumerate(known.labels)
            if label != same
        }
        self._draw()

    def _changed(self) -> None:
        self._source = "set here"
        self._draw()

    def _draw(self) -> None:
        if not self._costs:
            return
        battery = self.battery
        data = charges.charges_data(self._costs, battery, self._selected)
        self.words.value = words_html(self._costs[self._selected], battery, self._source, data.idle)
        if data.names:
            self._plot.show(charges.draw(data))
        else:
            self._plot.clear()


def words_html(cost: Cost, battery: Battery, source: str, idle: tuple[str, ...]) -> str:
    """What the bars rest on."""
    session = cost.session
    words = [
        f"The cell holds {format_joules(battery.energy_j)} ({source}; assumed)",
        f"a session of the selection is {session['steps']:,} steps of {cost.batch} over "
        f"{session['samples']:,} kept samples, {format_joules(session['energy_j'])}",
        f"counted: {COUNTED}",
        "whiskers: 90 % of draws; hatched: does not fit",
    ]
    words += [f"without any energy: {', '.join(idle)}"] if idle else []
    return escape("; ".join(words)) + "."


def _number(label: str, value: float, most: float, tooltip: str) -> Any:
    return Number(
        label,
        round(value, 6),
        _LEAST,
        most,
        tooltip=tooltip,
        layout=widgets.Layout(width="140px" if "mAh" in label else "90px"),
        style={"description_width": "initial"},
    )
