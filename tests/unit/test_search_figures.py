"""Hypervolume history and what a budget buys: the data behind the figures, and that they draw."""

import numpy as np
import pytest

from explorer.figures import budget, history
from explorer.session import Session


@pytest.fixture(scope="module")
def front():
    return Session(model="digits-cnn", policy="none").search(50)


def test_history_keeps_every_pair_and_spans_its_lines():
    runs = {"a": [(10, 0.2), (20, 0.3)], "b": [(15, 0.25)]}
    data = history.history_data(runs, {"exact front": 0.5})
    assert [run.name for run in data.runs] == ["a", "b"]
    assert data.runs[0].evaluations.tolist() == [10, 20]
    assert data.runs[0].hypervolume.tolist() == [0.2, 0.3]
    assert data.runs[0].color != data.runs[1].color
    assert data.hypervolume_axis.low < 0.2
    assert data.hypervolume_axis.high > 0.5
    figure = history.draw(data)
    assert len(figure.data) == 2
    assert figure.layout.annotations[0].text == "exact front"


def test_history_of_nothing_yet_draws():
    assert len(history.draw(history.history_data({})).data) == 0


def test_a_budget_buys_the_best_member_within_it(front):
    table, rows = front.table, front.rows
    for limit in np.quantile(table.memory_bytes[rows], (0.0, 0.3, 0.7, 1.0)):
        data = budget.budget_data(front, limit)
        within = table.memory_bytes[rows] <= limit
        assert data.score[data.chosen] == table.score[rows][within].max()
        assert data.memory_bytes[data.chosen] <= limit
        assert data.best_score[data.chosen] == data.score[data.chosen]
    assert np.all(np.diff(data.best_score) >= 0)
    assert len(budget.draw(data).data[2].x) == 1


def test_a_budget_below_every_member_says_what_the_least_needs(front):
    data = budget.budget_data(front, 1.0)
    assert data.chosen is None
    assert "the least needs" in data.title
    assert len(budget.draw(data).data[2].x) == 0
