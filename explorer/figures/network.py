"""The network as a strip: channels of every layer, those that train, and a measure below."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explorer.accuracy.scores import ScoreTable
from explorer.design import DesignBatch
from explorer.figures import theme
from explorer.units import FloatArray, IntArray

if TYPE_CHECKING:
    import pandas as pd

MEASURES = {
    "fisher": "Fisher information",
    "macs": "MACs",
    "time_s": "time",
    "energy_j": "energy",
}
_HEIGHT = 320
_SCALE = ((0.0, "#EAF3FA"), (0.5, theme.SKY_BLUE), (1.0, theme.BLUE))


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class NetworkData:
    """L weighted layers from input to output; a layer has `channels` [L], `trained` [L] of them.

    `shares` of the whole network [L] by name of MEASURES; Fisher only where it was measured.
    """

    names: tuple[str, ...]
    channels: IntArray
    trained: IntArray
    has_bias: tuple[bool, ...]
    shares: Mapping[str, FloatArray]


def network_data(
    designs: DesignBatch, columns: "pd.DataFrame", scores: ScoreTable | None = None
) -> NetworkData:
    """The first design, the rows of its cost by operator, and channel scores where there are."""
    names = designs.axes.names
    rows = columns.set_index("name").reindex(names).fillna(0.0)
    macs = [name for name in rows.columns if name.endswith("_macs")]
    shares = {
        "macs": rows[macs].sum(axis=1).to_numpy(dtype=np.float64),
        "time_s": rows["time_s"].to_numpy(dtype=np.float64),
        "energy_j": rows["energy_j"].to_numpy(dtype=np.float64),
    }
    if scores is not None:
        fisher = dict(zip(scores.layer_names, scores.layer_fisher(), strict=True))
        shares = {"fisher": np.array([fisher.get(name, 0.0) for name in names]), **shares}
    return NetworkData(
        names=tuple(names),
        channels=designs.slice_counts[0],
        trained=designs.slices[0],
        has_bias=tuple(bool(bias) for bias in designs.update_bias[0] | designs.update_norm[0]),
        shares={name: share / (share.sum() or 1.0) for name, share in shares.items()},
    )


def draw(data: NetworkData, measure: str) -> go.Figure:
    """Bars as high as layers have channels, trained ones green; below them a strip of a measure."""
    share, word = data.shares[measure], MEASURES[measure]
    said = [
        f"{name}<br>{trained} of {count} channels train"
        f"{', bias or norm too' if bias else ''}<br>{part:.1%} of the network's {word}"
        for name, count, trained, bias, part in zip(
            data.names, data.channels, data.trained, data.has_bias, share, strict=True
        )
    ]
    places = np.arange(len(data.names))
    marked = np.flatnonzero(np.array(data.has_bias, dtype=bool))
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.88, 0.12], vertical_spacing=0.03
    )
    bars = (
        ("trained channels", data.trained, theme.GREEN),
        ("frozen channels", data.channels - data.trained, theme.FROZEN),
    )
    for name, counts, color in bars:
        figure.add_trace(
            go.Bar(
                x=places, y=counts, name=name, marker_color=color, hovertext=said, hoverinfo="text"
            ),
            row=1,
            col=1,
        )
    figure.add_trace(
        go.Scatter(
            x=places[marked],
            y=np.zeros(len(marked)),
            name="bias or norm trains",
            mode="markers",
            marker={"symbol": "triangle-up", "size": 8, "color": theme.ORANGE},
            hoverinfo="skip",
            cliponaxis=False,
        ),
        row=1,
        col=1,
    )
    figure.add_trace(
        go.Heatmap(
            x=places,
            z=share[None],
            y=[word],
            colorscale=_SCALE,
            zmin=0.0,
            zmax=float(share.max(initial=0.0)) or 1.0,
            xgap=1,
            text=[said],
            hoverinfo="text",
            colorbar={
                "title": {"text": f"share of<br>{word}"},
                "tickformat": ".2~p",
                "nticks": 4,
                "thickness": 12,
            },
        ),
        row=2,
        col=1,
    )
    figure.update_layout(
        **theme.layout(_HEIGHT),
        barmode="stack",
        bargap=0.14,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom"},
    )
    figure.update_xaxes(**theme.axis(), showgrid=False, range=[-0.6, len(places) - 0.4])
    figure.update_xaxes(
        title_text="weighted layers, from input to output",
        tickvals=places,
        ticktext=data.names,
        tickangle=-60,
        tickfont={"size": 9},
        row=2,
    )
    figure.update_yaxes(**theme.axis(), title_text="channels", row=1)
    figure.update_yaxes(**theme.axis(), showgrid=False, row=2)
    return figure
