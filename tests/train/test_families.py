"""What the masked trainer promises, for every family and option that can be built."""

from functools import cache

import numpy as np
import pytest
import torch

from explorer import catalog
from explorer.accuracy.apply import apply_to_copy, chosen_channels, needs_scores
from explorer.accuracy.episodes import Prefix, sample_episode
from explorer.accuracy.fisher import score_table
from explorer.accuracy.slices import slice_mask
from explorer.accuracy.tasks import load_task
from explorer.accuracy.torch_bridge import adapted_module, model_module
from explorer.accuracy.trainer import finetune, first_trained_position, train_copy
from explorer.adapters import policy_with_adapters
from explorer.check import MacCounter
from explorer.costmodel.tables import layer_table
from explorer.document import choices_of
from explorer.graph import INPUT
from explorer.session import Session

pytestmark = pytest.mark.train

torch.set_num_threads(1)
SESSION = Session(model="digits-cnn")
GRAPH = SESSION.graph
RATE, STEPS = 1e-2, 3
SPECS = (
    "none",
    "last-layer",
    "last-k:k=3",
    "full",
    "bias-only",
    "free:feature_mix=0.25,blocks.2.depthwise=0.5,bias=1",
    "sparse-update:biases=4,layers=7-9,shares=0.5-0.25",
    "biotrain-last-layer",
    "biotrain-edge",
    "biotrain-edge:norm_bias=1",
    "biotrain-full-bn",
    "tinytl",
    "tinytl:blocks=1",
    "lora",
    "lora:rank=2,alpha=8,targets=pointwise2",
    "last-k-blocks:k=2",
    "adapter-drop",
    "biotrain-last-layer",
    "biotrain-full-bn",
    "biotrain-edge",
    "tinytrain",
    "tinytrain:macs=0.3,criterion=fisher",
    "tinytrain:macs=0.3,criterion=gradient,selection=gradient",
    "tinytrain:macs=0.3,selection=magnitude,channels=0.25",
    "tinytrain:macs=0.3,selection=random,refill=1",
)


@pytest.fixture(scope="module")
def module():
    return model_module(GRAPH)


@pytest.fixture(scope="module")
def episode():
    return sample_episode(load_task("digits"), seed=0, index=0, shots=2, query_count=5)


@cache
def policy(spec: str):
    return SESSION.with_policy(spec).chosen_policy


def may_move(base, graph, wide, scores) -> dict[str, torch.Tensor]:
    """Which entries of each parameter a policy names, as masks, on the adapted network."""
    masks = {}
    for choice in choices_of(wide):
        name, norm = choice.name, graph.norm_of(choice.name)
        layer = base.get_submodule(name)
        groups = getattr(layer, "groups", 1)
        if choice.slices:
            channels = chosen_channels(choice, scores)
            assert len(set(channels)) == choice.slices
            masks[f"{name}.weight"] = slice_mask(
                layer.weight, groups, choice.channel_axis, channels
            )
        if choice.update_bias:
            owner = name if layer.bias is not None else norm
            masks[f"{owner}.bias"] = torch.ones_like(base.get_parameter(f"{owner}.bias")).bool()
        if choice.update_norm:
            masks[f"{norm}.weight"] = torch.ones_like(base.get_parameter(f"{norm}.weight")).bool()
    return masks


def test_every_family_that_applies_is_here():
    tested = {catalog.split_spec(spec)[0] for spec in SPECS}
    assert tested == {info.name for info in SESSION.policies() if info.applicable}


@pytest.mark.parametrize("spec", SPECS)
def test_only_what_a_policy_names_moves_and_all_of_it_does(spec, module, episode):
    chosen = policy(spec)
    base = adapted_module(module, chosen.adapters)
    graph, wide = policy_with_adapters(GRAPH, chosen)
    scores = score_table(base, graph, [episode]) if needs_scores(wide) else None
    masks = may_move(base, graph, wide, scores)
    student, _ = train_copy(module, GRAPH, chosen, episode, learning_rate=RATE, steps=STEPS)
    after = student.state_dict()
    for name, before in base.state_dict().items():
        mask = masks.get(name, torch.zeros_like(before).bool())
        assert torch.equal(before[~mask], after[name][~mask]), name
        if name in masks:  # 9 of 25 taps of an adapter's kernel meet its 2x2 input
            assert (before[mask] != after[name][mask]).float().mean() > 0.35, name
    assert bool(masks) == (spec != "none")


@pytest.mark.parametrize("spec", SPECS)
def test_no_gradient_is_computed_below_the_earliest_trained_slice(spec, module, episode):
    """Backward MACs by torch's counter: slices that train, and inputs above the first."""
    chosen = policy(spec)
    graph, wide = policy_with_adapters(GRAPH, chosen)
    student = adapted_module(module, chosen.adapters)
    scores = score_table(student, graph, [episode]) if needs_scores(wide) else None
    student = adapted_module(model_module(GRAPH), chosen.adapters)
    apply_to_copy(student, graph, wide, scores)
    start = first_trained_position(graph, wide)
    count = len(episode.support)
    with MacCounter() as counter:
        out = student.run({INPUT: episode.support})[graph.layers[-1].name]
        if out.requires_grad:
            out.sum().backward()
    macs = dict(zip(graph.weighted, layer_table(graph).forward_macs, strict=True))
    trains = dict(zip(graph.weighted, wide.update_ratio, strict=True))
    needs = set()  # tensors with a gradient: those that something trained feeds
    named = {layer.name for layer in graph.layers[:start]} | {INPUT}
    weight_grad = input_grad = 0
    for position, layer in enumerate(graph.layers):
        sources = graph.producers(layer)
        own = position >= start and any(
            parameter.requires_grad for parameter in student.get_submodule(layer.name).parameters()
        )
        reached = bool(needs.intersection(sources))
        if layer.name in macs:
            weight_grad += count * macs[layer.name] * trains[layer.name]
            input_grad += count * macs[layer.name] * reached
        if own or reached:
            needs.add(layer.name)
    assert not needs & named
    assert counter.phases["weight_grad"] == weight_grad
    assert counter.phases["input_grad"] == input_grad


@pytest.mark.parametrize("spec", SPECS)
def test_the_cached_prefix_changes_no_loss(spec, module, episode):
    chosen = policy(spec)
    rest = {"learning_rate": 1e-3, "steps": STEPS}
    plain = train_copy(module, GRAPH, chosen, episode, **rest)[1]
    cached = finetune(module, GRAPH, chosen, episode, **rest).losses
    assert len(cached) == (0 if spec == "none" else STEPS)
    assert cached == pytest.approx(plain, abs=1e-5)


def test_a_cut_prefix_runs_no_layer_twice(module, episode):
    """Above: equal losses; here: that something was saved where the policy starts late."""
    start = first_trained_position(GRAPH, policy("last-layer"))
    prefix = Prefix.of(module, episode, start)
    with MacCounter() as counter:
        prefix.loss(module.requires_grad_(False), 0)
    late = [layer.name for layer in GRAPH.layers[start:]]
    table = layer_table(GRAPH)
    left = np.isin(GRAPH.weighted, late) @ table.forward_macs
    module.requires_grad_(True)
    images = 2 * len(episode.support)
    prototypes = episode.ways * 64 * (len(episode.support) + len(episode.support))
    assert counter.phases["forward"] == left * images + prototypes
