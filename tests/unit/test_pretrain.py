"""Meta-training: the split, a run that goes on where it was stopped, and whose weights count."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from explorer.accuracy import course, finetune, fisher, torch_bridge
from explorer.accuracy import pretrain as offline
from explorer.accuracy.episodes import sample_episode
from explorer.accuracy.pretraining import Pretraining
from explorer.accuracy.progress import CancelledError
from explorer.accuracy.protocols import Protocol
from explorer.accuracy.records import Ledger
from explorer.accuracy.tasks import load_task
from explorer.accuracy.torch_bridge import (
    load_weights,
    loaded_module,
    model_module,
    save_weights,
    state_digest,
    unseen_task,
)
from explorer.cli import run
from explorer.design import LayerAxes, nothing
from explorer.errors import MissingDataError, SpecError
from explorer.graph import normalised
from explorer.search import sources
from explorer.search.sources import measured_runs, model_graph

torch.set_num_threads(1)
GRAPH = model_graph("digits-cnn")
TASK = load_task("digits")
EVERY_CLASS = replace(TASK, held_out=tuple(range(10)))
SMALL = {"episodes": 8, "ways": 3, "shots": 2, "query_count": 3, "learning_rate": 3e-3}


def small_recipe(module, task=TASK, **changes) -> Pretraining:
    return offline.recipe(module, task, **{**SMALL, **changes})


@pytest.fixture
def start():
    return offline.seeded_module(GRAPH, 0)


def test_new_classes_of_a_task_stay_new_and_others_are_split_by_seed():
    trained, held_out = offline.split_classes(TASK, 0)
    assert (trained.held_out, held_out.held_out) == ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9))
    splits = {offline.split_classes(EVERY_CLASS, seed)[1].held_out for seed in range(5)}
    assert len(splits) > 1
    for seed in range(5):
        first, second = (part.held_out for part in offline.split_classes(EVERY_CLASS, seed))
        assert sorted(first + second) == list(range(10))
        assert len(first) == len(second) == 5
    few = replace(TASK, class_names=("a", "b", "c"), held_out=(0, 1, 2))
    with pytest.raises(SpecError, match="classes of task digits: got 3, allowed: from 4"):
        offline.split_classes(few, 0)


def test_training_draws_trained_classes_only(start, monkeypatch):
    drawn = Counter()

    def watch(task, **rest):
        drawn.update(task.held_out)
        return sample_episode(task, **rest)

    monkeypatch.setattr(offline, "sample_episode", watch)
    rules = small_recipe(start, EVERY_CLASS, seed=3)
    offline.pretrain(start, EVERY_CLASS, rules)
    named = {str(label) for label in drawn}
    assert named == set(rules.trained_classes)
    assert named.isdisjoint(rules.held_out_classes)


def test_a_stopped_run_goes_on_to_the_same_weights(start, tmp_path, monkeypatch):
    monkeypatch.setattr(offline, "CHECKPOINT_EPISODES", 3)
    before, place = state_digest(start), tmp_path / "w.checkpoint"
    rules = small_recipe(start, learn_temperature=True)
    whole = offline.pretrain(start, TASK, rules)
    calls = iter([False] * 5 + [True])
    with pytest.raises(CancelledError, match="stopped after 5 of 8 episodes; resume goes on"):
        offline.pretrain(start, TASK, rules, checkpoint=place, cancelled=lambda: next(calls))
    seen = []
    again = offline.pretrain(
        start,
        TASK,
        rules,
        checkpoint=place,
        resume=True,
        on_episode=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(count, 8) for count in range(5, 9)]
    assert state_digest(again) == state_digest(whole) != before
    assert again.pretraining == whole.pretraining
    assert whole.pretraining.temperature != rules.temperature
    assert state_digest(start) == before


def test_a_kill_between_checkpoints_loses_little(start, tmp_path, monkeypatch):
    """The last episode fails as a kill would: nothing is caught, the last checkpoint stays."""
    monkeypatch.setattr(offline, "CHECKPOINT_EPISODES", 3)
    place, rules = tmp_path / "w.checkpoint", small_recipe(start)

    def die(done, _):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        offline.pretrain(start, TASK, rules, checkpoint=place, on_episode=die)
    counts = []
    again = offline.pretrain(
        start,
        TASK,
        rules,
        checkpoint=place,
        resume=True,
        on_episode=lambda done, _: counts.append(done),
    )
    assert counts[0] == 6
    assert state_digest(again) == state_digest(offline.pretrain(start, TASK, rules))


def test_what_cannot_be_gone_on_from_is_refused(start, tmp_path):
    place, rules = tmp_path / "w.checkpoint", small_recipe(start)
    with pytest.raises(MissingDataError, match="no checkpoint"):
        offline.pretrain(start, TASK, rules, checkpoint=place, resume=True)
    with pytest.raises(SpecError, match="resume"):
        offline.pretrain(start, TASK, rules, resume=True)
    place.write_bytes(b"no such thing")
    with pytest.raises(SpecError, match="cannot be read as a checkpoint"):
        offline.pretrain(start, TASK, rules, checkpoint=place, resume=True)
    with pytest.raises(CancelledError):
        offline.pretrain(start, TASK, rules, checkpoint=place, cancelled=lambda: True)
    other = small_recipe(start, learning_rate=1e-3)
    with pytest.raises(SpecError, match=r"learning_rate: got 0\.003"):
        offline.pretrain(start, TASK, other, checkpoint=place, resume=True)


@pytest.mark.parametrize(
    "wrong", [{"ways": 6}, {"shots": 0}, {"episodes": 0}, {"learning_rate": float("nan")}]
)
def test_a_recipe_that_cannot_be_is_refused(start, wrong):
    with pytest.raises(SpecError):
        small_recipe(start, **wrong)


def test_a_rate_that_breaks_the_network_is_said(start):
    rules = small_recipe(start, learning_rate=1e30)
    with pytest.raises(SpecError, match="learning rate: got 1e"):
        offline.pretrain(start, TASK, rules)


def test_meta_training_helps_on_the_classes_it_saw(start):
    source = replace(TASK, held_out=(0, 1, 2, 3, 4))
    rules = offline.recipe(start, TASK, episodes=40, learning_rate=3e-3)
    trained = offline.pretrain(start, TASK, rules)
    before, after = (
        offline.prototype_accuracies(module, source, seed=1, episodes=10).mean()
        for module in (start, trained)
    )
    assert after > before + 0.1


def test_batch_norm_learns_its_statistics(start):
    graph = normalised(GRAPH, "bn")
    module = offline.seeded_module(graph, 0)
    trained = offline.pretrain(module, TASK, small_recipe(module))
    name = f"{graph.weighted[0]}_norm.running_mean"
    assert not torch.equal(module.state_dict()[name], trained.state_dict()[name])
    assert not trained.training


def test_weights_know_their_classes_and_only_the_others_are_measured(start, tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    rules = small_recipe(start, EVERY_CLASS, seed=1)
    trained = offline.pretrain(start, EVERY_CLASS, rules)
    save_weights(trained, path)
    loaded = loaded_module(GRAPH, path)
    assert loaded.pretraining == trained.pretraining
    assert state_digest(loaded) == state_digest(trained)
    unseen = unseen_task(EVERY_CLASS, loaded)
    assert tuple(TASK.class_names[label] for label in unseen.held_out) == rules.held_out_classes
    other = replace(EVERY_CLASS, name="other")
    assert unseen_task(other, loaded) is other
    assert unseen_task(EVERY_CLASS, start) is EVERY_CLASS
    drawn = []

    def watched(draw):
        def watch(task, *args, **rest):
            drawn.append(task.held_out)
            return draw(task, *args, **rest)

        return watch

    monkeypatch.setattr(course, "protocol_episode", watched(course.protocol_episode))
    for module in (fisher, finetune):
        monkeypatch.setattr(module, "task_for", lambda *_: EVERY_CLASS)
    fisher.task_scores(GRAPH, "digits", episodes=1, module=loaded)
    short = Protocol(ways=5, shots=2, query_count=3, steps=1)
    none = nothing(LayerAxes.of(GRAPH))
    finetune.measure(GRAPH, "digits", none, episodes=1, protocol=short, module=loaded)
    assert drawn == [unseen.held_out, unseen.held_out]


def test_a_weight_file_that_is_broken_is_one_sentence(start, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"not safetensors")
    with pytest.raises(SpecError, match="cannot be read as safetensors"):
        load_weights(start, path)
    start.pretraining = small_recipe(start)
    monkey = start.pretraining.to_json().replace('"ways": 3', '"ways": 1')
    start.pretraining = type("Broken", (), {"to_json": lambda self: monkey})()
    save_weights(start, path)
    with pytest.raises(SpecError, match=r"w\.safetensors: pretraining: ways"):
        loaded_module(GRAPH, path)


def test_runs_of_other_weights_do_not_mix(tmp_path, monkeypatch):
    shipped = measured_runs(GRAPH, "digits")
    assert {run.weights_digest for run in shipped} == {state_digest(model_module(GRAPH))}
    ledger = Ledger(tmp_path / "runs" / "digits-cnn-digits.jsonl")
    others = [run.model_copy(update={"weights_digest": "other"}) for run in shipped[:4]]
    for each in (*others, *shipped[:2]):
        ledger.append(each)
    assert others[0].key != shipped[0].key
    monkeypatch.setattr(sources, "data_cache", lambda: tmp_path)
    measured_runs.cache_clear()
    try:
        assert measured_runs(GRAPH, "digits") == shipped[:2]
    finally:
        measured_runs.cache_clear()


def test_a_device_that_is_not_there_is_one_sentence(start, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for call in (
        lambda: finetune.measure(GRAPH, "digits", nothing(LayerAxes.of(GRAPH)), device="cuda"),
        lambda: fisher.task_scores(GRAPH, "digits", device="cuda"),
        lambda: offline.pretrain(start, TASK, small_recipe(start), device="cuda"),
    ):
        with pytest.raises(SpecError, match="torch finds no CUDA device here; use cpu"):
            call()
    with pytest.raises(SpecError, match="allowed: cpu, cuda"):
        torch_bridge.placed(start, "tpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_agrees_with_the_cpu(start):
    rules = small_recipe(start)
    here, there = (offline.pretrain(start, TASK, rules, device=name) for name in ("cpu", "cuda"))
    for name, value in here.state_dict().items():
        torch.testing.assert_close(there.state_dict()[name].cpu(), value, rtol=1e-2, atol=1e-3)


def test_the_terminal_trains_keeps_and_measures(tmp_path, capsys):
    out, ledger = tmp_path / "w.safetensors", tmp_path / "l.jsonl"
    call = ["pretrain", "digits-cnn", "digits", "--out", str(out), "--episodes", "4", "--json"]
    assert run(call) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["pretraining"]["held_out_classes"] == ["5", "6", "7", "8", "9"]
    assert [row[""] for row in answer["held_out"]] == ["before", "after"]
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    place = tmp_path / "w.safetensors.checkpoint"
    place.write_bytes(b"")
    assert run(call) == 2
    assert "add --resume to go on, or delete it" in capsys.readouterr().err
    short = ["--episodes", "1", "--shots", "1", "--queries", "2", "--ledger", str(ledger)]
    measure = ["measure", "digits-cnn", "digits", "--weights", str(out), "--policy", "none"]
    assert run([*measure, *short]) == 0
    (row,) = Ledger(ledger).read()
    assert row.weights_digest == state_digest(loaded_module(GRAPH, out))
    assert run(["fisher", "digits-cnn", "digits", "--weights", str(out)]) == 2
    assert "out: got None, allowed: a file, when weights, ways," in capsys.readouterr().err
