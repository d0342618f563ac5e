"""Policies measured together are what they are alone, and share what comes below them."""

import numpy as np
import pytest
import torch

from explorer.accuracy import episodes, group
from explorer.accuracy import finetune as ft
from explorer.accuracy.episodes import Prefix, sample_episode
from explorer.accuracy.progress import CancelledError, Ticker
from explorer.accuracy.protocols import Protocol
from explorer.accuracy.tasks import load_task
from explorer.accuracy.torch_bridge import model_module
from explorer.graph import INPUT
from explorer.session import Session

torch.set_num_threads(1)
SESSION = Session(model="digits-cnn")
GRAPH = SESSION.graph
RULES = Protocol(ways=5, shots=2, query_count=5, steps=3)
SPECS = ("none", "last-layer", "full", "bias-only", "tinytl:blocks=1", "tinytrain:macs=0.3")


@pytest.fixture(scope="module")
def module():
    return model_module(GRAPH)


@pytest.fixture(scope="module")
def policies():
    return [SESSION.with_policy(spec).chosen_policy for spec in SPECS]


@pytest.fixture(scope="module")
def episode():
    return sample_episode(load_task("digits"), seed=0, index=0, shots=2, query_count=10)


def test_a_group_gives_the_runs_of_its_members_alone(module, policies):
    rest = {"episodes": 2, "protocol": RULES, "tuning_episodes": 2, "module": module}
    seen = []
    together = ft.accuracy_curves(
        GRAPH, "digits", policies, on_episode=lambda *counts: seen.append(counts), **rest
    )
    for policy, shared in zip(policies, together, strict=True):
        alone = ft.accuracy_curve(GRAPH, "digits", policy, **rest)
        same = {"wall_time_s": shared.run.wall_time_s}
        assert alone.run.model_copy(update=same) == shared.run
        assert alone.per_episode_accuracy == shared.per_episode_accuracy
    assert len({curve.run.per_episode_accuracy_before for curve in together}) == 1
    assert [done for done, _ in seen] == list(range(1, seen[-1][1] + 1))


def test_nothing_to_train_needs_no_tuning(module, policies):
    (curve,) = ft.accuracy_curves(GRAPH, "digits", policies[:1], episodes=1, protocol=RULES)
    assert curve.run.tuning.rates == ()
    assert curve.run.learning_rate == 0
    assert ft.accuracy_curves(GRAPH, "digits", (), episodes=1, protocol=RULES) == ()


def test_a_group_can_be_stopped(module, policies):
    calls = iter([False] * 7 + [True])
    with pytest.raises(CancelledError, match="stopped after 7 of"):
        ft.accuracy_curves(
            GRAPH, "digits", policies, protocol=RULES, module=module, cancelled=lambda: next(calls)
        )


def test_climbing_changes_no_digit(module, episode):
    starts = [0, 3, 9, len(GRAPH.layers) - 1, len(GRAPH.layers)]
    tests = set()
    for start, prefix in zip(starts, group.climb(module, episode, starts[::-1]), strict=True):
        assert prefix.start == start
        direct = Prefix.of(module, episode, start)
        for part in ("support", "views", "queries"):
            climbed, made = getattr(prefix, part), getattr(direct, part)
            assert climbed.keys() == made.keys()
            assert all(torch.equal(climbed[name], made[name]) for name in made)
        tests.add(prefix.test(module)[:2])
    assert len(tests) == 1
    assert not prefix.views


def test_larger_parts_of_another_device_change_only_the_last_digits(module, episode, monkeypatch):
    start = len(GRAPH.layers) // 2
    parts = Prefix.of(module, episode, start)
    monkeypatch.setitem(episodes.PART_IMAGES, "cpu", episodes.PART_IMAGES["cuda"])
    whole = Prefix.of(module, episode, start)
    for name, kept in parts.views.items():
        assert torch.allclose(whole.views[name], kept, atol=1e-5)
    assert whole.test(module)[:2] == pytest.approx(parts.test(module)[:2], rel=1e-5)
    assert torch.allclose(whole.loss(module, 9), parts.loss(module, 9), rtol=1e-5)


def test_layers_below_run_once_for_all(module, policies, episode, monkeypatch):
    runs = []
    run = type(module).run

    def counting(self, tensors, start=0, stop=None, keep=()):
        if INPUT in tensors:
            runs.append(len(tensors[INPUT]))
        return run(self, tensors, start, stop, keep)

    monkeypatch.setattr(type(module), "run", counting)
    late = [policy for spec, policy in zip(SPECS, policies, strict=True) if spec == "last-layer"]
    trainees = group.trainees_of(module, GRAPH, late * 3)
    tick = Ticker("fine-tunings", 0, None, None)
    results = group.train_all(trainees, episode, [(1e-3, 1e-2)] * 3, tick, steps=2)
    assert sum(runs) == len(episode.support) * (1 + len(episode.views)) + len(episode.queries)
    assert results[0] == results[1] == results[2]
    assert results[0][0].losses != results[0][1].losses


def test_rates_go_beyond_an_end_that_is_best():
    assert group._beyond({}) == ()
    assert group._beyond({1.0: 0.2, 3.0: 0.5, 9.0: 0.4}) == ()
    assert group._beyond({1.0: 0.2, 3.0: 0.4, 9.0: 0.5}) == (27.0,)
    assert group._beyond({1.0: 0.5, 3.0: 0.4}) == pytest.approx((1 / 3,))


def test_time_is_split_without_loss(module, policies):
    curves = ft.accuracy_curves(
        GRAPH, "digits", policies[:2], episodes=1, protocol=RULES, tuning_episodes=1, module=module
    )
    times = np.array([curve.run.wall_time_s for curve in curves])
    assert (times > 0).all()
    assert times[1] > times[0]
