"""What the traces of the trade-off panels hold, before anything is drawn."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from explorer.figures import axes
from explorer.figures.roles import ROLES
from explorer.provenance import Kind

PAPER = "#FFFFFF"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceData:
    """One trace; `ids` maps the index that a click reports to a design."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    ids: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    text_places: tuple[str, ...] = ()
    hovers: str | tuple[str, ...] = ()
    symbols: str | tuple[str, ...] = "circle"
    outlines: str | tuple[str, ...] = PAPER
    is_outlined: bool = True

    def is_like(self, other: "TraceData") -> bool:
        """Whether another draws the same."""
        pairs = [(getattr(self, one.name), getattr(other, one.name)) for one in fields(self)]
        return all(
            np.array_equal(a, b, equal_nan=True) if isinstance(a, np.ndarray) else a == b
            for a, b in pairs
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelData:
    """One panel: its axes and its traces, in the order of ROLES."""

    x_axis: axes.AxisData
    y_axis: axes.AxisData
    traces: tuple[TraceData, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeoffData:
    """Everything `draw` needs; no choice is left to it."""

    panels: tuple[PanelData, ...]
    kinds: frozenset[Kind]

    @property
    def shown_roles(self) -> frozenset[str]:
        """Roles that have anything to show in any panel."""
        return frozenset(
            role.name
            for panel in self.panels
            for role, trace in zip(ROLES, panel.traces, strict=True)
            if len(trace.x)
        )

    @property
    def trace_ids(self) -> tuple[tuple[str, ...], ...]:
        """Ids of the points of each trace, in trace order."""
        return tuple(trace.ids for panel in self.panels for trace in panel.traces)
