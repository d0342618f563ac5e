"""Candidates as lines across what they are worth and what they cost: parallel coordinates."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from explorer.design import DesignBatch
from explorer.figures import axes, theme
from explorer.figures.points import worth_format
from explorer.search.candidates import CandidateTable
from explorer.units import (
    FloatArray,
    IntArray,
    format_bytes,
    format_count,
    format_joules,
    format_seconds,
)

LINE_CAP = 1000
ROLES = ("misfit", "fits", "known", "front", "selected")
_COLORS = ("#F4C7A8", "#CFE3F2", theme.ORANGE, theme.BLUE, theme.GREEN)
_HEIGHT = 300


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Dimension:
    """One upright axis: `places` [P] along it, on a logarithmic axis of the logarithms."""

    title: str
    places: FloatArray
    low: float
    high: float
    ticks: tuple[float, ...] = ()
    tick_texts: tuple[str, ...] = ()
    tick_format: str = ""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ParallelData:
    """P lines: `rows` [P] of the table, `roles` [P] as indices of ROLES, and the axes."""

    rows: IntArray
    roles: IntArray
    dimensions: tuple[Dimension, ...]


def parallel_data(
    table: CandidateTable, selected_row: int | None = None, cap: int = LINE_CAP
) -> ParallelData:
    """Candidates of a table, the front, known policies and the selection on top.

    At most `cap` lines of the others are drawn, evenly by memory.
    """
    known = np.array([bool(label) for label in table.labels], dtype=bool)
    roles = np.select([table.on_front, known, table.feasible], [3, 2, 1], 0)
    if selected_row is not None:
        roles[selected_row] = len(ROLES) - 1
    usable = np.isfinite(table.score)
    others = np.flatnonzero((roles < 2) & usable)
    if len(others) > cap:
        ordered = others[np.argsort(table.memory_bytes[others], kind="stable")]
        others = ordered[np.linspace(0, len(ordered) - 1, cap).round().astype(np.int64)]
    rows = np.concatenate([others, np.flatnonzero((roles >= 2) & usable)])
    rows = rows[np.argsort(roles[rows], kind="stable")]
    costs = table.costs
    columns: tuple[tuple[str, FloatArray, Callable[[float], str] | None], ...] = (
        (table.score_name.removeprefix("proxy score: "), table.score, None),
        ("memory", table.memory_bytes, format_bytes),
        ("energy of a step", table.step_energy_j, format_joules),
        ("time of a step", table.step_time_s, format_seconds),
        ("layers passed back", backward_depth(table.designs).astype(np.float64), None),
        ("trained parameters", costs.trained_parameter_count, format_count),
    )
    return ParallelData(
        rows=rows,
        roles=roles[rows],
        dimensions=tuple(
            _dimension(*column, rows, worth_format(table.score_name) if at == 0 else "")
            for at, column in enumerate(columns)
        ),
    )


def backward_depth(designs: DesignBatch) -> IntArray:
    """Weighted layers from the output down to the first that trains [P]; 0 where none does."""
    trains = (designs.slices > 0) | designs.update_bias | designs.update_norm
    count = trains.shape[1]
    depth: IntArray = np.where(trains.any(axis=1), count - trains.argmax(axis=1), 0)
    return depth


def draw(data: ParallelData) -> go.Figure:
    """One line a candidate; a stretch dragged along an axis greys what is outside."""
    steps = len(_COLORS)
    scale = [
        (edge / steps, color) for index, color in enumerate(_COLORS) for edge in (index, index + 1)
    ]
    figure = go.Figure(
        go.Parcoords(
            line={"color": data.roles, "colorscale": scale, "cmin": -0.5, "cmax": steps - 0.5},
            dimensions=[
                {
                    "label": dimension.title,
                    "values": dimension.places,
                    "range": [dimension.low, dimension.high],
                    **(
                        {"tickvals": dimension.ticks, "ticktext": dimension.tick_texts}
                        if dimension.ticks
                        else {"tickformat": dimension.tick_format}
                    ),
                }
                for dimension in data.dimensions
            ],
            labelfont={"size": theme.FONT_SIZE},
            tickfont={"size": theme.LABEL_SIZE},
            rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
        )
    )
    figure.update_layout(**theme.layout(_HEIGHT))
    figure.update_layout(margin={"l": 60, "r": 60, "t": 40, "b": 16})
    return figure


def _dimension(
    title: str,
    column: FloatArray,
    text_of: Callable[[float], str] | None,
    rows: IntArray,
    tick_format: str,
) -> Dimension:
    """Quantities with a unit run along logarithms; zero has none and stands at the low end."""
    shown = column[rows]
    if text_of is None or not (shown > 0).any():
        axis = axes.linear_axis(title, shown)
        return Dimension(
            title=title, places=shown, low=axis.low, high=axis.high, tick_format=tick_format
        )
    make = axes.byte_axis if text_of is format_bytes else axes.decimal_axis
    axis = make(title, shown, text_of)
    return Dimension(
        title=title,
        places=np.log10(np.maximum(shown, axis.low)),
        low=float(np.log10(axis.low)),
        high=float(np.log10(axis.high)),
        ticks=tuple(float(np.log10(tick)) for tick in axis.ticks),
        tick_texts=axis.tick_texts,
    )
