"""Time to accuracy: the curve ends where the run does, its times are the cost model's."""

import json

import numpy as np
import pytest
import torch

from explorer.accuracy import finetune as ft
from explorer.accuracy.episodes import sample_episode
from explorer.accuracy.protocols import Protocol
from explorer.accuracy.records import AccuracyCurve
from explorer.accuracy.tasks import load_task
from explorer.accuracy.torch_bridge import build_module, model_module
from explorer.accuracy.trainer import finetune
from explorer.cli import run
from explorer.costmodel.adaptation import Plan, adaptation
from explorer.costmodel.uncertainty import step_spending
from explorer.design import DesignBatch, LayerAxes, TrainingSetup, everything
from explorer.errors import SpecError
from explorer.figures import curve as figure
from explorer.graph import normalised
from explorer.session import Session

torch.set_num_threads(1)
SESSION = Session(model="digits-cnn", device="pi-zero-2w", policy="tinytrain:macs=0.3")
GRAPH = SESSION.graph
RULES = Protocol(ways=5, shots=2, query_count=5, steps=6)
POLICIES = ("none", "last-layer", "tinytrain:macs=0.3")


@pytest.fixture(scope="module")
def curves() -> list[AccuracyCurve]:
    rest = {"episodes": 2, "tuning_episodes": 1, "protocol": RULES, "module": model_module(GRAPH)}
    chosen = [SESSION.with_policy(spec).chosen_policy for spec in POLICIES]
    return [ft.accuracy_curve(GRAPH, "digits", policy, **rest) for policy in chosen]


def test_a_curve_starts_and_ends_with_its_run(curves):
    for curve in curves:
        assert curve.steps == (0, 1, 2, 5)
        columns = np.array(curve.per_episode_accuracy)
        assert columns.shape == (2, 4)
        assert tuple(columns[:, 0]) == curve.run.per_episode_accuracy_before
        assert curve.accuracy == pytest.approx(columns.mean(axis=0))
        spread = columns.std(axis=0, ddof=1) / 2**0.5
        assert curve.error == pytest.approx(spread)
        assert AccuracyCurve.model_validate_json(curve.to_json()) == curve
    assert len({curve.run.per_episode_accuracy_before for curve in curves}) == 1
    assert np.ptp(curves[0].accuracy) == 0
    assert np.ptp(curves[2].accuracy) > 0


def test_each_point_is_what_a_run_of_so_many_steps_reaches(curves):
    """Also that testing in between changes no later step: batch norm has statistics to spoil."""
    episode = sample_episode(load_task("digits"), seed=0, index=0, shots=2, query_count=5)
    bn = normalised(GRAPH, "bn")
    for graph, module in ((GRAPH, model_module(GRAPH)), (bn, build_module(bn))):
        policy = everything(LayerAxes.of(graph))
        rest = {"learning_rate": 1e-2}
        whole = finetune(module, graph, policy, episode, steps=6, test_at=(0, 2, 6), **rest)
        short = finetune(module, graph, policy, episode, steps=2, **rest)
        assert whole.curve == (short.accuracy_before, short.accuracy, whole.accuracy)
        assert whole.losses == finetune(module, graph, policy, episode, steps=6, **rest).losses


def test_the_last_step_of_a_protocol_is_the_run_itself():
    policy = SESSION.with_policy("last-layer").chosen_policy
    rest = {"episodes": 1, "tuning_episodes": 1, "protocol": RULES}
    curve = ft.accuracy_curve(GRAPH, "digits", policy, steps=(6,), **rest)
    assert tuple(curve.accuracy) == curve.run.per_episode_accuracy
    assert np.isnan(curve.error).all()
    plain = ft.measure(GRAPH, "digits", policy, **rest)
    same = {"wall_time_s": plain.wall_time_s}
    assert curve.run.model_copy(update=same) == plain
    with pytest.raises(SpecError, match="steps of the curve"):
        ft.accuracy_curve(GRAPH, "digits", policy, steps=(7,), **rest)


def test_times_are_modelled_steps_after_the_choice_of_channels(curves):
    setup = TrainingSetup(micro_batch=20, optimizer="adam", update_timing="deferred")
    for curve in curves:
        policy = curve.run.design.policy(GRAPH)
        designs = DesignBatch.of(LayerAxes.of(GRAPH), [policy], setup)
        step = step_spending(GRAPH, SESSION.profile, designs)
        spent = adaptation(GRAPH, SESSION.profile, designs, step, Plan(steps=5, samples=10))
        time_s = SESSION.seconds_of(curve)
        assert time_s[0] == spent.selection_time_s
        whole = spent.spending.time_s.value if policy.family != "none" else 5 * step.time_s.value
        assert time_s[-1] == pytest.approx(whole)
        assert (spent.selection_time_s > 0) == policy.family.startswith("tinytrain")


def test_the_figure_draws_what_was_measured(curves):
    times = [SESSION.seconds_of(curve) for curve in curves]
    data = figure.curves_data(curves, times, "pi-zero-2w")
    assert [row.name for row in data.curves] == ["none", "last-layer", "tinytrain 0.3"]
    assert len({row.color for row in data.curves}) == 3
    for row, curve, time_s in zip(data.curves, curves, times, strict=True):
        assert row.steps == pytest.approx(curve.steps)
        assert row.accuracy == pytest.approx(curve.accuracy)
        assert row.high - row.low == pytest.approx(2 * curve.error)
        assert row.time_s[1:] == pytest.approx(time_s[1:])
        assert np.isnan(row.time_s[0]) == (time_s[0] == 0)
        assert data.accuracy_axis.low <= row.low.min() <= row.high.max() <= data.accuracy_axis.high
    drawn = figure.draw(data)
    lines = [trace for trace in drawn.data if trace.mode == "lines+markers"]
    assert len(lines) == 6
    assert [trace.name for trace in lines if trace.showlegend] == [r.name for r in data.curves]
    assert len(lines[-1].x) == 4
    assert len(lines[3].x) == 3
    assert "pi-zero-2w, modelled" in drawn.layout.xaxis2.title.text


def test_the_terminal_prints_the_curve(capsys):
    call = ["measure", "digits-cnn", "digits", "--policy", "last-layer", "--episodes", "1",
            "--shots", "1", "--queries", "3", "--curve", "--board", "pi-zero-2w"]  # fmt: skip
    assert run([*call, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [row["step"] for row in answer["curve"]] == list(ft.CURVE_STEPS)
    assert answer["curve"][-1]["accuracy"] == answer["accuracy"]
    assert answer["curve"][0]["standard_error"] is None
    assert answer["curve"][2]["time_s"] == pytest.approx(2 * answer["curve"][1]["time_s"])
    assert run(call) == 0
    assert "time modelled on pi-zero-2w" in " ".join(capsys.readouterr().out.split())
