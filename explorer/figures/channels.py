"""Fisher information by layer and channel: which channels of a layer matter, and how unevenly."""

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explorer.accuracy.scores import ScoreTable
from explorer.figures import theme
from explorer.figures.axes import PERCENT
from explorer.provenance import Kind
from explorer.units import FloatArray

SMALLEST_RATIO = 1e-2
LARGEST_RATIO = 1e2
_ROW_HEIGHT = 14
_FRAME_HEIGHT = 90
_COLORS = ((0.0, theme.GRID), (0.5, theme.SKY_BLUE), (1.0, theme.BLUE))


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ChannelsData:
    """L layers from input to output, C channels of the widest.

    `mean_ratio` [L, C] is a channel's Fisher information over the mean of its layer, best
    channel first, nan past the layer's last; `layer_ratio` [L] the layer's share of the
    network's.
    """

    names: tuple[str, ...]
    mean_ratio: FloatArray
    layer_ratio: FloatArray
    kind: Kind = Kind.MEASURED


def channels_data(table: ScoreTable) -> ChannelsData:
    """Fisher information of a score table; layers without any have ratio zero."""
    columns = table.columns["fisher_out"]
    ratios = np.full((len(columns), max(len(column) for column in columns)), np.nan)
    for row, column in zip(ratios, columns, strict=True):
        mean = column.mean()
        row[: len(column)] = np.sort(column)[::-1] / (mean if mean > 0 else 1.0)
    layers = table.layer_fisher()
    total = layers.sum()
    return ChannelsData(
        names=table.layer_names,
        mean_ratio=ratios,
        layer_ratio=layers / (total if total > 0 else 1.0),
    )


def draw(data: ChannelsData) -> go.Figure:
    """A heat map on a logarithmic scale, and a bar a layer, which share their rows."""
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.03, column_widths=[0.75, 0.25]
    )
    low, high = np.log10((SMALLEST_RATIO, LARGEST_RATIO))
    ticks = np.arange(low, high + 1)
    figure.add_trace(
        go.Heatmap(
            z=np.log10(np.clip(data.mean_ratio, SMALLEST_RATIO, LARGEST_RATIO)),
            y=data.names,
            zmin=low,
            zmax=high,
            colorscale=_COLORS,
            customdata=data.mean_ratio,
            hovertemplate="%{y}, channel %{x} by rank: %{customdata:.2g} x the mean<extra></extra>",
            hoverongaps=False,
            colorbar={
                "title": {"text": "x mean of<br>its layer"},
                "tickvals": ticks,
                "ticktext": [f"{10**tick:g}" for tick in ticks],
                "thickness": 12,
            },
        ),
        row=1,
        col=1,
    )
    figure.add_trace(
        go.Bar(
            x=data.layer_ratio,
            y=data.names,
            orientation="h",
            marker_color=theme.BLUE,
            hovertemplate="%{y}: %{x:.2%} of the network's<extra></extra>",
            showlegend=False,
        ),
        row=1,
        col=2,
    )
    figure.update_layout(**theme.layout(_FRAME_HEIGHT + _ROW_HEIGHT * max(len(data.names), 6)))
    figure.update_yaxes(**theme.axis(), autorange="reversed", type="category", dtick=1)
    figure.update_xaxes(
        **theme.axis(), title_text=f"channel, best first (Fisher, {data.kind.word})", col=1
    )
    figure.update_xaxes(showgrid=False, col=1)
    figure.update_yaxes(showgrid=False)
    figure.update_xaxes(**theme.axis(), title_text="layer's share", tickformat=PERCENT, col=2)
    return figure
