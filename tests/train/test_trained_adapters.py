"""Adapters in torch: no effect before training, and only they and the biases move."""

from dataclasses import replace

import pytest
import torch

from explorer import catalog
from explorer.accuracy import finetune as ft
from explorer.accuracy import trainer as tr
from explorer.accuracy.apply import apply_policy, apply_to_copy, trained_parameters
from explorer.accuracy.episodes import Prefix, sample_episode
from explorer.accuracy.protocols import Protocol
from explorer.accuracy.tasks import load_task
from explorer.accuracy.torch_bridge import adapted_module, build_module, model_module, state_digest
from explorer.adapters import adapter_blocks, policy_with_adapters, trained_parts
from explorer.costmodel.evaluate import evaluate
from explorer.errors import SpecError
from explorer.graph import normalised
from explorer.session import Session
from tests.helpers import NORM_CHOICES, batch_of, block_net, device_for, policy_of

pytestmark = pytest.mark.train

torch.set_num_threads(1)
SESSION = Session(model="digits-cnn", policy="tinytl")
GRAPH = SESSION.graph
POLICY = SESSION.chosen_policy


@pytest.fixture(scope="module")
def module():
    return model_module(GRAPH)


@pytest.fixture(scope="module")
def episode():
    return sample_episode(load_task("digits"), seed=0, index=0, shots=2, query_count=10)


@pytest.mark.parametrize("norm", NORM_CHOICES)
@pytest.mark.parametrize("name", ["blocks", "digits-cnn", "mcunet-5fps"])
def test_outputs_are_the_same_before_training(name, norm):
    made = block_net(norm) if name == "blocks" else catalog.load("model", name).build()
    graph = normalised(made, norm)
    base = build_module(graph)
    grown = adapted_module(base, adapter_blocks(graph))
    images = torch.randn(3, *graph.input_shape, generator=torch.Generator().manual_seed(0))
    for training in (False, True):
        with torch.no_grad():
            torch.testing.assert_close(
                grown.train(training)(images), base.train(training)(images), rtol=0, atol=1e-6
            )
    counted = sum(parameter.numel() for parameter in grown.parameters())
    assert counted == grown.graph.parameter_count


def test_adapters_start_the_same_every_time_and_leave_the_generator_alone(module):
    torch.manual_seed(1)
    first = state_digest(adapted_module(module, POLICY.adapters))
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1))
    torch.manual_seed(2)
    assert state_digest(adapted_module(module, POLICY.adapters)) == first
    assert adapted_module(module, ()) is module


def test_only_biases_and_adapters_move(module, episode):
    before = state_digest(module)
    student, losses = tr.train_copy(module, GRAPH, POLICY, episode, learning_rate=1e-2, steps=3)
    assert len(losses) == 3
    assert state_digest(module) == before
    start = adapted_module(module, POLICY.adapters).state_dict()
    moved = {name for name, v in student.state_dict().items() if not torch.equal(v, start[name])}
    parts = [name for block in POLICY.adapters for name in trained_parts(block)]
    adapters = {name for name in start if name.rpartition(".")[0] in parts}
    biases = {name for name in start if name.endswith(".bias")}
    assert moved == adapters | biases


def test_trained_parameters_are_those_that_move(module):
    wide, whole = policy_with_adapters(GRAPH, POLICY)
    parameters = apply_to_copy(adapted_module(module, POLICY.adapters), wide, whole, None)
    costs = evaluate(GRAPH, device_for("fp32"), batch_of(GRAPH, POLICY))
    counted = sum(parameter.numel() for parameter in parameters)
    assert costs.trained_parameter_count.tolist() == [counted]


def test_a_cached_prefix_gives_the_same_losses(module, episode):
    """Only the last block's adapter trains, so everything before it is computed once."""
    late = replace(policy_of(GRAPH), adapters=("blocks.2",))
    wide, whole = policy_with_adapters(GRAPH, late)
    start = tr.first_trained_position(GRAPH, late)
    assert wide.layers[start].name == "blocks.2_adapter_conv"
    assert tr.first_trained_position(GRAPH, POLICY) == 1  # the norm behind the first convolution
    rest = {"learning_rate": 1e-2, "steps": 3}
    _, plain = tr.train_copy(module, GRAPH, late, episode, **rest)
    grown = adapted_module(module, late.adapters)
    prefix = Prefix.of(grown, episode, start)
    _, cached = tr.train_copy(grown, wide, whole, episode, prefix=prefix, **rest)
    assert cached == pytest.approx(plain, rel=1e-5)
    assert tr.finetune(module, GRAPH, late, episode, **rest).losses == pytest.approx(
        plain, rel=1e-5
    )


def test_a_document_trains_a_module_that_has_the_adapters(module):
    document = SESSION.export()
    with pytest.raises(SpecError, match=r"the module has no blocks\.1_adapter_conv"):
        apply_policy(build_module(GRAPH), document)
    grown = adapted_module(module, document.adapters)
    groups = apply_policy(grown, document)
    free = [name for name, parameter in grown.named_parameters() if parameter.requires_grad]
    assert len(free) == len(trained_parameters(groups))
    wide, whole = policy_with_adapters(GRAPH, POLICY)
    same = apply_to_copy(adapted_module(module, document.adapters), wide, whole, None)
    assert sum(p.numel() for p in trained_parameters(groups)) == sum(p.numel() for p in same)


@pytest.mark.parametrize("spec", ["tinytl", "lora:rank=2"])
def test_a_measured_run_is_of_the_base_network_and_its_adapters(module, spec):
    policy = SESSION.with_policy(spec).chosen_policy
    short = Protocol(ways=5, shots=2, query_count=5, steps=3)
    run = ft.measure(
        GRAPH, "digits", policy, episodes=2, tuning_episodes=1, protocol=short, module=module
    )
    plain = ft.measure(
        GRAPH,
        "digits",
        replace(policy, adapters=()),
        episodes=2,
        tuning_episodes=1,
        protocol=short,
        module=module,
    )
    assert run.model.digest == GRAPH.digest
    assert run.weights_digest == plain.weights_digest == state_digest(module)
    assert run.design.adapters == policy.adapters
    assert run.design.policy(GRAPH) == policy
    assert run.key != plain.key
    assert run.per_episode_accuracy_before == plain.per_episode_accuracy_before
