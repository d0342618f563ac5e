"""Search figures and the network strip: the data behind them, and that they draw."""

import numpy as np
import pytest

from explorer.figures import budget, history, network, parallel
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
    late = history.history_data({"a": [(420, 0.2), (800, 0.3)]}).evaluations_axis
    assert 300 < late.low < 420 < 800 < late.high
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


def test_every_line_stands_where_its_numbers_are(front):
    table = front.table
    data = parallel.parallel_data(table, 0)
    assert sorted(data.rows) == list(range(len(table)))
    places = [dimension.places for dimension in data.dimensions]
    costs, rows = table.costs, data.rows
    np.testing.assert_allclose(places[0], table.score[rows])
    np.testing.assert_allclose(10 ** places[1], table.memory_bytes[rows])
    np.testing.assert_allclose(10 ** places[2], table.step_energy_j[rows])
    np.testing.assert_allclose(10 ** places[3], table.step_time_s[rows])
    trained = costs.trained_parameter_count[rows]
    np.testing.assert_allclose(10 ** places[5][trained > 0], trained[trained > 0])
    assert np.all(10 ** places[5][trained == 0] <= trained[trained > 0].min())
    for dimension in data.dimensions:
        assert np.all(dimension.low <= dimension.places)
        assert np.all(dimension.places <= dimension.high)


def test_the_front_and_the_selection_are_drawn_last(front):
    table = front.table
    row = int(np.flatnonzero(~table.on_front)[0])
    data = parallel.parallel_data(table, row)
    assert np.all(np.diff(data.roles) >= 0)
    assert data.rows[-1] == row
    words = [parallel.ROLES[role] for role in data.roles]
    for position, word in zip(data.rows, words, strict=True):
        assert (word == "front") == bool(table.on_front[position])
    drawn = parallel.draw(data).data[0]
    assert len(drawn.dimensions) == len(data.dimensions)
    np.testing.assert_array_equal(drawn.line.color, data.roles)


def test_a_cap_on_lines_keeps_the_front_and_known_policies(front):
    table = front.table
    data = parallel.parallel_data(table, cap=5)
    must = set(np.flatnonzero(table.on_front)) | {
        row for row, label in enumerate(table.labels) if label
    }
    assert must <= set(data.rows)
    assert len(data.rows) == len(must) + 5


@pytest.mark.parametrize(("policy", "depth"), [("none", 0), ("last-layer", 1), ("last-k:k=3", 3)])
def test_how_far_back_a_gradient_goes(policy, depth):
    session = Session(model="digits-cnn", policy=policy)
    assert parallel.backward_depth(session.designs).tolist() == [depth]
    full = session.with_policy("full").designs
    assert parallel.backward_depth(full).tolist() == [len(full.axes.names)]


def test_the_network_shows_what_trains_and_shares_of_the_whole():
    session = Session(model="digits-cnn", policy="last-k:k=2")
    layers = session.cost().layers
    data = network.network_data(session.designs, layers, session.scores)
    assert data.names == session.designs.axes.names
    assert np.flatnonzero(data.trained).tolist() == [len(data.names) - 2, len(data.names) - 1]
    np.testing.assert_array_equal(data.trained[-2:], data.channels[-2:])
    for name, share in data.shares.items():
        assert share.sum() == pytest.approx(1), name
        assert set(network.draw(data, name).data[0].x) == set(range(len(data.names)))
    rows = layers[layers["name"].isin(data.names)]
    np.testing.assert_allclose(data.shares["time_s"], rows["time_s"] / rows["time_s"].sum())
    assert "fisher" not in network.network_data(session.designs, layers).shares


def test_a_network_that_trains_nothing_draws():
    session = Session(model="digits-cnn", policy="none")
    data = network.network_data(session.designs, session.cost().layers)
    assert not data.trained.any()
    assert len(network.draw(data, "macs").data) == 4
