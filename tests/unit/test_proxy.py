"""Proxy scores by hand, and what a judge may call accuracy."""

import numpy as np
import pytest

from explorer.accuracy.calibrate import COST, fit
from explorer.accuracy.proxy import layer_scores, proxy_scores
from explorer.accuracy.ranking import MIN_RUNS, NULL_MODELS
from explorer.accuracy.scores import CHANNEL_COLUMNS, ScoreTable
from explorer.design import DesignBatch, LayerAxes, TrainingSetup, UpdatePolicy
from explorer.errors import CalibrationError, MissingDataError, SpecError
from explorer.provenance import Kind
from explorer.session import Session
from explorer.zoo._chain import Chain


def graph():
    chain = Chain((2, 4, 4))
    chain.conv("a", 3)
    chain.conv("b", 4)
    chain.average_pool("pool")
    from explorer.provenance import Source

    return chain.graph("toy", Source(kind=Kind.ASSUMED, cite="test"))


def table(net):
    widths = {"out": (3, 4), "in": (2, 3), "bias": (3, 4)}
    columns = {
        name: tuple(
            10.0 * layer + np.arange(1, widths[name.rsplit("_", 1)[1]][layer] + 1)
            for layer in range(2)
        )
        for name in CHANNEL_COLUMNS
    }
    return ScoreTable(net.weighted, columns, {"digest": net.digest})


def designs(net, slices, *, bias=(False, False), axis="out", selection="first"):
    policy = UpdatePolicy.of(
        "toy",
        LayerAxes.of(net),
        slices=slices,
        update_bias=bias,
        channel_axis=axis,
        selection=selection,
    )
    return DesignBatch.of(LayerAxes.of(net), [policy], TrainingSetup())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"slices": (0, 0)}, 0),
        ({"slices": (2, 0)}, 1 + 2),
        ({"slices": (2, 0), "selection": "gradient"}, 3 + 2),
        ({"slices": (1, 2), "selection": "fisher"}, 3 + (14 + 13)),
        ({"slices": (2, 1), "axis": "in"}, (1 + 2) + 11),
        ({"slices": (0, 0), "bias": (False, True)}, 11 + 12 + 13 + 14),
        ({"slices": (3, 4), "bias": (True, True)}, 2 * (1 + 2 + 3) + 2 * (11 + 12 + 13 + 14)),
    ],
)
def test_gradient_score_is_the_sum_over_what_trains(arguments, expected):
    net = graph()
    assert proxy_scores(table(net), designs(net, **arguments), "gradient")[0] == expected


def test_fisher_score_sums_within_layer_shares():
    net = graph()
    score = proxy_scores(table(net), designs(net, (1, 4), selection="fisher"), "fisher")[0]
    assert score == pytest.approx(3 / 6 + 1)
    by_input = proxy_scores(table(net), designs(net, (1, 0), axis="in"), "fisher")[0]
    assert by_input == pytest.approx(1 / 2)
    assert layer_scores(table(net), "fisher") == pytest.approx([1, 1])


def test_a_table_survives_its_file_and_refuses_another_network(tmp_path):
    net = graph()
    path = tmp_path / "toy.npz"
    table(net).save(path)
    again = ScoreTable.load(path, net)
    assert np.array_equal(again.layer_fisher(), table(net).layer_fisher())
    with pytest.raises(SpecError, match="digest"):
        ScoreTable.load(path, Session(model="digits-cnn", policy="none").graph)
    with pytest.raises(MissingDataError, match="explorer fisher"):
        ScoreTable.load(tmp_path / "absent.npz", net)


def runs(count, *, informative, seed=0):
    rng = np.random.default_rng(seed)
    features = {name: rng.random(count) for name in (*NULL_MODELS, "gradient norm")}
    signal = features["gradient norm"] if informative else rng.random(count)
    accuracy = 0.5 + 0.4 * signal + 0.01 * rng.standard_normal(count)
    families = [f"family {index % 12}" for index in range(count)]
    return features, accuracy, 0.99, families


def test_prediction_is_earned_when_it_knows_more_than_the_null_models():
    calibration = fit(*runs(80, informative=True))
    evidence = calibration.evidence
    assert evidence.reason_against == ""
    assert evidence.tau > 0.8 > max(evidence.proxy_taus[name] for name in NULL_MODELS)
    assert evidence.tau <= evidence.ceiling_tau + 0.05
    assert 0.8 <= evidence.coverage <= 1
    fresh, accuracy, _, _ = runs(400, informative=True, seed=1)
    inside = np.abs(calibration.predict(fresh) - accuracy) <= calibration.half_width
    assert 0.8 <= inside.mean() <= 0.98


def test_intervals_of_front_points_are_judged_apart():
    features, accuracy, reliability, families = runs(120, informative=True)
    evidence = fit(features, accuracy, reliability, families).evidence
    assert 1 <= evidence.front_count < 30
    assert evidence.front_coverage >= 0.7
    tempting = features["gradient norm"] > np.quantile(features["gradient norm"], 0.9)
    cheap = features | {COST: np.where(tempting, features[COST] / 10, 1 + features[COST])}
    broken = np.where(tempting, accuracy - 0.3 * (np.arange(120) % 2), accuracy)
    evidence = fit(cheap, broken, reliability, families).evidence
    assert evidence.front_coverage < evidence.coverage - 0.2


def test_prediction_is_not_earned_from_noise():
    evidence = fit(*runs(80, informative=False)).evidence
    assert "does not beat" in evidence.reason_against


def test_too_few_runs_are_refused():
    with pytest.raises(CalibrationError, match=str(MIN_RUNS)):
        fit(*runs(MIN_RUNS - 1, informative=True))


def test_without_a_calibration_the_axis_keeps_the_name_of_its_proxy():
    compared = Session(model="digits-cnn", policy="none").compare()
    worth = compared.worth
    assert worth.is_accuracy == (compared.score_name == "accuracy")
    if not worth.is_accuracy:
        assert compared.score_name.startswith("proxy score")
        assert np.isnan(worth.low).all()
    full = compared.labels.index("full")
    assert 0.5 < worth.measured[full] < 1
    assert 0 < worth.measured_error[full] < 0.05


def test_without_a_score_table_the_null_model_stands_in():
    session = Session(model="mcunet-5fps", policy="none", norm="gn")
    assert session.scores is None
    compared = session.compare()
    assert compared.score_name == "proxy score: backward MACs"
    assert compared.score[compared.labels.index("none")] == 0
    assert not any(label.startswith("tinytrain") for label in compared.labels)
    reason = next(info.reason for info in session.policies() if info.name == "tinytrain")
    assert "explorer fisher" in reason
