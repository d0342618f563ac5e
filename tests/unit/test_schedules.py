"""Source training by mu-Training's schedules: phases that share the trainer of `measure`."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from explorer.accuracy.lessons import LESSON_SETUP, make_lesson
from explorer.accuracy.pretrain import seeded_module
from explorer.accuracy.source import train_source
from explorer.accuracy.tasks import SignalTask, task_for
from explorer.accuracy.torch_bridge import GraphModule
from explorer.accuracy.trainer import train_copy
from explorer.cli import run
from explorer.design import LayerAxes, everything
from explorer.paths import data_cache
from explorer.phases import SCHEDULES, schedule
from explorer.search.sources import measured_runs, model_graph
from explorer.session import Session

MODEL = "tdssm:d_model=4,length=32,labels=2"
STEPS = 12


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> str:
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 2
    path = tmp_path_factory.mktemp("ecg") / "own.npz"
    signals = rng.normal(size=(64, 12, 32)) + labels[:, None, None]
    np.savez(path, signals=signals, labels=labels, target=np.arange(64) >= 32)
    return str(path)


@pytest.fixture(scope="module")
def session(own) -> Session:
    return Session(model=MODEL, task=own, policy="none")


@pytest.fixture(scope="module")
def task(session) -> SignalTask:
    return task_for(session.task, session.graph.input_shape)


def trained(session, task, name: str | None, policy: str = "mu-distilled") -> GraphModule:
    procedure = None if name is None else schedule(name, policy)
    specs = () if procedure is None else (phase.policy for phase in procedure.phases)
    policies = {spec: session.with_policy(spec).chosen_policy for spec in specs}
    module = seeded_module(session.graph, 0)
    return train_source(module, task, steps=STEPS, procedure=procedure, policies=policies).module


def weights(module: GraphModule, segment: str) -> torch.Tensor:
    found = [value.flatten() for name, value in module.named_parameters() if segment in name]
    return torch.cat(found).detach().clone()


def test_the_standard_schedule_is_training_without_one(session, task):
    plain, standard = (trained(session, task, name) for name in (None, "standard"))
    assert torch.equal(weights(plain, ""), weights(standard, ""))


def test_a_schedule_without_soft_labels_is_that_of_the_plain_policy(session, task):
    for name in ("begin", "sandwich"):
        plain = weights(trained(session, task, name, "mu-train"), "")
        without = weights(trained(session, task, name, "mu-distilled:alpha=0"), "")
        distilled = weights(trained(session, task, name), "")
        assert torch.allclose(plain, without, atol=1e-7)
        assert not torch.allclose(plain, distilled, atol=1e-5)


def test_each_phase_of_the_integrated_procedure_moves_its_segment_alone(session, task):
    procedure = schedule("integrated").lasting(STEPS)
    policies = {
        phase.policy: session.with_policy(phase.policy).chosen_policy for phase in procedure.phases
    }
    rng = np.random.default_rng(0)
    trains, held_out = task.source_split()
    lesson = make_lesson(task, trains, held_out, setup=LESSON_SETUP, steps=STEPS, rng=rng)
    seen: list[dict[str, torch.Tensor]] = []

    def after_step(_: int, student: GraphModule) -> None:
        segments = ("encoder", "middle", "decoder")
        seen.append({segment: weights(student, segment) for segment in segments})

    graph = session.graph
    train_copy(
        seeded_module(graph, 0),
        graph,
        everything(LayerAxes.of(graph)),
        lesson,
        learning_rate=1e-2,
        steps=STEPS,
        after_step=after_step,
        phases=procedure.phases,
        policies=policies,
    )
    moved = [
        {name for name in after if not torch.equal(before[name], after[name])}
        for before, after in pairwise(seen)
    ]
    everywhere = {"encoder", "middle", "decoder"}
    assert moved == [everywhere] * 5 + [{"middle"}] * 3 + [{"encoder", "decoder"}] * 3


def test_the_terminal_trains_by_a_schedule(own, tmp_path, capsys):
    out = tmp_path / "weights.safetensors"
    asked = ["--out", str(out), "--scratch", "--episodes", "4", "--json"]
    assert run(["pretrain", MODEL, own, "--schedule", "rear", *asked]) == 0
    assert len(json.loads(capsys.readouterr().out)["source_held_out"]) == 2
    assert run(["pretrain", MODEL, own, "--schedule", "club", *asked]) == 2
    assert "standard, begin, rear, sandwich, integrated" in capsys.readouterr().err
    assert run(["pretrain", "digits-cnn", "digits", "--schedule", "rear", *asked]) == 2
    assert "images are trained on in episodes" in capsys.readouterr().err


def test_the_kept_rows_are_of_the_networks_and_phases_they_name():
    rows = json.loads((data_cache() / "schedules.json").read_text("utf-8"))
    assert {row["schedule"] for row in rows} == set(SCHEDULES)
    for row in rows:
        procedure = schedule(row["schedule"], row["policy"] or "mu-distilled")
        count = sum(count for _, count in row["phases"])
        phases = procedure.lasting(count).phases
        assert row["phases"] == [[phase.policy, phase.epoch_count] for phase in phases]
        assert row["digest"] == model_graph(row["model"]).digest
        figures = [row[part] for part in ("source", "target", "tuned_source", "tuned_target")]
        assert all(0 < value < 1 for part in figures for value in part.values())
    keys = [(row["model"], row["schedule"], row["policy"], row["seed"]) for row in rows]
    assert len(set(keys)) == len(keys)


def test_the_standard_schedule_reached_what_the_shipped_weights_reach():
    rows = json.loads((data_cache() / "schedules.json").read_text("utf-8"))
    row = next(row for row in rows if (row["schedule"], row["seed"]) == ("standard", 0))
    graph = model_graph(row["model"])
    (none,) = (run for run in measured_runs(graph, row["task"]) if run.design.family == "none")
    (tuned,) = (
        run for run in measured_runs(graph, row["task"]) if run.design.family == "mu-finetune"
    )
    for column, value in row["source"].items():
        assert none.source[column].before == pytest.approx(value, abs=0.02)
        assert tuned.metrics[column].after == pytest.approx(row["tuned_target"][column], abs=0.02)
