import numpy as np
import pytest
import torch

from explorer import catalog
from explorer.accuracy import finetune as ft
from explorer.accuracy import trainer as tr
from explorer.accuracy.apply import apply_policy, apply_to_copy, trained_parameters
from explorer.accuracy.episodes import Prefix, sample_episode
from explorer.accuracy.fisher import score_table
from explorer.accuracy.progress import CancelledError
from explorer.accuracy.protocols import Protocol
from explorer.accuracy.slices import slice_mask
from explorer.accuracy.tasks import load_task
from explorer.accuracy.torch_bridge import build_module, model_module
from explorer.design import LayerAxes, TrainingSetup, UpdatePolicy
from explorer.document import MadeWith, Named, PolicyDocument, SetupRecord, choices_of
from explorer.errors import SpecError
from explorer.graph import normalised

torch.set_num_threads(1)

GRAPH = catalog.load("model", "digits-cnn").build()
AXES = LayerAxes.of(GRAPH)
LAYERS = len(AXES.names)
SHORT = Protocol(ways=5, shots=2, query_count=5, steps=3)


@pytest.fixture(scope="module")
def module():
    return model_module(GRAPH)


@pytest.fixture(scope="module")
def episode():
    return sample_episode(load_task("digits"), seed=0, index=0, shots=2, query_count=10)


def policy(count=0, share=1.0, bias=False, norm=False, axis="out", selection="first"):
    late = np.arange(LAYERS) >= LAYERS - count
    return UpdatePolicy.of(
        "test",
        AXES,
        slices=AXES.slices(late * share, axis),
        update_bias=late & bias,
        update_norm=late & norm,
        channel_axis=axis,
        selection=selection,
    )


@pytest.mark.parametrize("axis", ["out", "in"])
@pytest.mark.parametrize("selection", ["first", "fisher", "gradient", "magnitude", "random"])
def test_only_the_chosen_slices_move(module, episode, axis, selection):
    chosen = policy(4, 0.25, axis=axis, selection=selection)
    scores = score_table(module, GRAPH, [episode])
    student, losses = tr.train_copy(
        module, GRAPH, chosen, episode, scores=scores, learning_rate=1e-2, steps=3
    )
    assert len(losses) == 3
    expected = dict(module.state_dict())
    for index, name in enumerate(AXES.names):
        if not chosen.slices[index]:
            continue
        before, after = expected.pop(f"{name}.weight"), student.get_submodule(name).weight
        order = scores.order(index, selection, axis)[: chosen.slices[index]].tolist()
        mask = slice_mask(before, GRAPH[name].groups, axis, order)
        assert torch.equal(before[~mask], after[~mask])
        assert (before[mask] != after[mask]).float().mean() > 0.5
    state = student.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in expected.items())


def test_only_the_named_norm_parts_move(module, episode):
    late = np.arange(LAYERS) >= LAYERS - 2
    for bias, norm, field in ((True, False, "bias"), (False, True, "weight")):
        chosen = UpdatePolicy.of(
            "test", AXES, slices=[0] * LAYERS, update_bias=late & bias, update_norm=late & norm
        )
        student, _ = tr.train_copy(module, GRAPH, chosen, episode, learning_rate=1e-2, steps=2)
        before, after = module.state_dict(), student.state_dict()
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved == {f"{name}_norm.{field}" for name in AXES.names[-2:]}


@pytest.mark.parametrize("count", [1, 4, 9])
def test_the_prefix_cache_changes_no_loss(module, episode, count):
    chosen = policy(count, bias=True, norm=True)
    start = tr.first_trained_position(GRAPH, chosen)
    assert GRAPH.layers[start].name == AXES.names[-count]
    rest = {"learning_rate": 3e-3, "steps": 12}
    _, plain = tr.train_copy(module, GRAPH, chosen, episode, **rest)
    prefix = Prefix.of(module, episode, start)
    _, cached = tr.train_copy(module, GRAPH, chosen, episode, prefix=prefix, **rest)
    assert cached == pytest.approx(plain, abs=1e-6)


def test_nothing_below_the_first_trained_layer_is_differentiated(module, episode):
    student = build_module(GRAPH)
    apply_to_copy(student, GRAPH, policy(3), None)
    names = {layer.name for layer in GRAPH.layers}
    live = student.run({"input": episode.support}, keep=names)
    start = tr.first_trained_position(GRAPH, policy(3))
    for index, layer in enumerate(GRAPH.layers):
        assert live[layer.name].requires_grad == (index >= start)


def test_training_nothing_changes_nothing(module, episode):
    result = tr.finetune(module, GRAPH, policy(0), episode, learning_rate=1.0)
    assert (result.accuracy, result.nll, result.losses) == (
        result.accuracy_before,
        result.nll_before,
        (),
    )
    assert tr.first_trained_position(GRAPH, policy(0)) == len(GRAPH.layers)
    assert tr.loss_slope(module, GRAPH, policy(0), episode) == 0.0


def test_training_helps_and_leaves_the_module_alone(module, episode):
    before = {name: value.clone() for name, value in module.state_dict().items()}
    result = tr.finetune(module, GRAPH, policy(LAYERS, bias=True), episode, learning_rate=2e-3)
    assert result.losses[-1] < 0.5 * result.losses[0]
    assert result.accuracy > result.accuracy_before + 0.1
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_gradient_sum_is_that_of_the_score_table(module, episode):
    scores = score_table(module, GRAPH, [episode])
    for axis in ("out", "in"):
        chosen = policy(LAYERS, 0.5, bias=True, axis=axis, selection="gradient")
        expected = sum(
            scores.columns[f"grad_l1_{axis}"][index][
                scores.order(index, "gradient", axis)[:count]
            ].sum()
            + scores.columns["grad_l1_bias"][index].sum()
            for index, count in enumerate(chosen.slices)
        )
        reached = tr.loss_slope(module, GRAPH, chosen, episode, scores)
        assert reached == pytest.approx(expected, rel=1e-4)


def test_channels_default_to_those_of_the_episode_itself(module, episode):
    chosen = policy(3, 0.25, selection="fisher")
    scores = score_table(module, GRAPH, [episode])
    runs = [
        tr.train_copy(module, GRAPH, chosen, episode, scores=s, learning_rate=1e-3, steps=2)[0]
        for s in (None, scores)
    ]
    first, second = (run.state_dict() for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_batchnorm_trains_on_batch_statistics_above_the_cut(episode):
    graph = normalised(GRAPH, "bn")
    axes = LayerAxes.of(graph)
    late = np.arange(LAYERS) >= LAYERS - 2
    chosen = UpdatePolicy.of("t", axes, slices=axes.slices(late * 1.0), update_bias=late)
    module = build_module(graph)
    student, _ = tr.train_copy(module, graph, chosen, episode, learning_rate=1e-3, steps=2)
    before, after = module.state_dict(), student.state_dict()
    moved = [name for name in AXES.names if not torch.equal(
        before[f"{name}_norm.running_mean"], after[f"{name}_norm.running_mean"]
    )]  # fmt: skip
    assert moved == list(AXES.names[-2:])
    assert not student.get_submodule("first_conv_norm").training


def test_measure_is_repeatable_and_paired(module):
    seen = []
    rest = {"episodes": 2, "protocol": SHORT, "tuning_episodes": 1, "module": module}
    first = ft.measure(
        GRAPH,
        "digits",
        policy(2),
        on_episode=lambda done, total: seen.append((done, total)),
        **rest,
    )
    again = ft.measure(GRAPH, "digits", policy(2), **rest)
    other = ft.measure(GRAPH, "digits", policy(0), **rest)
    assert seen[0][0] == 1
    assert seen[-1][0] == seen[-1][1] >= 5
    assert first.model_copy(update={"wall_time_s": again.wall_time_s}) == again
    assert other.per_episode_accuracy_before == first.per_episode_accuracy_before
    assert (other.learning_rate, other.standard_error_gain) == (0.0, 0.0)
    assert first.learning_rate in first.tuning.rates
    assert first.design.policy(GRAPH).slices == policy(2).slices


def test_measure_can_be_stopped(module):
    calls = iter([False, False, True])
    with pytest.raises(CancelledError, match="stopped after 2 of"):
        ft.measure(
            GRAPH,
            "digits",
            policy(1),
            episodes=2,
            protocol=SHORT,
            tuning_episodes=1,
            module=module,
            cancelled=lambda: next(calls),
        )


def test_measure_refuses_another_input():
    graph = catalog.load("model", "mcunet-5fps").build()
    axes = LayerAxes.of(graph)
    nothing = [0] * len(axes.names)
    none = UpdatePolicy.of("none", axes, slices=nothing, update_bias=[False] * len(nothing))
    with pytest.raises(SpecError, match="input of task digits"):
        ft.measure(graph, "digits", none)
    with pytest.raises(SpecError, match="episodes"):
        ft.measure(GRAPH, "digits", policy(0), episodes=0)


def test_of_equal_rates_the_lower_is_taken():
    assert ft.best_rate({0.1: 0.5, 0.3: 0.7, 0.9: 0.7}) == 0.3


def document(chosen: UpdatePolicy) -> PolicyDocument:
    return PolicyDocument(
        model=Named(name=GRAPH.name, digest=GRAPH.digest),
        family="test",
        setup=SetupRecord.of(TrainingSetup()),
        layers=choices_of(chosen),
        made_with=MadeWith(version="0", cost_model_version=0),
    )


def test_a_document_trains_a_module_without_its_graph():
    module = build_module(GRAPH)
    groups = apply_policy(module, document(policy(3, 0.5, bias=True, norm=True)))
    assert [group["name"] for group in groups] == list(AXES.names[-3:])
    optimizer = torch.optim.Adam(groups, lr=1e-2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module(torch.rand(4, 1, 8, 8)).square().sum().backward()
    optimizer.step()
    moved = {n for n, value in module.state_dict().items() if not torch.equal(before[n], value)}
    assert {name.split("_norm")[0].removesuffix(".weight") for name in moved} == set(
        AXES.names[-3:]
    )
    half = len(before["feature_mix.weight"]) // 2
    now = module.get_submodule("feature_mix").weight
    assert torch.equal(now[half:], before["feature_mix.weight"][half:])


def test_a_second_document_takes_the_first_masks_off():
    module = build_module(GRAPH)
    apply_policy(module, document(policy(1, 0.25)))
    (weight,) = trained_parameters(apply_policy(module, document(policy(1))))
    module(torch.rand(4, 1, 8, 8)).square().sum().backward()
    assert weight.grad.abs().flatten(1).sum(1).gt(0).float().mean() > 0.5


def test_documents_that_do_not_fit_are_refused():
    with pytest.raises(SpecError, match=r"layer\.name"):
        apply_policy(torch.nn.Linear(2, 2), document(policy(1)))
    with pytest.raises(SpecError, match="channels of feature_mix"):
        apply_policy(build_module(GRAPH), document(policy(1, 0.5, selection="fisher")))
    other = catalog.load("model", "mbv2-w0.35").build()
    with pytest.raises(SpecError, match="those of mbv2"):
        apply_to_copy(build_module(other), other, policy(1), None)
    bare = torch.nn.Module()
    bare.add_module("feature_mix", torch.nn.Conv2d(24, 64, 1, bias=False))
    for chosen in (policy(1, norm=True), policy(1, bias=True)):
        with pytest.raises(SpecError, match="feature_mix"):
            apply_policy(bare, document(chosen))
