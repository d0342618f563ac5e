"""Tau, ceilings and criteria on ledgers whose truth is known."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from explorer.accuracy.ranking import (
    FEWEST_PAIRED,
    MIN_RUNS,
    ceiling_tau,
    kendall_tau,
    kendall_taus,
    paired_gains,
    rank,
    reliability,
)
from explorer.accuracy.records import (
    DesignRecord,
    Ledger,
    comparable,
)
from explorer.design import Design, LayerAxes, TrainingSetup, UpdatePolicy, everything, nothing
from explorer.search import sources
from explorer.search.criteria import TRIED, leave_one_out, study
from explorer.search.sources import measured_form, measured_runs, model_graph

GRAPH = model_graph("digits-cnn")
AXES = LayerAxes.of(GRAPH)
SHIPPED = measured_runs(GRAPH, "digits")
TABLE = sources.score_table(GRAPH, "digits")


def noisy(designs, episodes, noise, seed=0):
    """True values [P] and gains [P, E]: truth, a value each episode gives all, and noise."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal(designs)
    shared = rng.standard_normal(episodes)
    return truth, truth[:, None] + 3 * shared + noise * rng.standard_normal((designs, episodes))


def test_tau_is_scipys_with_ties_and_designs_left_out():
    rng = np.random.default_rng(0)
    criteria = rng.integers(0, 6, (3, 30)).astype(float)
    targets = rng.integers(0, 9, (5, 30)).astype(float)
    kept = rng.random((5, 30)) < 0.7
    taus = kendall_taus(criteria, targets, kept)
    for k, b in np.ndindex(3, 5):
        expected = kendalltau(criteria[k][kept[b]], targets[b][kept[b]]).statistic
        assert taus[k, b] == pytest.approx(expected)
    assert kendall_tau(np.ones(4), np.arange(4.0)) == 0


def test_many_designs_are_done_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    criteria, targets = rng.random((2, 20)), rng.random((7, 20))
    whole = kendall_taus(criteria, targets)
    monkeypatch.setattr("explorer.accuracy.ranking.LARGEST", 300)
    assert np.array_equal(kendall_taus(criteria, targets), whole)


@pytest.mark.parametrize("noise", [0.5, 2.0, 6.0])
def test_reliability_is_the_corrected_split_half(noise):
    _, gains = noisy(400, 8, noise)
    rng = np.random.default_rng(1)
    halves = []
    for _ in range(60):
        order = rng.permutation(8)
        first, second = gains[:, order[:4]].mean(axis=1), gains[:, order[4:]].mean(axis=1)
        half = np.corrcoef(first, second)[0, 1]
        halves.append(2 * half / (1 + half))
    assert reliability(gains) == pytest.approx(np.mean(halves), abs=0.01)
    assert reliability(gains) == pytest.approx(1 / (1 + noise**2 / 8), abs=0.06)


@pytest.mark.parametrize("noise", [1.0, 3.0])
def test_a_perfect_criterion_reaches_the_ceiling_and_a_random_one_nothing(noise):
    truth, gains = noisy(600, 10, noise)
    chance = np.random.default_rng(2).random(600)
    ranking = rank({"truth": truth, "chance": chance}, gains, gains[0])
    assert ranking.taus["truth"].value == pytest.approx(ranking.ceiling_tau, abs=0.03)
    assert ranking.taus["chance"].value == pytest.approx(0, abs=0.06)
    assert ranking.taus["chance"].low < 0 < ranking.taus["chance"].high
    assert ranking.taus["truth"].low > 0.5 * ranking.taus["truth"].value


def test_pure_noise_has_no_ceiling():
    gains = np.random.default_rng(0).standard_normal((200, 10))
    assert reliability(gains) < 0.2
    assert ceiling_tau(0) == 0
    assert ceiling_tau(1) == pytest.approx(1)


def test_what_an_episode_gives_every_design_changes_nothing():
    truth, gains = noisy(40, 6, 1.0)
    shifted = gains + np.arange(6.0) * 10
    assert reliability(shifted) == pytest.approx(reliability(gains))
    one, other = (rank({"truth": truth}, g, g[0]).taus["truth"] for g in (gains, shifted))
    assert one.value == other.value


def test_the_order_of_designs_and_episodes_is_no_matter():
    truth, gains = noisy(40, 6, 1.0)
    rng = np.random.default_rng(3)
    rows, columns = rng.permutation(40), rng.permutation(6)
    whole = rank({"truth": truth}, gains, gains[0])
    mixed = rank({"truth": truth[rows]}, gains[rows], gains[0])
    assert mixed.taus == whole.taus
    turned = rank({"truth": truth}, gains[:, columns], gains[0])
    assert turned.taus["truth"].value == whole.taus["truth"].value
    assert turned.reliability == pytest.approx(whole.reliability)


def test_a_criterion_leads_only_where_it_knows_more_than_a_null_model():
    truth, gains = noisy(80, 10, 1.0)
    rng = np.random.default_rng(4)
    criteria = {"depth": truth + 2 * rng.standard_normal(80), "truth": truth}
    ranking = rank(criteria | {"copy": criteria["depth"]}, gains, gains[0])
    assert ranking.leads["truth"].low > 0
    assert ranking.leads["copy"].value == 0
    assert "depth" not in ranking.leads


@pytest.mark.parametrize("count", [0, 1, MIN_RUNS - 1])
def test_few_runs_say_why_nothing_is_judged(count):
    found = study(GRAPH, [run for run in SHIPPED if run.design.layers][:count], TABLE)
    assert found.ranking.design_count == count
    assert f"{count} different designs" in found.ranking.reason_against
    assert len(found.gain) == len(found.gain_error) == count
    assert leave_one_out([found, found]) == []


def test_reasons_against_a_ledger():
    truth, gains = noisy(40, 6, 1.0)
    criteria = {"truth": truth}
    assert rank(criteria, gains, np.array([0.1, 0.2, 0.3])).reason_against == ""
    assert "does not clearly gain" in rank(criteria, gains, np.array([])).reason_against
    assert "does not clearly gain" in rank(criteria, gains, np.array([-1, 1.2])).reason_against
    noise = np.random.default_rng(0).standard_normal((40, 6))
    assert "reliability" in rank(criteria, noise, np.array([0.1, 0.2, 0.3])).reason_against


def synthetic(truth_of, task, seed):
    """A ledger of random designs whose gain is `truth_of(policy)` and a little noise."""
    rng = np.random.default_rng(seed)
    base = SHIPPED[0]
    policies = [nothing(AXES), everything(AXES)]
    for _ in range(40):
        slices = AXES.slices(rng.choice([0, 0, 0.25, 0.5, 1], len(AXES.names)))
        policies.append(UpdatePolicy.of("random", AXES, slices=slices, update_bias=slices > 0))
    gains = np.array([truth_of(policy) for policy in policies])
    gains = gains / gains.max() * 0.3
    runs = []
    for policy, gain in zip(policies, gains, strict=True):
        before = 0.4 + 0.05 * rng.random(6)
        after = before + gain + 0.01 * rng.standard_normal(6) * (gain > 0)
        runs.append(
            base.model_copy(
                update={
                    "task": task,
                    "design": DesignRecord.of(Design(policy=policy, setup=TrainingSetup())),
                    "episodes": 6,
                    "accuracy": float(after.mean()),
                    "per_episode_accuracy_before": tuple(before),
                    "per_episode_accuracy": tuple(after),
                }
            )
        )
    return runs


def trained_layers(policy):
    return float(np.count_nonzero(policy.slices))


def backward_depth(policy):
    taken = np.flatnonzero(policy.slices)
    return float(len(AXES.names) - taken[0]) if len(taken) else 0.0


def test_criteria_of_a_ledger_find_what_its_gains_depend_on():
    found = study(GRAPH, synthetic(backward_depth, "digits", 0), TABLE)
    assert found.ranking.reason_against == ""
    assert found.ranking.design_count == 41  # `none` trains nothing
    taus = {name: tau.value for name, tau in found.ranking.taus.items()}
    assert set(TRIED) <= set(taus)
    assert max(taus.values()) == taus["depth"] > 0.65  # depths are often equal, gains never
    without = study(GRAPH, synthetic(backward_depth, "digits", 0), None)
    assert "Fisher sum" not in without.ranking.taus
    assert without.ranking.taus["depth"].value == taus["depth"]


def test_what_is_chosen_on_other_ledgers_is_judged_on_the_one_left_out():
    alike = [
        study(GRAPH, synthetic(trained_layers, f"task {seed}", seed), TABLE) for seed in (1, 2)
    ]
    found = leave_one_out(alike)
    assert [one.study for one in found] == alike
    for one, other in zip(found, reversed(alike), strict=True):
        best = max(TRIED, key=lambda name: other.ranking.taus[name].value)
        assert one.chosen == best
        assert one.chosen_tau == one.study.ranking.taus[best].value
        assert one.fitted_tau > 0.4
    opposite = study(
        GRAPH, synthetic(lambda p: 12.0 * bool(sum(p.slices)) - trained_layers(p), "t", 3), TABLE
    )
    assert leave_one_out([alike[0], opposite])[1].fitted_tau < 0


def test_a_measured_copy_of_a_design_counts_once():
    runs = list(SHIPPED)
    once, twice = study(GRAPH, runs, TABLE), study(GRAPH, runs + runs[::-1], TABLE)
    assert once.ranking.taus == twice.ranking.taus
    assert once.ranking.design_count == twice.ranking.design_count


def test_runs_pair_on_the_episodes_all_of_them_have():
    short = [
        run.model_copy(
            update={
                "episodes": 5,
                "per_episode_accuracy": run.per_episode_accuracy[:5],
                "per_episode_accuracy_before": run.per_episode_accuracy_before[:5],
            }
        )
        for run in SHIPPED[:3]
    ]
    other_seed = SHIPPED[3].model_copy(update={"seed": 9})
    tiny = short[0].model_copy(update={"episodes": FEWEST_PAIRED - 1})
    paired, gains = paired_gains([*short, *SHIPPED[4:8], other_seed, tiny])
    assert paired == (*short, *SHIPPED[4:8])
    assert gains.shape == (7, 5)
    run = SHIPPED[5]
    expected = np.subtract(run.per_episode_accuracy, run.per_episode_accuracy_before)[:5]
    assert np.array_equal(gains[4], expected)
    nothing_there, empty = paired_gains([])
    assert nothing_there == ()
    assert empty.shape == (0, 0)


def test_comparable_runs_share_network_weights_task_and_protocol():
    changes = [
        {},
        {"weights_digest": "meta-trained"},
        {"task": "omniglot"},
        {"protocol": SHIPPED[0].protocol.model_copy(update={"ways": 3})},
        {"model": SHIPPED[0].model.model_copy(update={"digest": "another"})},
    ]
    runs = [SHIPPED[0].model_copy(update=change) for change in changes]
    groups = comparable([*runs, SHIPPED[1]])
    assert groups == ((runs[0], SHIPPED[1]), *((run,) for run in runs[1:]))


def test_a_ledger_of_another_resolution_is_not_this_networks(tmp_path, monkeypatch):
    usual, small = model_graph("mcunet-5fps"), model_graph("mcunet-5fps:resolution=84")
    shipped = measured_runs(usual, "sign-digits")
    assert shipped
    assert measured_form("mcunet-5fps", small.digest) == small
    assert measured_form("mcunet-5fps", "no digest") is None
    assert measured_form("no-network", small.digest) is None
    ledger = Ledger(tmp_path / "runs" / "mcunet-5fps-sign-digits.jsonl")
    at_84 = [
        run.model_copy(update={"model": run.model.model_copy(update={"digest": small.digest})})
        for run in shipped[2:5]
    ]
    for run in (*shipped[:2], *at_84):
        ledger.append(run)
    monkeypatch.setattr(sources, "data_cache", lambda: tmp_path)
    measured_runs.cache_clear()
    try:
        assert measured_runs(usual, "sign-digits") == shipped[:2]
        assert measured_runs(small, "sign-digits") == tuple(at_84)
        assert sources.shipped_runs() == [(small, tuple(at_84)), (usual, shipped[:2])]
    finally:
        measured_runs.cache_clear()
