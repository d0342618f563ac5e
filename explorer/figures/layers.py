"""What one design does layer by layer: share trained, MACs, activations kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explorer.figures import axes, theme
from explorer.provenance import Kind
from explorer.units import FloatArray, format_bytes, format_count

if TYPE_CHECKING:
    import pandas as pd

MAC_WORDS = {
    "forward_macs": "forward",
    "input_grad_macs": "input gradient",
    "weight_grad_macs": "weight gradient",
    "recompute_macs": "run again",
}
_ROW_HEIGHT = 15
_FRAME_HEIGHT = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class LayersData:
    """L layers from input to output; MACs are per sample and by pass [L]."""

    names: tuple[str, ...]
    ops: tuple[str, ...]
    trained_ratio: FloatArray
    macs: Mapping[str, FloatArray]
    saved_bytes: FloatArray
    kind: Kind = Kind.MODELLED

    @property
    def mac_words(self) -> dict[str, str]:
        """What each pass is called; running again only where something does."""
        is_shown = {
            name: name != "recompute_macs" or column.any() for name, column in self.macs.items()
        }
        return {name: word for name, word in MAC_WORDS.items() if is_shown[name]}

    @property
    def total_macs(self) -> FloatArray:
        """MACs of a layer over all passes [L]."""
        total: FloatArray = np.sum(list(self.macs.values()), axis=0)
        return total


def layers_data(columns: "pd.DataFrame") -> LayersData:
    """Layers that compute, train or keep something, from the rows of a cost."""
    numbers = {
        name: np.asarray(columns[name], dtype=float)
        for name in ("trained_ratio", "saved_bytes", *MAC_WORDS)
    }
    rows = np.flatnonzero(np.sum([np.nan_to_num(column) for column in numbers.values()], axis=0))
    names, ops = list(columns["name"]), list(columns["op"])
    return LayersData(
        names=tuple(str(names[row]) for row in rows),
        ops=tuple(str(ops[row]) for row in rows),
        trained_ratio=numbers["trained_ratio"][rows],
        macs={name: numbers[name][rows] for name in MAC_WORDS},
        saved_bytes=numbers["saved_bytes"][rows],
    )


def draw(data: LayersData) -> go.Figure:
    """Three bar charts that share their rows, the input at the top."""
    figure = make_subplots(rows=1, cols=3, shared_yaxes=True, horizontal_spacing=0.03)
    figure.add_trace(
        _bars(data, data.trained_ratio, "trained share", theme.GREEN, _percent), row=1, col=1
    )
    for name, word in data.mac_words.items():
        trace = _bars(data, data.macs[name], f"{word} MACs", theme.MAC_COLORS[name], format_count)
        figure.add_trace(trace, row=1, col=2)
    saved = _bars(data, data.saved_bytes, "saved activations", theme.ORANGE, format_bytes)
    figure.add_trace(saved, row=1, col=3)
    figure.update_layout(
        **theme.layout(_FRAME_HEIGHT + _ROW_HEIGHT * max(len(data.names), 4)),
        barmode="stack",
        bargap=0.2,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "traceorder": "normal"},
    )
    figure.update_yaxes(**theme.axis(), autorange="reversed", type="category", dtick=1)
    word = data.kind.word
    figure.update_xaxes(**theme.axis())
    figure.update_xaxes(title_text="weight slices trained", tickformat=".0%", range=[0, 1], col=1)
    columns = (
        (2, f"MACs per sample ({word})", data.total_macs, "MAC"),
        (3, f"kept for backward ({word})", data.saved_bytes, "byte"),
    )
    for column, title, values, unit in columns:
        across = axes.axis_from_zero(title, float(values.max(initial=0.0)), unit)
        figure.update_xaxes(**across.options, col=column)
    return figure


def _bars(
    data: LayersData, values: FloatArray, name: str, color: str, text_of: Callable[[float], str]
) -> go.Bar:
    return go.Bar(
        x=values,
        y=data.names,
        name=name,
        orientation="h",
        marker_color=color,
        hovertext=[
            f"{layer} ({op}): {name} {text_of(value)}"
            for layer, op, value in zip(data.names, data.ops, values, strict=True)
        ],
        hoverinfo="text",
    )


def _percent(ratio: float) -> str:
    return f"{ratio:.0%}"
