"""Where the time and the energy of a step go: the dearest operators, the rest in one bar."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explorer.figures import axes, theme
from explorer.units import FloatArray, format_quantity

if TYPE_CHECKING:
    import pandas as pd

_ROW_HEIGHT = 17
_FRAME_HEIGHT = 70
_TEXT_ROOM = 0.2  # the longest bar leaves room for its text


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SpendingData:
    """Operators by falling time; the last row holds all others. `kind` is that of the time."""

    names: tuple[str, ...]
    time_s: FloatArray
    energy_j: FloatArray
    kind: str


def spending_data(columns: "pd.DataFrame", kind: str, shown_count: int = 15) -> SpendingData:
    """Rows of a cost's `layers`, the `shown_count` dearest by name."""
    time_s = np.asarray(columns["time_s"], dtype=float)
    energy_j = np.asarray(columns["energy_j"], dtype=float)
    order = np.argsort(-time_s, kind="stable")
    first, rest = order[:shown_count], order[shown_count:]
    names = [str(columns["name"].iloc[row]) for row in first]
    if len(rest):
        names.append(f"{len(rest)} others")
    tail = slice(0, 1 if len(rest) else 0)
    return SpendingData(
        names=tuple(names),
        time_s=np.concatenate([time_s[first], np.array([time_s[rest].sum()])[tail]]),
        energy_j=np.concatenate([energy_j[first], np.array([energy_j[rest].sum()])[tail]]),
        kind=kind,
    )


def draw(data: SpendingData) -> go.Figure:
    """Two bar charts that share their rows."""
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.03)
    columns = (
        (1, data.time_s, "time of a step", "s", theme.BLUE),
        (2, data.energy_j, "energy of a step", "J", theme.ORANGE),
    )
    for column, values, title, unit, color in columns:
        figure.add_trace(
            go.Bar(
                x=values,
                y=data.names,
                orientation="h",
                marker_color=color,
                text=[format_quantity(value, unit) for value in values],
                textposition="outside",
                cliponaxis=False,
                hoverinfo="skip",
                showlegend=False,
            ),
            row=1,
            col=column,
        )
        most = float(values.max(initial=0.0))
        across = axes.axis_from_zero(f"{title} ({data.kind})", most, unit, _TEXT_ROOM)
        figure.update_xaxes(**theme.axis(), **across.options, col=column)
    figure.update_layout(**theme.layout(_FRAME_HEIGHT + _ROW_HEIGHT * len(data.names)), bargap=0.2)
    figure.update_yaxes(**theme.axis(), autorange="reversed", type="category", dtick=1)
    return figure
