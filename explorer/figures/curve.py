"""Time to accuracy: query accuracy against steps, and against modelled seconds on a device."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explorer.accuracy.records import AccuracyCurve
from explorer.figures import theme
from explorer.figures.axes import PERCENT, AxisData, decimal_axis, linear_axis
from explorer.figures.labels import short_label
from explorer.units import FloatArray, format_seconds

COLORS = (theme.BLUE, theme.ORANGE, theme.GREEN, theme.PURPLE, theme.SKY_BLUE, theme.VERMILLION)
_HEIGHT = 320
_BAND_OPACITY = 0.15


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class CurveData:
    """One policy: `accuracy` [S] after `steps` [S], done at `time_s` [S]; `low`, `high` one error.

    A time of 0 has no place on a logarithmic axis and is nan.
    """

    name: str
    steps: FloatArray
    time_s: FloatArray
    accuracy: FloatArray
    low: FloatArray
    high: FloatArray
    color: str


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class CurvesData:
    """Curves of several policies and the axes they share."""

    curves: tuple[CurveData, ...]
    steps_axis: AxisData
    time_axis: AxisData
    accuracy_axis: AxisData


def curves_data(
    curves: Sequence[AccuracyCurve], times_s: Sequence[FloatArray], device: str
) -> CurvesData:
    """Measured curves with the modelled times of their steps on a device."""
    rows = []
    for index, (curve, time_s) in enumerate(zip(curves, times_s, strict=True)):
        error = np.nan_to_num(curve.error)
        rows.append(
            CurveData(
                name=short_label(curve.run.design.family),
                steps=np.array(curve.steps, dtype=float),
                time_s=np.where(time_s > 0, time_s, np.nan),
                accuracy=curve.accuracy,
                low=curve.accuracy - error,
                high=curve.accuracy + error,
                color=COLORS[index % len(COLORS)],
            )
        )
    bounds = np.concatenate([[row.low, row.high] for row in rows], axis=None)
    times = np.concatenate([row.time_s for row in rows])
    steps = np.concatenate([row.steps for row in rows])
    return CurvesData(
        curves=tuple(rows),
        steps_axis=linear_axis("step", steps),
        time_axis=decimal_axis(f"time on {device}, modelled", times, format_seconds),
        accuracy_axis=linear_axis("query accuracy, measured", bounds, PERCENT),
    )


def draw(data: CurvesData) -> go.Figure:
    """Two panels that share the accuracy axis; bands are one standard error."""
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.03)
    for column, name in ((1, "steps"), (2, "time_s")):
        for curve in data.curves:
            across = getattr(curve, name)
            known = np.isfinite(across)
            x, low, high = across[known], curve.low[known], curve.high[known]
            figure.add_trace(
                go.Scatter(
                    x=np.concatenate([x, x[::-1]]),
                    y=np.concatenate([low, high[::-1]]),
                    mode="lines",
                    fill="toself",
                    fillcolor=curve.color,
                    opacity=_BAND_OPACITY,
                    line_width=0,
                    hoverinfo="skip",
                    showlegend=False,
                ),
                row=1,
                col=column,
            )
            figure.add_trace(
                go.Scatter(
                    x=x,
                    y=curve.accuracy[known],
                    name=curve.name,
                    mode="lines+markers",
                    line_color=curve.color,
                    showlegend=column == 1,
                ),
                row=1,
                col=column,
            )
        axis = data.steps_axis if column == 1 else data.time_axis
        figure.update_xaxes(**theme.axis(), **axis.options, col=column)
    accuracy = data.accuracy_axis
    figure.update_yaxes(**theme.axis(), **replace(accuracy, title="").options)
    figure.update_yaxes(title_text=accuracy.title, col=1)
    figure.update_layout(**theme.layout(_HEIGHT), legend={"orientation": "h", "y": 1.15})
    return figure
