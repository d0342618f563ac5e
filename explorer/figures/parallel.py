"""Candidates as lines across their genes and quantities, those of the front in colour."""

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from explorer.figures import theme
from explorer.search.candidates import CandidateTable
from explorer.search.quantities import COST_COLUMNS, UNITS
from explorer.units import BoolArray, FloatArray, IntArray, format_quantity

LINE_CAP = 1000
_HEIGHT = 380
_WANTED_TICKS = 5
_QUANTITIES = {
    "memory": "peak RAM",
    "above-inference": "above inference",
    "energy": "energy",
    "time": "time",
    "macs": "MACs",
    "trained-parameters": "trained parameters",
}


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Column:
    """One axis: values [P], ticks on it and their texts; a word's value is its number."""

    title: str
    values: FloatArray
    ticks: tuple[float, ...]
    tick_texts: tuple[str, ...]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ParallelData:
    """Columns over the drawn candidates [P]; `rows` are theirs in the table, the front last."""

    columns: tuple[Column, ...]
    rows: IntArray
    on_front: BoolArray


def parallel_data(table: CandidateTable, cap: int = LINE_CAP) -> ParallelData:
    """Genes first (what trains, and of the setup what differs), then quantities, then the score.

    Every member of the front and, up to `cap` lines, an even share of the others by score.
    """
    front = np.flatnonzero(table.on_front)
    others = np.flatnonzero(~table.on_front)
    room = max(0, cap - len(front))
    if len(others) > room:
        order = others[np.argsort(table.score[others], kind="stable")]
        others = order[np.linspace(0, len(order) - 1, room).round().astype(np.int64)]
    rows = np.concatenate([np.sort(others), front])
    drawn = table.take(rows)
    return ParallelData(
        columns=(*_gene_columns(drawn), *_quantity_columns(drawn)),
        rows=rows,
        on_front=table.on_front[rows],
    )


def draw(data: ParallelData) -> go.Figure:
    """Grey lines, and those of the front over them; a drag along an axis narrows it."""
    lines = go.Parcoords(
        line={
            "color": data.on_front.astype(np.float64),
            "colorscale": [[0.0, theme.GRID], [1.0, theme.BLUE]],
            "cmin": 0,
            "cmax": 1,
        },
        dimensions=[
            {
                "label": column.title,
                "values": column.values,
                "tickvals": column.ticks,
                "ticktext": column.tick_texts,
            }
            for column in data.columns
        ],
        labelfont={"size": theme.FONT_SIZE, "color": theme.INK},
        tickfont={"size": theme.LABEL_SIZE, "color": theme.INK},
    )
    figure = go.Figure(lines)
    figure.update_layout(**theme.layout(_HEIGHT), margin_t=48, margin_l=60, margin_r=60)
    return figure


def _gene_columns(table: CandidateTable) -> list[Column]:
    designs = table.designs
    position = np.arange(len(designs.axes.names), 0, -1)
    weights, biases = designs.slices > 0, designs.update_bias
    layers = np.maximum(weights.sum(axis=1), 1)
    columns = [
        _numbers("depth", (weights * position).max(axis=1, initial=0)),
        _numbers("bias depth", (biases * position).max(axis=1, initial=0)),
        _numbers("trained layers", weights.sum(axis=1)),
        _numbers("share of channels", designs.update_ratio.sum(axis=1) / layers),
    ]
    if any(designs.adapters):
        columns.append(_numbers("adapters", np.array([len(row) for row in designs.adapters])))
    for name, values in designs.setup_columns().items():
        columns.append(_words(name.replace("_", " "), values))
    return columns


def _quantity_columns(table: CandidateTable) -> list[Column]:
    columns = []
    for word, title in _QUANTITIES.items():
        name, unit = COST_COLUMNS[word]
        columns.append(_numbers(title, table.column(name), unit))
    columns.append(_numbers(table.score_name, table.score, UNITS[table.score_column]))
    return columns


def _numbers(title: str, values: FloatArray | IntArray, unit: str = "1") -> Column:
    """An axis of numbers with ticks in even steps from the least to the most."""
    values = np.asarray(values, dtype=np.float64)
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    ticks = np.unique(np.linspace(low, high, _WANTED_TICKS))
    texts = tuple(format_quantity(float(tick), unit) for tick in ticks)
    return Column(title=title, values=values, ticks=tuple(ticks.tolist()), tick_texts=texts)


def _words(title: str, values: list[object]) -> Column:
    """An axis of words, numbers in order, as they are of the setups here."""
    known = sorted(set(values), key=lambda value: (isinstance(value, str), str(value).zfill(9)))
    place = {value: float(at) for at, value in enumerate(known)}
    return Column(
        title=title,
        values=np.array([place[value] for value in values]),
        ticks=tuple(place.values()),
        tick_texts=tuple("own" if value is None else str(value) for value in known),
    )
