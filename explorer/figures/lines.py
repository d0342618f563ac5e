"""Quantities against one knob, such as memory against the batch: a line each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import plotly.graph_objects as go

from explorer.figures import theme
from explorer.figures.axes import AxisData, byte_axis, decimal_axis
from explorer.units import FloatArray, format_bytes

COLORS = (theme.BLUE, theme.ORANGE, theme.GREEN, theme.PURPLE, theme.SKY_BLUE, theme.VERMILLION)
_HEIGHT = 320
_TICK_RATIO = 1.5  # between the settings of two labels


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class LinesData:
    """Named `lines` [N] over rising settings of a `knob` [N]; `limit` is a bound of the axis."""

    knob: FloatArray
    lines: Mapping[str, FloatArray]
    texts: Mapping[str, tuple[str, ...]]
    limit: float | None
    knob_axis: AxisData
    axis: AxisData

    @property
    def ticks(self) -> tuple[float, ...]:
        """The settings that have room for a label."""
        kept: list[float] = []
        for value in self.knob.tolist():
            if not kept or value >= _TICK_RATIO * kept[-1]:
                kept.append(value)
        return tuple(kept)


def lines_data(
    knob: str,
    settings: list[float],
    quantity: str,
    lines: Mapping[str, list[float]],
    text_of: Callable[[float], str] = format_bytes,
    limit: float | None = None,
) -> LinesData:
    """Positive quantities over positive settings, both on logarithmic axes."""
    columns = {name: np.array(values, dtype=float) for name, values in lines.items()}
    seen = np.concatenate([*columns.values(), [] if limit is None else [limit]])
    axis_of = byte_axis if text_of is format_bytes else decimal_axis
    return LinesData(
        knob=np.array(settings, dtype=float),
        lines=columns,
        texts={name: tuple(map(text_of, values.tolist())) for name, values in columns.items()},
        limit=limit,
        knob_axis=decimal_axis(knob, np.array(settings, dtype=float), "{:g}".format),
        axis=axis_of(quantity, seen, text_of),
    )


def draw(data: LinesData) -> go.Figure:
    """One line a name, marked at every setting, and the limit as a dashed line."""
    figure = go.Figure(
        [
            go.Scatter(
                x=data.knob,
                y=values,
                name=name,
                mode="lines+markers",
                line={"color": COLORS[index % len(COLORS)], "width": 2},
                customdata=data.texts[name],
                hovertemplate="%{x:g}: %{customdata}<extra>%{fullData.name}</extra>",
            )
            for index, (name, values) in enumerate(data.lines.items())
        ]
    )
    if data.limit is not None:
        figure.add_hline(y=data.limit, line={"color": theme.VERMILLION, "dash": "dash"})
    figure.update_layout(**theme.layout(_HEIGHT), showlegend=True)
    figure.update_layout(legend={"orientation": "h", "y": 1.0, "yanchor": "bottom"}, margin_t=32)
    knob = replace(
        data.knob_axis, ticks=data.ticks, tick_texts=tuple(f"{tick:g}" for tick in data.ticks)
    )
    figure.update_xaxes(**theme.axis(), **knob.options)
    figure.update_yaxes(**theme.axis(), **data.axis.options)
    return figure
