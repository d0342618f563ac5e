"""Three linked Pareto panels: worth against memory, worth against energy, memory against energy.

The traces of `draw` are fixed in number and order, so a live figure is updated
in place by `update`. Colour and size say the role of a point, the symbol says
how its worth is known, and every trace knows the ids of its points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explorer.figures import axes, theme
from explorer.figures.crowds import ROLES_OF_CROWDS, is_crowd
from explorer.figures.hovers import hover_texts, texts_of
from explorer.figures.labels import place_labels, short_label
from explorer.figures.points import Budget, Mark, Points, worth_format
from explorer.figures.roles import (
    HOVERED,
    OUTLINED,
    ROLES,
    Role,
    data_trace,
    kind_trace,
    legend_trace,
)
from explorer.figures.thinning import POINT_CAP, apart, thinned
from explorer.figures.traces import PAPER, PanelData, TraceData, TradeoffData
from explorer.provenance import Kind
from explorer.units import BoolArray, FloatArray, IntArray, format_bytes, format_joules

FIGURE_HEIGHT = 330
PANEL_COUNT = 3
_HIDDEN_BUTTONS = ("select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d", "sendDataToCloud")
_ABOVE, _LEFT, _RIGHT = "top center", "bottom left", "bottom right"
_FAR_BUDGET_RATIO = 12.0


def tradeoff_data(
    points: Points, selected_id: str | None = None, cap: int = POINT_CAP, cell: float = 0.0
) -> TradeoffData:
    """Choose what is drawn: at most `cap` points a panel, front, known and selected always.

    With `cell`, a share of a panel's sides, for as long as points stream in: dominated points
    that crowd in one square of that size are drawn as one, those beside a member of the front
    not at all, and the front has one hover text for all and no outlines, which are dear to draw.
    """
    drawn = thinned(points, selected_id, cap)
    memory, energy = points.memory_bytes, points.energy_j
    fresh = drawn[~points.stale[drawn]]
    fresh = fresh if len(fresh) else drawn
    near = [b.limit_bytes for b in points.budgets if _is_near(b.limit_bytes, memory[fresh])]
    marks = [np.array(column) for column in zip(*map(_columns, points.marks), strict=True)]
    mark_memory, mark_energy, mark_worth = marks or [np.zeros(0)] * 3
    memory_axis = axes.byte_axis(
        f"{points.memory_name} ({points.memory_kind.word})",
        np.concatenate([memory[fresh], near, mark_memory]),
        format_bytes,
    )
    energy_axis = axes.decimal_axis(
        f"energy of a step ({points.energy_kind.word})",
        np.append(energy[fresh], mark_energy),
        format_joules,
    )
    worth_axis = axes.linear_axis(
        _worth_title(points),
        np.append(points.worth[fresh], mark_worth),
        worth_format(points.worth_name),
    )
    cost_kind = max(points.memory_kind, points.energy_kind)
    across_memory = _Side(memory, mark_memory, memory_axis)
    across_energy = _Side(energy, mark_energy, energy_axis)
    worth = _Side(points.worth, mark_worth, worth_axis)
    views = (
        (across_memory, worth, points.worth_kind),
        (across_energy, worth, points.worth_kind),
        (across_energy, across_memory, (cost_kind,) * len(points)),
    )
    hovers = hover_texts(points, selected_id, has_front=not cell)
    panels = tuple(
        _panel(points, drawn, selected_id, hovers, x, y, kinds, cell) for x, y, kinds in views
    )
    return TradeoffData(
        panels=panels,
        kinds=frozenset({points.worth_kind[row] for row in drawn} | {cost_kind}),
    )


def draw(data: TradeoffData) -> go.Figure:
    """The figure, with every trace of every role even when it is empty."""
    figure = make_subplots(rows=1, cols=PANEL_COUNT, horizontal_spacing=0.09)
    for column in range(1, PANEL_COUNT + 1):
        for role in ROLES:
            figure.add_trace(data_trace(role), row=1, col=column)
    for entry in (*map(legend_trace, ROLES), *map(kind_trace, Kind)):
        figure.add_trace(entry, row=1, col=1)
    figure.update_layout(
        **theme.layout(FIGURE_HEIGHT),
        legend={
            "orientation": "h",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "tracegroupgap": 0,
            "x": 0.5,
            "xanchor": "center",
            "itemsizing": "trace",
            "indentation": -5,
            "font": {"size": theme.LABEL_SIZE},
        },
        modebar={"remove": list(_HIDDEN_BUTTONS), "orientation": "v"},
        margin_r=30,
        dragmode="zoom",
        uirevision="tradeoff",
    )
    figure.update_xaxes(**theme.axis())
    figure.update_yaxes(**theme.axis())
    update(figure, data)
    return figure


def update(
    figure: Any, data: TradeoffData, *, before: TradeoffData | None = None, has_crowds: bool = False
) -> None:
    """Put new data into a figure that `draw` made, in one message if it is live.

    What is as it was `before`, if that is what the figure shows, is left alone. With
    `has_crowds` the page knows how to draw crowds.
    """
    flat = [trace for panel in data.panels for trace in panel.traces]
    shown_traces = [trace for panel in before.panels for trace in panel.traces] if before else []
    with figure.batch_update():
        for number, (trace, role) in enumerate(zip(flat, ROLES * PANEL_COUNT, strict=True)):
            if shown_traces and trace.is_like(shown_traces[number]):
                continue
            target = figure.data[number]
            _fill(target, trace, role)
            if has_crowds and role.name in ROLES_OF_CROWDS:
                is_one = is_crowd(len(trace.x), trace.symbols, trace.outlines)
                target.mode = "lines" if is_one else "markers"
        shown = [role.name in data.shown_roles for role in ROLES]
        shown += [kind in data.kinds for kind in Kind]
        for target, is_shown in zip(figure.data[len(flat) :], shown, strict=True):
            target.visible = is_shown
        for column, panel in enumerate(data.panels, start=1):
            suffix = "" if column == 1 else str(column)
            _set_axis(figure.layout[f"xaxis{suffix}"], panel.x_axis)
            _set_axis(figure.layout[f"yaxis{suffix}"], panel.y_axis)


def _fill(target: Any, trace: TraceData, role: Role) -> None:
    target.x, target.y = trace.x, trace.y
    if role.is_text:
        target.text, target.textposition = trace.texts, trace.text_places or "top center"
    if role.name in HOVERED:
        target.hovertext = trace.hovers
    if role.size and role.name != "selected":
        target.marker.symbol = trace.symbols
    if role.name in OUTLINED:
        target.marker.line.color = trace.outlines
        target.marker.line.width = 1.5 if trace.is_outlined else 0


def _set_axis(target: Any, axis: axes.AxisData) -> None:
    for name, value in axis.options.items():  # several times faster than one update of all
        target[name] = value


@dataclass(frozen=True, eq=False, slots=True)
class _Side:
    """A quantity of the points [P] and of what others published, and its axis."""

    values: FloatArray
    marks: FloatArray
    axis: axes.AxisData


def _columns(mark: Mark) -> tuple[float, float, float]:
    return mark.memory_bytes, mark.energy_j, mark.worth


def _panel(
    points: Points,
    drawn: IntArray,
    selected_id: str | None,
    hovers: dict[int, str],
    right: _Side,
    up: _Side,
    kinds: Sequence[Kind],
    cell: float,
) -> PanelData:
    x, y, x_axis, y_axis = right.values, up.values, right.axis, up.axis
    shown = drawn[np.isfinite(x[drawn]) & np.isfinite(y[drawn])]
    across, upward = x_axis.place(x), y_axis.place(y)
    spread = shown
    if cell:
        spread = shown[apart(points, shown, selected_id, across[shown], upward[shown], cell)]
    large = [row for row in shown if points.ids[row] in (selected_id, points.choice_id)]
    big = [(float(across[row]), float(upward[row])) for row in large]
    members = _members(points, spread, selected_id)
    stars = list(zip(x_axis.place(right.marks), y_axis.place(up.marks), strict=True))
    traces = []
    for role in ROLES:
        if role.name == "budget":
            traces.append(_budget_lines(points, x_axis, y_axis, x is points.memory_bytes))
            continue
        if role.name == "envelope":
            traces.append(_envelope(points, shown, x, y, higher_is_better=y is points.worth))
            continue
        if role.name == "published":
            traces.append(_published(points, right, up, big))
            continue
        rows = spread[members[role.name]]
        texts: tuple[str, ...] = ()
        places: tuple[str, ...] = ()
        if role.name == "known":
            labels = [short_label(points.labels[row]) for row in rows]
            texts, places = place_labels(labels, across[rows], upward[rows], [*big, *stars])
        traces.append(
            TraceData(
                x=x[rows].astype(np.float32),
                y=y[rows].astype(np.float32),
                ids=tuple(points.ids[row] for row in rows),
                texts=texts,
                text_places=places,
                hovers=texts_of(role, rows, hovers),
                symbols=_one_or_all([theme.KIND_SYMBOLS[kinds[row]] for row in rows]),
                outlines=_one_or_all(
                    [PAPER if fits else theme.VERMILLION for fits in points.feasible[rows]]
                ),
                is_outlined=not (cell and role.name == "front"),
            )
        )
    return PanelData(x_axis=x_axis, y_axis=y_axis, traces=tuple(traces))


def _published(
    points: Points, right: _Side, up: _Side, big: Sequence[tuple[float, float]]
) -> TraceData:
    """What others published and both axes can show; no click selects it."""
    rows = np.flatnonzero(np.isfinite(right.marks) & np.isfinite(up.marks))
    x, y = right.marks[rows], up.marks[rows]
    labels = [points.marks[row].label for row in rows]
    texts, places = place_labels(labels, right.axis.place(x), up.axis.place(y), big)
    return TraceData(
        x=x.astype(np.float32),
        y=y.astype(np.float32),
        texts=texts,
        text_places=places,
        hovers=tuple(points.marks[row].hover for row in rows),
        symbols=theme.KIND_SYMBOLS[Kind.PUBLISHED],
    )


def _members(points: Points, rows: IntArray, selected_id: str | None) -> dict[str, BoolArray]:
    """Which rows [P] play each role; every row plays one, the selection also wears a ring."""
    ids = np.array([points.ids[row] for row in rows], dtype=object)
    is_choice = ids == points.choice_id
    stale, known = points.stale[rows], points.known[rows]
    on_front, feasible = points.on_front[rows], points.feasible[rows]
    plain = ~is_choice & ~stale & ~known
    masks = {
        "selected": ids == selected_id,
        "choice": is_choice,
        "stale": stale & ~is_choice,
        "known": known & ~stale & ~is_choice,
        "front": plain & on_front,
        "misfit": plain & ~on_front & ~feasible,
        "candidate": plain & ~on_front & feasible,
    }
    return {role: mask.astype(bool) for role, mask in masks.items()}


def _one_or_all(values: Sequence[str]) -> str | tuple[str, ...]:
    """One value when all are equal: a scalar is sent and drawn faster than a list."""
    return values[0] if values and len(set(values)) == 1 else tuple(values)


def _envelope(
    points: Points, rows: IntArray, x: FloatArray, y: FloatArray, *, higher_is_better: bool
) -> TraceData:
    """The staircase of what fits and is best in the two quantities of one panel."""
    usable = rows[points.feasible[rows] & ~points.stale[rows]]
    ordered = usable[np.lexsort((-y[usable] if higher_is_better else y[usable], x[usable]))]
    height = y[ordered] if higher_is_better else -y[ordered]
    best = np.maximum.accumulate(height) if len(height) else height
    corner = np.append(True, np.diff(best) > 0)[: len(best)]
    return TraceData(
        x=x[ordered][corner].astype(np.float32), y=y[ordered][corner].astype(np.float32)
    )


def _budget_lines(
    points: Points, x_axis: axes.AxisData, y_axis: axes.AxisData, is_memory_across: bool
) -> TraceData:
    """Memory limits as lines across the panel, parted by gaps (nan).

    The label stands where memory runs across; a limit beyond the axis is a label with an arrow.
    """
    if is_memory_across:
        low, high = y_axis.value_at(0.001), y_axis.value_at(0.999)
        parts = [_limit_across(budget, x_axis, low, high) for budget in points.budgets]
    elif y_axis.is_log:
        low, high = x_axis.value_at(0.001), x_axis.value_at(0.999)
        limits = [budget.limit_bytes for budget in points.budgets]
        inside = [limit for limit in limits if y_axis.low < limit < y_axis.high]
        parts = [[(low, limit, "", _ABOVE), (high, limit, "", _ABOVE)] for limit in inside]
    else:
        parts = []
    gap = (np.nan, np.nan, "", _ABOVE)
    rows = [row for part in parts for row in (*part, gap)]
    return TraceData(
        x=np.array([row[0] for row in rows], dtype=np.float32),
        y=np.array([row[1] for row in rows], dtype=np.float32),
        texts=tuple(row[2] for row in rows),
        text_places=tuple(row[3] for row in rows),
    )


def _limit_across(
    budget: Budget, axis: axes.AxisData, low: float, high: float
) -> list[tuple[float, float, str, str]]:
    """Across, upward, text and its place for each vertex of a line from low to high."""
    limit, label = budget.limit_bytes, f"\N{NO-BREAK SPACE}{budget.label}\N{NO-BREAK SPACE}"
    if limit >= axis.high:
        label = f"{budget.label} \N{RIGHTWARDS ARROW}"
        return [(axis.value_at(0.9), high, "", _ABOVE), (axis.value_at(0.999), high, label, _LEFT)]
    if limit <= axis.low:
        label = f"\N{LEFTWARDS ARROW} {budget.label}"
        return [(axis.value_at(0.1), high, "", _ABOVE), (axis.value_at(0.001), high, label, _RIGHT)]
    side = _LEFT if float(axis.place(np.array([limit]))[0]) > 0.5 else _RIGHT
    return [(limit, low, "", _ABOVE), (limit, high, label, side)]


def _worth_title(points: Points) -> str:
    words = sorted(set(points.worth_kind))
    kinds = ", ".join(kind.word for kind in words)
    return f"{points.worth_name} ({kinds})" if kinds else points.worth_name


def _is_near(limit_bytes: float, memory: FloatArray) -> bool:
    usable = memory[np.isfinite(memory) & (memory > 0)]
    if not len(usable):
        return True
    low, high = float(usable.min()), float(usable.max())
    return low / _FAR_BUDGET_RATIO <= limit_bytes <= high * _FAR_BUDGET_RATIO
