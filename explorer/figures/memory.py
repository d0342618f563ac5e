"""Where the memory of a step goes, and the peak against the device's limit."""

from collections.abc import Mapping
from dataclasses import dataclass

import plotly.graph_objects as go

from explorer.figures import axes, theme
from explorer.provenance import Kind
from explorer.units import format_bytes

PART_WORDS = {
    "weight_bytes": "weights",
    "saved_activation_bytes": "saved activations",
    "gradient_bytes": "gradients",
    "optimizer_bytes": "optimizer state",
    "workspace_bytes": "workspace",
}
PEAK_WORD = "peak live"
_FIGURE_HEIGHT = 210


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPart:
    """One bar."""

    word: str
    size_bytes: float
    color: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryData:
    """Parts of a step's memory, its peak and the limit of the level that holds it.

    Parts are totals over the step; they are not all alive at once, so the peak
    is not their sum.
    """

    parts: tuple[MemoryPart, ...]
    peak_bytes: float
    limit_bytes: float | None
    limit_label: str
    kind: Kind = Kind.MODELLED

    @property
    def scale_bytes(self) -> float:
        """What a full bar stands for: the largest part or the peak."""
        return max([self.peak_bytes, *(part.size_bytes for part in self.parts), 1.0])


def memory_data(
    memory: Mapping[str, float], limit_bytes: float | None = None, limit_label: str = ""
) -> MemoryData:
    """The parts of a cost report's `memory`; a missing limit draws no line."""
    parts = tuple(
        MemoryPart(word=word, size_bytes=float(memory[name]), color=theme.MEMORY_COLORS[name])
        for name, word in PART_WORDS.items()
    )
    return MemoryData(
        parts=parts,
        peak_bytes=float(memory["peak_live_bytes"]),
        limit_bytes=limit_bytes,
        limit_label=limit_label,
    )


def draw(data: MemoryData) -> go.Figure:
    """One bar a part, the peak last, the limit as a dashed line."""
    words = [*(part.word for part in data.parts), PEAK_WORD]
    sizes = [*(part.size_bytes for part in data.parts), data.peak_bytes]
    colors = [*(part.color for part in data.parts), theme.INK]
    figure = go.Figure(
        go.Bar(
            x=sizes,
            y=words,
            orientation="h",
            marker_color=colors,
            text=[format_bytes(size) for size in sizes],
            textposition="auto",
            hoverinfo="skip",
            showlegend=False,
        )
    )
    if data.limit_bytes is not None:
        figure.add_trace(
            go.Scatter(
                x=[data.limit_bytes] * 2,
                y=[words[0], words[-1]],
                mode="lines",
                name=data.limit_label,
                line={"color": theme.VERMILLION, "dash": "dash"},
                hoverinfo="name",
            )
        )
    figure.update_layout(
        **theme.layout(_FIGURE_HEIGHT),
        bargap=0.25,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom"},
    )
    far_end = max(data.scale_bytes, data.limit_bytes or 0.0)
    title = f"bytes of one micro-batch ({data.kind.word})"
    figure.update_yaxes(**theme.axis(), autorange="reversed")
    figure.update_xaxes(**theme.axis(), **axes.axis_from_zero(title, far_end, "byte").options)
    return figure
