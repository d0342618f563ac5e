"""Hypervolume of searches as they go, beside the exact front where there is one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from explorer.figures import theme
from explorer.figures.axes import AxisData, linear_axis
from explorer.figures.curve import COLORS
from explorer.units import FloatArray

_HEIGHT = 320


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Run:
    """One search: `hypervolume` [S] after `evaluations` [S] designs were screened."""

    name: str
    evaluations: FloatArray
    hypervolume: FloatArray
    color: str


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class HistoryData:
    """Searches, and `lines`: hypervolumes by name that they are compared with."""

    runs: tuple[Run, ...]
    lines: Mapping[str, float]
    evaluations_axis: AxisData
    hypervolume_axis: AxisData


def history_data(
    runs: Mapping[str, Sequence[tuple[int, float]]], lines: Mapping[str, float] | None = None
) -> HistoryData:
    """Searches by name, each as pairs of evaluations and hypervolume after every batch.

    `lines` are drawn across, such as the exact front's hypervolume and its proven limit.
    """
    lines = dict(lines or {})
    rows = []
    for index, (name, pairs) in enumerate(runs.items()):
        columns = np.array(pairs, dtype=np.float64).reshape(-1, 2)
        rows.append(
            Run(
                name=name,
                evaluations=columns[:, 0],
                hypervolume=columns[:, 1],
                color=COLORS[index % len(COLORS)],
            )
        )
    counts = np.concatenate([np.zeros(0), *(run.evaluations for run in rows)])
    volumes = np.concatenate([np.array(list(lines.values())), *(run.hypervolume for run in rows)])
    return HistoryData(
        runs=tuple(rows),
        lines=lines,
        evaluations_axis=linear_axis("designs evaluated", counts),
        hypervolume_axis=linear_axis("hypervolume of the front", volumes),
    )


def draw(data: HistoryData) -> go.Figure:
    """One line a search; what they are compared with is dashed and carries its name."""
    figure = go.Figure(
        [
            go.Scatter(
                x=run.evaluations,
                y=run.hypervolume,
                mode="lines+markers",
                name=run.name,
                line={"color": run.color, "width": 2},
                marker={"size": 4},
                hovertemplate="%{x} designs: %{y:.4f}<extra>" + run.name + "</extra>",
            )
            for run in data.runs
        ]
    )
    for name, volume in data.lines.items():
        figure.add_hline(
            y=volume,
            line={"color": theme.GREY, "dash": "dash", "width": 1},
            annotation_text=name,
            annotation_position="bottom right",
        )
    across, upward = data.evaluations_axis, data.hypervolume_axis
    figure.update_layout(
        **theme.layout(_HEIGHT),
        showlegend=True,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom"},
        margin_t=28,
    )
    figure.update_xaxes(**theme.axis(), **across.options)
    figure.update_yaxes(**theme.axis(), **upward.options)
    return figure
