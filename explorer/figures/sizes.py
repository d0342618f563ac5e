"""A network in several sizes: what was measured against the size, and against what it costs.

One line a policy in both panels. Bars are one standard error over repeats, which share their
splits: they tell how sure a value is, and not how sure a difference of two is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explorer.accuracy.metrics import METRIC_NAMES
from explorer.accuracy.records import MeasuredRun, Metric
from explorer.errors import SpecError
from explorer.figures import theme
from explorer.figures.axes import PERCENT, AxisData, decimal_axis, linear_axis
from explorer.figures.lines import COLORS
from explorer.provenance import Kind
from explorer.units import FloatArray

_HEIGHT = 340


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SizeLine:
    """A policy: its measured `values` with their `errors`, and its `costs`, over sizes [N]."""

    name: str
    values: FloatArray
    errors: FloatArray
    costs: FloatArray
    texts: tuple[str, ...]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SizesData:
    """Lines over rising `sizes` [N] of one network."""

    sizes: FloatArray
    lines: tuple[SizeLine, ...]
    size_axis: AxisData
    cost_axis: AxisData
    merit_axis: AxisData


def sizes_data(
    knob: str,
    sizes: Sequence[float],
    runs: Mapping[str, Sequence[MeasuredRun]],
    metric: str,
    quantity: str,
    costs: Mapping[str, Sequence[float]],
    text_of: Callable[[float], str],
) -> SizesData:
    """Runs and positive costs by policy, one a size; `metric` is a column such as `macro_f1`.

    `quantity` names the cost and `text_of` writes it. SpecError where a run has no such metric,
    or a policy not as many runs and costs as there are sizes.
    """
    lines = [
        _line(name, len(sizes), of_policy, metric, costs.get(name, ()), text_of)
        for name, of_policy in runs.items()
    ]
    bounds = [line.values + sign * line.errors for line in lines for sign in (-1, 1)]
    settings = np.array(sizes, dtype=np.float64)
    ticks = tuple(settings.tolist())
    size_axis = decimal_axis(knob, settings, "{:g}".format)
    return SizesData(
        sizes=settings,
        lines=tuple(lines),
        size_axis=replace(size_axis, ticks=ticks, tick_texts=tuple(f"{tick:g}" for tick in ticks)),
        cost_axis=decimal_axis(quantity, np.concatenate([line.costs for line in lines]), text_of),
        merit_axis=linear_axis(
            f"{METRIC_NAMES[metric]} ({Kind.MEASURED.word})", np.concatenate(bounds), PERCENT
        ),
    )


def draw(data: SizesData) -> go.Figure:
    """Two panels that share the measured axis; sizes stand beside the points of the second."""
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.03)
    labels = [f"{size:g}" for size in data.sizes]
    for index, line in enumerate(data.lines):
        for column, across in enumerate((data.sizes, line.costs), start=1):
            figure.add_trace(
                go.Scatter(
                    x=across,
                    y=line.values,
                    name=line.name,
                    legendgroup=line.name,
                    showlegend=column == 1,
                    mode="lines+markers" if column == 1 else "lines+markers+text",
                    text=labels if column == 2 else None,
                    textposition="top center",
                    textfont={"size": theme.LABEL_SIZE},
                    marker={"symbol": theme.KIND_SYMBOLS[Kind.MEASURED], "size": 7},
                    line={"color": COLORS[index % len(COLORS)], "width": 1.5},
                    error_y={
                        "type": "data",
                        "array": line.errors,
                        "thickness": 1,
                        "width": 0,
                        "visible": column == 1,
                    },
                    hovertext=line.texts,
                    hovertemplate="%{hovertext}<extra>%{fullData.name}</extra>",
                ),
                row=1,
                col=column,
            )
    figure.update_layout(**theme.layout(_HEIGHT), showlegend=True)
    figure.update_layout(legend={"orientation": "h", "y": 1.0, "yanchor": "bottom"}, margin_t=32)
    figure.update_xaxes(**theme.axis())
    figure.update_xaxes(**data.size_axis.options, col=1)
    figure.update_xaxes(**data.cost_axis.options, col=2)
    figure.update_yaxes(**theme.axis(), **replace(data.merit_axis, title="").options)
    figure.update_yaxes(title_text=data.merit_axis.title, col=1)
    return figure


def _line(
    name: str,
    count: int,
    runs: Sequence[MeasuredRun],
    metric: str,
    costs: Sequence[float],
    text_of: Callable[[float], str],
) -> SizeLine:
    if (len(runs), len(costs)) != (count, count):
        came = f"{len(runs)} runs and {len(costs)} costs"
        raise SpecError.of(f"sizes of {name}", came, f"{count} of both")
    figures = [_figure(run, metric) for run in runs]
    errors = [np.nan if one.standard_error is None else one.standard_error for one in figures]
    return SizeLine(
        name=name,
        values=np.array([one.after for one in figures]),
        errors=np.array(errors),
        costs=np.array(costs, dtype=np.float64),
        texts=tuple(
            f"{one.after:.1%} ± {error:.1%}, {text_of(cost)}"
            for one, error, cost in zip(figures, errors, costs, strict=True)
        ),
    )


def _figure(run: MeasuredRun, metric: str) -> Metric:
    found = run.figure(metric)
    if found is None:
        raise SpecError.of(f"metric of {run.design.family} on {run.task}", metric, "one it has")
    return found
