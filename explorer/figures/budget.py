"""What a memory budget buys: the best score of a front within each budget."""

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from explorer.figures import theme
from explorer.figures.axes import AxisData, byte_axis, linear_axis
from explorer.search.candidates import ParetoFront
from explorer.units import FloatArray, format_bytes, format_joules

_HEIGHT = 320


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class BudgetData:
    """Members of a front by memory [K], of equal memory the best first.

    `best_score` [K] is the best of all members up to one. `chosen` is the best within
    `budget_bytes`, of equal ones the least in memory, or None where none is within.
    """

    memory_bytes: FloatArray
    score: FloatArray
    energy_j: FloatArray
    best_score: FloatArray
    budget_bytes: float
    chosen: int | None
    memory_axis: AxisData
    score_axis: AxisData

    @property
    def title(self) -> str:
        """What the budget buys, in words."""
        budget = format_bytes(self.budget_bytes)
        if self.chosen is None:
            return f"{budget}: the least needs {format_bytes(float(self.memory_bytes[0]))}"
        return (
            f"{budget}: {self.score_axis.title} {self.score[self.chosen]:.3f} with "
            f"{format_bytes(float(self.memory_bytes[self.chosen]))} and "
            f"{format_joules(float(self.energy_j[self.chosen]))} a step"
        )


def budget_data(front: ParetoFront, budget_bytes: float) -> BudgetData:
    """A front under a budget; nothing is searched again."""
    rows = front.rows
    memory, score = front.table.memory_bytes[rows], front.table.score[rows]
    order = np.lexsort((-score, memory))
    rows, memory, score = rows[order], memory[order], score[order]
    within = int((memory <= budget_bytes).sum())
    return BudgetData(
        memory_bytes=memory,
        score=score,
        energy_j=front.table.step_energy_j[rows],
        best_score=np.maximum.accumulate(score),
        budget_bytes=budget_bytes,
        chosen=int(np.argmax(score[:within])) if within else None,
        memory_axis=byte_axis("memory, modelled", np.append(memory, budget_bytes), format_bytes),
        score_axis=linear_axis(front.table.score_name, score),
    )


def draw(data: BudgetData) -> go.Figure:
    """The staircase of best scores, the budget as a line, and what it buys."""
    chosen = [] if data.chosen is None else [data.chosen]
    figure = go.Figure(
        [
            go.Scatter(
                x=data.memory_bytes,
                y=data.best_score,
                mode="lines",
                line={"color": theme.BLUE, "shape": "hv", "width": 2},
                name="best within a budget",
                hoverinfo="skip",
            ),
            go.Scatter(
                x=data.memory_bytes,
                y=data.score,
                mode="markers",
                marker={"color": theme.SKY_BLUE, "size": 5},
                name="front",
                customdata=[format_bytes(float(value)) for value in data.memory_bytes],
                hovertemplate="%{customdata}: %{y:.3f}<extra></extra>",
            ),
            go.Scatter(
                x=data.memory_bytes[chosen],
                y=data.score[chosen],
                mode="markers",
                marker={"color": theme.ORANGE, "size": 12, "line": {"color": "white", "width": 1}},
                name="bought",
            ),
        ]
    )
    figure.add_vline(x=data.budget_bytes, line={"color": theme.VERMILLION, "dash": "dash"})
    across, upward = data.memory_axis, data.score_axis
    figure.update_layout(**theme.layout(_HEIGHT), showlegend=True)
    figure.update_layout(title={"text": data.title, "font": {"size": 13}}, margin_t=36)
    figure.update_xaxes(**theme.axis(), **across.options)
    figure.update_yaxes(**theme.axis(), **upward.options)
    return figure
