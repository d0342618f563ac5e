"""The roles a point or line can play in a trade-off panel, and the traces that show them.

Legend entries are traces of their own that draw nothing, so the legend does
not depend on which point happens to come first.
"""

from dataclasses import dataclass

import plotly.graph_objects as go

from explorer.figures import crowds, theme
from explorer.provenance import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """How one kind of trace looks; `size` 0 is a line."""

    name: str
    legend: str
    color: str
    size: float
    opacity: float = 1.0
    is_text: bool = False
    symbol: str = "circle"


ROLES = (
    Role(name="stale", legend="earlier setup", color=theme.GREY, size=5, opacity=0.35),
    Role(name="misfit", legend="misfit", color=theme.VERMILLION, size=5, opacity=0.45),
    Role(name="candidate", legend="fits", color=theme.SKY_BLUE, size=6, opacity=0.75),
    Role(name="envelope", legend="best", color=theme.BLUE, size=0),
    Role(name="front", legend="front", color=theme.BLUE, size=8),
    Role(name="known", legend="known", color=theme.ORANGE, size=10, is_text=True),
    Role(name="choice", legend="your choice", color=theme.PURPLE, size=13),
    Role(
        name="published",
        legend="published elsewhere",
        color=theme.GREEN,
        size=13,
        is_text=True,
        symbol=theme.KIND_SYMBOLS[Kind.PUBLISHED],
    ),
    Role(name="selected", legend="selected", color=theme.BLACK, size=19, symbol="circle-open"),
    Role(name="budget", legend="limit", color=theme.VERMILLION, size=0, is_text=True),
)
HOVERED = frozenset({"front", "known", "choice", "published", "selected"})
OUTLINED = frozenset({"front", "known", "choice", "published"})
PLAIN_HOVER = "{}: click for its numbers"  # one text for all, so none is sent for each


def data_trace(role: Role) -> go.Scatter:
    """An empty trace of a role, to be filled by an update."""
    mode = "markers" if role.size else "lines"
    is_crowded = role.name in crowds.ROLES_OF_CROWDS
    is_plain = bool(role.size) and role.name not in HOVERED
    return go.Scatter(
        name=role.legend,
        mode=f"{mode}+text" if role.is_text else mode,
        legendgroup=role.name,
        showlegend=False,
        hoverinfo="text" if role.name in HOVERED else "skip" if not role.size else None,
        hovertemplate=f"{PLAIN_HOVER.format(role.legend)}<extra></extra>" if is_plain else None,
        opacity=role.opacity,
        marker=_marker(role) if role.size else None,
        line=_line(role) if not role.size else crowds.LINE if is_crowded else None,
        meta=crowds.CROWD if is_crowded else None,
        textfont={
            "size": theme.LABEL_SIZE,
            "color": theme.INK if role.size else role.color,
            "shadow": theme.HALO,
        },
        cliponaxis=role.name == "envelope",
    )


def legend_trace(role: Role) -> go.Scatter:
    """The legend entry of a role; a click on it hides the role in every panel."""
    trace = data_trace(role)
    trace.update(x=[None], y=[None], mode="markers" if role.size else "lines", showlegend=True)
    if role.size:
        trace.marker.update(symbol="square" if role.symbol == "circle" else role.symbol)
        trace.marker.update(size=min(role.size, 12), opacity=1)
    return trace


def kind_trace(kind: Kind) -> go.Scatter:
    """A legend entry that explains a symbol."""
    return go.Scatter(
        x=[None],
        y=[None],
        name=kind.word,
        mode="markers",
        marker={"symbol": theme.KIND_SYMBOLS[kind], "size": 8, "color": theme.INK},
        hoverinfo="skip",
        legendgroup=f"kind {kind.word}",
        showlegend=True,
    )


def _marker(role: Role) -> dict[str, object]:
    ring = role.name == "selected"
    return {
        "size": role.size,
        "color": role.color,
        "symbol": role.symbol,
        "line": {"width": 2 if ring else 0, "color": role.color},
    }


def _line(role: Role) -> dict[str, object]:
    if role.name == "envelope":
        return {"color": role.color, "width": 1, "shape": "hv"}
    return {"color": role.color, "width": 1.5, "dash": "dash"}
