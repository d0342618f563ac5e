"""What stands under the tabs: each pane says one thing about the selection or the search.

`show` is called for the open pane only, when there is nothing else to draw.
"""

from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

import ipywidgets as widgets
import numpy as np

from explorer import catalog
from explorer.app import fields
from explorer.app.battery_pane import BatteryPane
from explorer.app.details import details_html
from explorer.app.evidence import evidence_html, published_html
from explorer.app.plot import Plot
from explorer.app.searching import Searching
from explorer.app.state import Phase
from explorer.app.view import Selection, View, published_of
from explorer.app.words import line
from explorer.costmodel.report import Cost
from explorer.figures import arena, history, network, parallel, spending
from explorer.search.candidates import CandidateTable
from explorer.search.sources import left_out


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a pane may show: the view, the selected design with its cost, and the search."""

    view: View
    chosen: Selection
    cost: Cost
    searching: Searching

    @property
    def key(self) -> tuple[object, ...]:
        """Changes with what is selected."""
        return (self.chosen.session, self.chosen.table, self.chosen.row)


class Pane(Protocol):
    """One tab."""

    title: str
    box: Any

    def key(self, shown: Shown, /) -> tuple[object, ...]:
        """Items that, while they stay the same, leave the pane as it is."""

    def show(self, shown: Shown, /) -> None:
        """Describe it."""


class LayersPane:
    """What trains layer by layer, and the memory part by part."""

    title = "Layers"

    def __init__(self) -> None:
        self.box = widgets.HTML()

    def key(self, shown: Shown) -> tuple[object, ...]:
        """The selection."""
        return shown.key

    def show(self, shown: Shown) -> None:
        """Tables with bars."""
        self.box.value = details_html(shown.cost)


class NetworkPane:
    """Channels of every layer and which of them train, above a measure to choose."""

    title = "Network"

    def __init__(self) -> None:
        self._plot = Plot()
        self.measure = fields.explained(
            widgets.Dropdown(
                description="Strip",
                options=[(word, name) for name, word in network.MEASURES.items()],
                value="fisher",
                tooltip=line("strip"),
                layout=widgets.Layout(width="220px"),
                style={"description_width": "40px"},
            )
        )
        self.words = widgets.HTML()
        self.words.add_class("explorer-text")
        row = widgets.HBox([self.measure, self.words])
        row.add_class("explorer-row")
        self.box = widgets.VBox([row, self._plot.box])
        self._data: network.NetworkData | None = None
        self.measure.observe(lambda _: self._draw(), names="value")

    def key(self, shown: Shown) -> tuple[object, ...]:
        """The selection."""
        return shown.key

    def show(self, shown: Shown) -> None:
        """The strip of the selected design."""
        table, row = shown.chosen.table, shown.chosen.row
        session = shown.chosen.session
        designs = table.designs.take(np.array([row]))
        self._data = network.network_data(designs, shown.cost.layers, session.scores)
        self._draw()

    def _draw(self) -> None:
        if self._data is None:
            return
        name = self.measure.value
        is_known = name in self._data.shares
        self.words.value = "" if is_known else "no Fisher information was measured here: MACs shown"
        self._plot.show(network.draw(self._data, name if is_known else "macs"))


class _SelectionPlot:
    """One figure of the selection."""

    def __init__(self) -> None:
        self._plot = Plot()
        self.box = self._plot.box

    def key(self, shown: Shown) -> tuple[object, ...]:
        """The selection."""
        return shown.key


class MemoryPane(_SelectionPlot):
    """The arena: address against the steps of a training step."""

    title = "Memory map"

    def show(self, shown: Shown) -> None:
        """Every buffer, the live bytes and the peak."""
        session = shown.chosen.session
        memory = session.memory_map(shown.chosen.table, shown.chosen.row)
        limit = float(session.profile.ram.usable_bytes - session.reserve_bytes)
        data = arena.arena_data(
            memory.placed, memory.live_bytes, memory.step_labels, limit, memory.level_of
        )
        self._plot.show(arena.draw(data))


class SpendingPane(_SelectionPlot):
    """Where the time and the energy of a step go."""

    title = "Time and energy"

    def show(self, shown: Shown) -> None:
        """The dearest operators first."""
        kind = shown.cost.provenance["step.time_s"].kind
        self._plot.show(spending.draw(spending.spending_data(shown.cost.layers, kind)))


class SearchPane:
    """How the search went, and every candidate as a line.

    A browser takes seconds for thousands of lines, so they rest while candidates stream in.
    """

    title = "Search"

    def __init__(self) -> None:
        self._lines, self._volumes = Plot(), Plot()
        self.words = widgets.HTML()
        self.words.add_class("explorer-text")
        self.box = widgets.VBox([self._lines.box, self.words, self._volumes.box])

    def key(self, shown: Shown) -> tuple[object, ...]:
        """The candidates, the selection, and the share of the optimum once it is known."""
        searching = shown.searching
        found = shown.view.found
        share = searching.share
        table = shown.view.known if found is None else found.table
        return (*shown.key, table, searching.run.phase, "" if share is None else f"{share}")

    def show(self, shown: Shown) -> None:
        """Parallel coordinates of what was found, or of the known policies; the hypervolume."""
        found, searching = shown.view.found, shown.searching
        table = shown.view.known if found is None else found.table
        is_streaming = searching.run.phase in (Phase.RUNNING, Phase.STOPPING)
        if not (is_streaming and self._lines.box.outputs):
            row = _row_in(table, shown.chosen)
            self._lines.show(parallel.draw(parallel.parallel_data(table, row)))
        self.words.value = search_words(searching)
        if not searching.volumes:
            self._volumes.clear()
            return
        lines = {}
        if searching.share:
            lines["optimum of the proxy"] = searching.volumes[-1][1] / searching.share
        runs = {f"{searching.sampler}, seed {searching.seed}": searching.volumes}
        self._volumes.show(history.draw(history.history_data(runs, lines)))


def _row_in(table: CandidateTable, chosen: Selection) -> int | None:
    """The row of a selection; known policies are among the candidates of a search by name."""
    if chosen.table is table:
        return chosen.row
    named = list(zip(table.labels, table.designs.row_setups, strict=True))
    wanted = (chosen.label, chosen.setup)
    return named.index(wanted) if wanted in named else None


def search_words(searching: Searching) -> str:
    """What the lines are, what searched with which settings, and how near it came."""
    key = "blue: front; orange: known policies; green: selected; faint: the others"
    lines = [f"Every line is a candidate ({key}). Drag along an axis to keep a range of it."]
    if searching.session is None:
        lines.append("No search yet: these are the known policies. <b>Search</b> adds candidates.")
    else:
        summary = catalog.load("sampler", searching.sampler).SUMMARY
        run = searching.run
        lines.append(
            f"Sampler {escape(searching.sampler)} ({escape(summary)}), seed {searching.seed}, "
            f"{run.done:,} of {run.total:,} trials"
        )
        if run.phase is Phase.RUNNING:
            lines[-1] += "; the lines follow when it pauses or ends"
    if searching.share is not None:
        lines[-1] += (
            f"; {searching.share:.1%} of the hypervolume of the additive proxy's optimum, "
            "which says nothing about accuracy"
        )
    return "".join(f"<div>{line}</div>" for line in lines)


class EvidencePane:
    """Where each number comes from."""

    title = "Evidence"

    def __init__(self) -> None:
        self.box = widgets.HTML()

    def key(self, shown: Shown) -> tuple[object, ...]:
        """The selection."""
        return shown.key

    def show(self, shown: Shown) -> None:
        """A table of kinds, intervals and sources."""
        chosen = shown.chosen
        session = chosen.session
        unused = left_out(session.graph, session.task_name)
        words = evidence_html(shown.cost, chosen.worth_words, unused)
        self.box.value = words + published_html(published_of(session), chosen.setup)


def panes(pins: Pane, cell: str | None) -> tuple[Pane, ...]:
    """All of them in the order of their tabs; people fill `pins`; `cell` is asked about."""
    return (
        LayersPane(),
        NetworkPane(),
        MemoryPane(),
        SpendingPane(),
        BatteryPane(cell),
        SearchPane(),
        pins,
        EvidencePane(),
    )
