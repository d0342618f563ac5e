"""A published claim: our number under each setting of what moves it, and the published one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import plotly.graph_objects as go

from explorer.figures import theme
from explorer.figures.axes import AxisData, decimal_axis, linear_axis
from explorer.units import FloatArray

_BAR_HEIGHT, _MARGIN_HEIGHT = 32, 90
_LOG_FROM = 30.0  # times between the ends
_WHOLE_FROM = 100.0


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ClaimData:
    """Our `values` [N] by setting, first the setting of the claim; `published` is None of none."""

    settings: tuple[str, ...]
    values: FloatArray
    published: float | None
    axis: AxisData

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as people read them."""
        return tuple(map(number_text, self.values.tolist()))


def claim_data(quantity: str, values: Mapping[str, float], published: float | None) -> ClaimData:
    """A claim about a quantity, whose name and unit stand on the axis."""
    ours = np.array(list(values.values()), dtype=float)
    seen = ours if published is None else np.append(ours, published)
    is_log = seen.min() >= 1 and seen.max() / seen.min() > _LOG_FROM
    if is_log:
        axis = decimal_axis(quantity, seen, number_text)
    else:
        axis = linear_axis(quantity, np.append(seen, 0.0))
        axis = axis if seen.min() < 0 else replace(axis, low=0.0)
    return ClaimData(settings=tuple(values), values=ours, published=published, axis=axis)


def number_text(value: float) -> str:
    """Three digits, and every digit before the point."""
    return f"{value:,.0f}" if abs(value) >= _WHOLE_FROM else f"{value:.3g}"


def draw(data: ClaimData) -> go.Figure:
    """A bar a setting, the first on top, and the published number across them."""
    others = theme.BLUE if data.published is None else theme.SKY_BLUE
    figure = go.Figure(
        go.Bar(
            x=data.values,
            y=data.settings,
            orientation="h",
            text=data.texts,
            insidetextanchor="middle",
            textangle=0,
            marker_color=[theme.BLUE, *[others] * (len(data.settings) - 1)],
            hovertemplate="%{y}: %{text}<extra></extra>",
            showlegend=False,
        )
    )
    figure.update_layout(**theme.layout(_MARGIN_HEIGHT + _BAR_HEIGHT * len(data.settings)))
    figure.update_xaxes(**theme.axis(), **data.axis.options)
    figure.update_yaxes(**theme.axis(), autorange="reversed")
    if data.published is not None:
        figure.add_trace(
            go.Scatter(
                x=[data.published] * len(data.settings),
                y=data.settings,
                mode="lines+markers",
                line={"color": theme.VERMILLION, "dash": "dash", "width": 2},
                name=f"published: {number_text(data.published)}",
                hovertemplate="%{fullData.name}<extra></extra>",
            )
        )
        figure.update_layout(
            showlegend=True, legend={"orientation": "h", "y": 1.0, "yanchor": "bottom"}
        )
    return figure
