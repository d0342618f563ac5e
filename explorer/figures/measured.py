"""Criteria against measured gains: one panel a criterion, one point a fine-tuned design."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explorer.accuracy.metrics import METRIC_NAMES
from explorer.accuracy.ranking import NULL_MODELS, Interval
from explorer.errors import SpecError
from explorer.figures import theme
from explorer.figures.axes import PERCENT
from explorer.provenance import Kind
from explorer.search.criteria import Study
from explorer.units import FloatArray

SHOWN = ("gradient norm", "Fisher shares", "trained parameters", "tuning episodes")
ERRORS = 2.0
_FIGURE_HEIGHT = 300


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class MeasuredPanel:
    """One criterion: its value of each design [P] and its tau with the gain."""

    name: str
    values: FloatArray
    tau: Interval

    @property
    def is_null(self) -> bool:
        """Whether it is one of the null models any criterion must beat."""
        return self.name in NULL_MODELS


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class MeasuredData:
    """Gains of P designs in a metric as shares, their standard errors, and the panels."""

    labels: tuple[str, ...]
    metric: str
    gain: FloatArray
    gain_error: FloatArray
    ceiling_tau: float
    panels: tuple[MeasuredPanel, ...]


def measured_data(study: Study, shown: Sequence[str] = SHOWN) -> MeasuredData:
    """The criteria named in `shown`; SpecError for one that the study does not have."""
    columns = {**study.criteria, **study.combinations}
    for name in shown:
        if name not in columns:
            raise SpecError.of("criterion", name, ", ".join(columns))
    return MeasuredData(
        labels=study.designs.families,
        metric=METRIC_NAMES[study.metric],
        gain=study.gain,
        gain_error=study.gain_error,
        ceiling_tau=study.ranking.ceiling_tau,
        panels=tuple(
            MeasuredPanel(name=name, values=columns[name], tau=study.ranking.taus[name])
            for name in shown
        ),
    )


def draw(data: MeasuredData) -> go.Figure:
    """Panels side by side that share the gain axis; bars are two standard errors."""
    titles = [
        f"tau {panel.tau.value:.2f} [{panel.tau.low:.2f}, {panel.tau.high:.2f}]"
        for panel in data.panels
    ]
    figure = make_subplots(
        rows=1,
        cols=len(data.panels),
        shared_yaxes=True,
        horizontal_spacing=0.02,
        subplot_titles=titles,
    )
    for column, panel in enumerate(data.panels, start=1):
        figure.add_trace(
            go.Scatter(
                x=panel.values,
                y=data.gain,
                error_y={
                    "type": "data",
                    "array": ERRORS * data.gain_error,
                    "color": theme.GREY,
                    "thickness": 1,
                    "width": 0,
                },
                mode="markers",
                marker={
                    "color": theme.GREY if panel.is_null else theme.BLUE,
                    "symbol": theme.KIND_SYMBOLS[Kind.MEASURED],
                    "size": 6,
                },
                text=data.labels,
                hovertemplate="%{text}<br>%{x:.3g}, gain %{y:.1%}<extra></extra>",
                showlegend=False,
            ),
            row=1,
            col=column,
        )
        null = " (null model)" if panel.is_null else ""
        figure.update_xaxes(**theme.axis(), title_text=f"{panel.name}{null}", col=column)
    figure.update_layout(**theme.layout(_FIGURE_HEIGHT))
    figure.update_layout(margin={"t": 28})
    figure.update_annotations(font={"size": theme.LABEL_SIZE})
    figure.update_yaxes(**theme.axis(), tickformat=PERCENT)
    figure.update_yaxes(
        title_text=f"{data.metric} gained (measured; ceiling of tau {data.ceiling_tau:.2f})", col=1
    )
    return figure
