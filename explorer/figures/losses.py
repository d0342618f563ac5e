"""Training loss of fine-tunings, step by step, with the accuracy before and after."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from explorer.figures import theme
from explorer.units import FloatArray

if TYPE_CHECKING:
    from explorer.accuracy.trainer import EpisodeResult

COLORS = (theme.BLUE, theme.ORANGE, theme.GREEN, theme.PURPLE, theme.VERMILLION, theme.SKY_BLUE)
_FIGURE_HEIGHT = 280


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class LossCurve:
    """One fine-tuning: the loss before each step, and accuracies as shares."""

    name: str
    loss: FloatArray
    accuracy_before: float
    accuracy: float

    @property
    def title(self) -> str:
        """`full: 45 % to 84 %`."""
        return f"{self.name}: {self.accuracy_before:.0%} to {self.accuracy:.0%}"


def losses_data(results: Mapping[str, "EpisodeResult"]) -> tuple[LossCurve, ...]:
    """Curves of fine-tunings by name."""
    return tuple(
        LossCurve(
            name=name,
            loss=np.array(result.losses),
            accuracy_before=result.accuracy_before,
            accuracy=result.accuracy,
        )
        for name, result in results.items()
    )


def draw(curves: tuple[LossCurve, ...]) -> go.Figure:
    """One line a fine-tuning."""
    figure = go.Figure(
        [
            go.Scatter(
                x=np.arange(1, len(curve.loss) + 1),
                y=curve.loss,
                mode="lines",
                name=curve.title,
                line={"color": COLORS[index % len(COLORS)], "width": 2},
                hovertemplate="step %{x}: loss %{y:.3f}<extra></extra>",
            )
            for index, curve in enumerate(curves)
        ]
    )
    figure.update_layout(**theme.layout(_FIGURE_HEIGHT), showlegend=True)
    figure.update_xaxes(**theme.axis(), title_text="step", rangemode="tozero")
    figure.update_yaxes(**theme.axis(), title_text="training loss (measured)", rangemode="tozero")
    return figure
