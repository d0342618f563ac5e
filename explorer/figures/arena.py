"""The arena as a map: address against step, one box a buffer, the peak marked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from explorer.costmodel.lifetimes import Buffer
from explorer.figures import axes, theme
from explorer.units import FloatArray, IntArray, format_bytes

FORM_COLORS = {
    "parameter": theme.BLUE,
    "activation": theme.ORANGE,
    "mask": theme.YELLOW,
    "statistic": theme.PURPLE,
    "gradient": theme.GREEN,
    "weight": theme.SKY_BLUE,
    "workspace": theme.GREY,
}
FORM_WORDS = {
    "parameter": "weights, optimizer state",
    "activation": "activations",
    "mask": "masks",
    "statistic": "norm statistics",
    "gradient": "activation gradients",
    "weight": "weight gradients",
    "workspace": "workspace",
}
_FIGURE_HEIGHT = 340
_TEXT_ROOM = 0.12  # above the peak, for its text


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ArenaForm:
    """Buffers of one form: lifetimes in steps, offsets and sizes in bytes, all [B]."""

    word: str
    color: str
    births: IntArray
    deaths: IntArray
    offsets: IntArray
    sizes: IntArray
    texts: tuple[str, ...]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ArenaData:
    """Placed buffers by form, live bytes [T] with what each step does, and the peak."""

    forms: tuple[ArenaForm, ...]
    live_bytes: FloatArray
    step_labels: tuple[str, ...]
    peak_step: int
    arena_bytes: int
    limit_bytes: float | None

    @property
    def busy_step_count(self) -> int:
        """Steps up to the first after which nothing comes or goes; layers below it are frozen."""
        changes = np.flatnonzero(np.diff(self.live_bytes))
        return min(int(changes[-1]) + 2, len(self.live_bytes)) if len(changes) else 1


def arena_data(
    placed: Sequence[tuple[Buffer, int]],
    live_bytes: FloatArray,
    step_labels: Sequence[str],
    limit_bytes: float | None = None,
    level_of: Sequence[str] | None = None,
) -> ArenaData:
    """A plan's buffers with their offsets, and the live bytes of the same design [T].

    `level_of` [B], where given, is the memory level of each buffer, named on hover.
    """
    levels = [""] * len(placed) if level_of is None else level_of
    named = [(*pair, level) for pair, level in zip(placed, levels, strict=True)]
    forms = []
    for form, word in FORM_WORDS.items():
        rows = [row for row in named if row[0].form == form]
        if rows:
            forms.append(
                ArenaForm(
                    word=word,
                    color=FORM_COLORS[form],
                    births=np.array([buffer.birth for buffer, _, _ in rows]),
                    deaths=np.array([buffer.death for buffer, _, _ in rows]),
                    offsets=np.array([offset for _, offset, _ in rows]),
                    sizes=np.array([buffer.size_bytes for buffer, _, _ in rows]),
                    texts=tuple(_text(buffer, step_labels, level) for buffer, _, level in rows),
                )
            )
    return ArenaData(
        forms=tuple(forms),
        live_bytes=live_bytes,
        step_labels=tuple(step_labels),
        peak_step=int(np.argmax(live_bytes)),
        arena_bytes=max((offset + buffer.size_bytes for buffer, offset in placed), default=0),
        limit_bytes=limit_bytes,
    )


def draw(data: ArenaData) -> go.Figure:
    """One bar trace a form, the live bytes as a line, the peak as a marker."""
    figure = go.Figure()
    for form in data.forms:
        figure.add_trace(
            go.Bar(
                x=(form.births + form.deaths) / 2,
                width=form.deaths - form.births,
                y=form.sizes,
                base=form.offsets,
                name=form.word,
                marker={"color": form.color, "line": {"color": "white", "width": 0.5}},
                customdata=form.texts,
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    steps = np.arange(len(data.live_bytes))
    figure.add_trace(
        go.Scatter(
            x=steps + 0.5,
            y=data.live_bytes,
            mode="lines",
            name="live bytes",
            line={"color": theme.INK, "width": 1, "shape": "hvh"},
            customdata=data.step_labels,
            hovertemplate="%{customdata}<extra></extra>",
        )
    )
    peak = float(data.live_bytes[data.peak_step])
    figure.add_trace(
        go.Scatter(
            x=[data.peak_step + 0.5],
            y=[peak],
            mode="markers+text",
            name="peak",
            marker={"color": theme.VERMILLION, "size": 9, "symbol": "triangle-down"},
            text=[f"peak {format_bytes(peak)}"],
            textposition=f"top {'right' if 2 * data.peak_step < data.busy_step_count else 'left'}",
            hovertext=[data.step_labels[data.peak_step]],
            hoverinfo="text",
        )
    )
    top = max(data.arena_bytes, peak)
    if data.limit_bytes is not None and data.limit_bytes < 2 * top:
        top = max(top, data.limit_bytes)
        figure.add_trace(
            go.Scatter(
                x=[0, len(steps)],
                y=[data.limit_bytes] * 2,
                mode="lines",
                name=f"limit {format_bytes(data.limit_bytes)}",
                line={"color": theme.VERMILLION, "dash": "dash"},
                hoverinfo="name",
            )
        )
    figure.update_layout(
        **theme.layout(_FIGURE_HEIGHT),
        barmode="overlay",
        bargap=0,
        legend={
            "orientation": "h",
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": theme.LABEL_SIZE},
        },
    )
    upward = axes.axis_from_zero("address (modelled)", top, "byte", _TEXT_ROOM)
    figure.update_xaxes(
        **theme.axis(),
        title_text="step: forward, then backward as far as something trains",
        range=[0, data.busy_step_count],
    )
    figure.update_yaxes(**theme.axis(), **upward.options)
    return figure


def _text(buffer: Buffer, step_labels: Sequence[str], level: str) -> str:
    last = step_labels[min(buffer.death, len(step_labels)) - 1]
    where = f" in {level}" if level else ""
    return (
        f"{buffer.label}: {format_bytes(buffer.size_bytes)}{where}<br>"
        f"from {step_labels[buffer.birth]}<br>to {last}"
    )
