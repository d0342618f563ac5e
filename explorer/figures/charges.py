"""Adaptation sessions of one charge of a cell, policy by policy."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from explorer.costmodel.battery import Battery
from explorer.costmodel.report import Cost
from explorer.figures import theme
from explorer.figures.axes import AxisData, linear_axis
from explorer.units import FloatArray

_ROW_HEIGHT = 20
_FRAME_HEIGHT = 76
_TEXT_ROOM = 1.1  # the longest whisker leaves room for a number


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ChargesData:
    """Policies by falling `sessions` [N] with their 90 % ends; `marked` is one of the names.

    Those in `misfits` do not fit the board, so that their number is of no use there.

    `idle` are policies whose session takes no energy, so that no charge limits them.
    """

    names: tuple[str, ...]
    sessions: FloatArray
    low: FloatArray
    high: FloatArray
    marked: str
    misfits: frozenset[str]
    idle: tuple[str, ...]
    axis: AxisData


def charges_data(costs: Mapping[str, Cost], battery: Battery, marked: str) -> ChargesData:
    """Costs by policy against one cell."""
    charged = {name: cost.with_battery(battery) for name, cost in costs.items()}
    rows, idle = [], []
    for name, cost in charged.items():
        sessions = battery.sessions(cost.session["energy_j"])
        known = cost.provenance["battery.sessions_per_charge"]
        if sessions is None or known.low is None or known.high is None:
            idle.append(name)
        else:
            rows.append((sessions, known.low, known.high, name))
    rows.sort(reverse=True)
    columns = np.array([row[:3] for row in rows], dtype=np.float64).reshape(-1, 3)
    kind = max((cost.provenance["session.energy_j"].kind for cost in costs.values()), default="")
    most = float(columns.max(initial=1.0)) * _TEXT_ROOM
    axis = linear_axis(f"sessions of one charge ({kind})", np.array([0.0, most]))
    return ChargesData(
        names=tuple(row[3] for row in rows),
        sessions=columns[:, 0],
        low=columns[:, 1],
        high=columns[:, 2],
        marked=marked,
        misfits=frozenset(name for name, cost in costs.items() if not cost.fits_all),
        idle=tuple(idle),
        axis=axis,
    )


def draw(data: ChargesData) -> go.Figure:
    """One bar a policy with a whisker of 90 %, the marked one in its own colour."""
    colors = [theme.PURPLE if name == data.marked else theme.SKY_BLUE for name in data.names]
    spread = {
        "type": "data",
        "symmetric": False,
        "array": data.high - data.sessions,
        "arrayminus": data.sessions - data.low,
        "color": theme.GREY,
        "thickness": 1.5,
    }
    figure = go.Figure(
        go.Bar(
            x=data.sessions,
            y=data.names,
            orientation="h",
            marker={
                "color": colors,
                "pattern": {
                    "shape": ["/" if name in data.misfits else "" for name in data.names],
                    "fgcolor": theme.VERMILLION,
                    "fillmode": "overlay",
                },
            },
            error_x=spread,
            customdata=np.column_stack([data.low, data.high]),
            hovertemplate="%{y}: %{x:,.4~r} sessions, 90 %: %{customdata[0]:,.4~r} to "
            "%{customdata[1]:,.4~r}<extra></extra>",
            showlegend=False,
        )
    )
    figure.add_trace(
        go.Scatter(
            x=data.high,
            y=data.names,
            mode="text",
            text=[f" {sessions_text(value)}" for value in data.sessions],
            textposition="middle right",
            hoverinfo="skip",
            showlegend=False,
            cliponaxis=False,
        )
    )
    height = _FRAME_HEIGHT + _ROW_HEIGHT * max(len(data.names), 2)
    figure.update_layout(**theme.layout(height), bargap=0.2)
    figure.update_xaxes(**theme.axis(), **data.axis.options)
    figure.update_xaxes(range=[0.0, data.axis.high])
    figure.update_yaxes(**theme.axis(), autorange="reversed", type="category", dtick=1)
    return figure


def sessions_text(sessions: float) -> str:
    """`951`, and one digit behind the point below ten."""
    return f"{sessions:,.0f}" if sessions >= 10 else f"{sessions:.1f}"
