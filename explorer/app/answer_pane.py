"""The selected design beside the panels: verdict, advice, numbers, levels.

`show` writes what a person decides by; `complete` adds what takes longer to work out
and is called when there is nothing else to draw.
"""

from collections.abc import Sequence

import ipywidgets as widgets

from explorer.app.advice_bar import AdviceBar
from explorer.app.answer import error_html, fit_line, levels_html, numbers_html, verdict_html
from explorer.app.bars import MeasureBar
from explorer.app.rival import compared_html, rival_of
from explorer.app.view import CHOICE, Selection, View, nearest_misfit, selection_of
from explorer.costmodel.report import Cost
from explorer.costmodel.uncertainty import Against


class AnswerPane:
    """Widgets of the selection; `chosen` is what they describe and `cost` its cost."""

    def __init__(self, measure_bar: MeasureBar, advice_bar: AdviceBar) -> None:
        self.verdict, self.numbers, self.decider, self.levels = (widgets.HTML() for _ in range(4))
        judged = widgets.VBox([self.verdict, measure_bar.box, advice_bar.box])
        counted = widgets.VBox([self.numbers, self.decider, self.levels])
        self.box = widgets.VBox([judged, counted])
        self.box.add_class("explorer-side")
        self._shown: tuple[object, ...] = ()
        self._duel: tuple[object, ...] = ()
        self._is_placed = True
        self._against: Against | None = None
        self.chosen: Selection | None = None
        self.cost: Cost | None = None

    def show(self, view: View) -> None:
        """Describe what is selected, unless that is what stands there."""
        chosen = selection_of(view)
        shown = (chosen.session, view.session, chosen.table, chosen.row, chosen.label)
        if same_items(shown, self._shown):
            return
        self._shown, self._is_placed = shown, False
        self._duel = ()
        cost, self._against = view.cost, None
        if view.selected_id != CHOICE:
            cost = chosen.session.candidate_cost(chosen.table, chosen.row)
            self._against = chosen.session.against(view.session, chosen.table, chosen.row)
        self.chosen, self.cost = chosen, cost
        self.verdict.value = verdict_html(cost, chosen.label, chosen.worth_words)
        self.numbers.value = numbers_html(cost)
        self.decider.value = compared_html(view, chosen, None, self._against)
        self.levels.value = ""

    def complete(self, view: View, pins: Sequence[Selection] = ()) -> None:
        """Add the memory levels of what is shown, and what decides against its rival."""
        chosen = self.chosen
        if chosen is None:
            return
        if not self._is_placed:
            self._is_placed = True
            memory = chosen.session.memory_map(chosen.table, chosen.row)
            self.levels.value = levels_html(memory.levels)
        rival = rival_of(view, chosen, pins)
        duel = (chosen.table, chosen.row, *((rival.table, rival.row) if rival else ()))
        if not same_items(duel, self._duel):
            self._duel = duel
            self.decider.value = compared_html(view, chosen, rival, self._against)


def misfit_html(view: View) -> str:
    """What is over, and by how much, when no known policy fits."""
    nearest = nearest_misfit(view)
    if nearest is None:
        return ""
    cost = nearest.session.candidate_cost(nearest.table, nearest.row)
    over = "; ".join(fit_line(fit) for fit in cost.fits if not fit.fits)
    return error_html(f"no known policy fits; nearest is the policy {nearest.label}: {over}")


def same_items(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Equal length and every item the same object or an equal plain value."""
    return len(one) == len(other) and all(
        a is b or (isinstance(a, str | int) and a == b) for a, b in zip(one, other, strict=True)
    )
