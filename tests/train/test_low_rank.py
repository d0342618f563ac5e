"""LoRA and last-k-blocks: on a transformer of others and on networks of ours, against torch."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import explorer
from explorer.accuracy.apply import apply_policy, apply_to_copy, trained_parameters
from explorer.accuracy.low_rank import attach, merged_state
from explorer.accuracy.torch_bridge import adapted_module, build_module
from explorer.accuracy.tracing import trace
from explorer.adapters import adapted, policy_with_adapters
from explorer.costmodel.evaluate import evaluate
from explorer.document import PolicyDocument, parse_document
from explorer.errors import SpecError
from explorer.graph import normalised
from explorer.low_rank import LowRank, largest_rank
from tests.helpers import NORM_CHOICES, batch_of, block_net, device_for, policy_of
from tests.operator_nets import product_net, token_net
from tests.train.test_eager import assert_equal_hooks
from tests.train.test_torch_macs import measure, predicted
from tests.train.test_wide_macs import counted_macs

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore:TF32 acceleration")]
GAP9 = device_for("fp32")


def with_all(graph, rank=2, alpha=3.0):
    """Every adapter the graph can have."""
    names = [name for name in graph.weighted if largest_rank(graph, name) >= rank]
    return tuple(LowRank(layer=name, rank=rank, alpha=alpha) for name in names)


def adapted_alone(graph):
    """The network with every adapter, and the policy that trains nothing else."""
    policy = replace(policy_of(graph), adapters=with_all(graph))
    return policy_with_adapters(graph, policy)


NETS = (block_net("gn"), block_net("none"), token_net(), product_net())


def inputs_of(graph, count=2):
    generator = torch.Generator().manual_seed(0)
    if graph.index_count:
        return torch.randint(11, (count, *graph.input_shape), generator=generator)
    return torch.randn(count, *graph.input_shape, generator=generator)


def test_an_adapter_is_two_matrices_and_a_sum_around_its_layer():
    graph = token_net()
    wide = adapted(graph, (LowRank(layer="expand", rank=2, alpha=4.0),))
    parts = [f"expand.adapter_{part}" for part in ("down", "scale", "up", "sum")]
    around = [layer.name for layer in wide.layers if "expand" in layer.name]
    assert around == [*parts[:2], "expand", *parts[2:]]
    assert [wide[name].out_shape for name in around] == [(6, 2), (6, 2), *[(6, 16)] * 3]
    assert wide["expand.adapter_scale"].args == (2, 0)
    assert wide["expand.adapter_down"].inputs == wide["expand"].inputs == ("between",)
    assert wide["curve"].inputs == ("expand.adapter_sum",)
    assert wide.parameter_count - graph.parameter_count == 2 * (8 + 16)
    costs = [
        evaluate(one, GAP9, batch_of(one, policy_of(one))).forward_macs[0] for one in (wide, graph)
    ]
    assert costs[0] - costs[1] == 6 * 2 * (8 + 16)
    plain = adapted(graph, (LowRank(layer="expand", rank=2, alpha=2.0),))
    assert "expand.adapter_scale" not in {layer.name for layer in plain.layers}


def test_the_norm_of_a_layer_stays_its_norm():
    for norm in NORM_CHOICES:
        graph = block_net(norm)
        wide = adapted(graph, with_all(graph, rank=1))
        assert [wide.norm_of(name) for name in graph.weighted] == [
            graph.norm_of(name) for name in graph.weighted
        ]


@pytest.mark.parametrize(
    ("adapters", "words"),
    [
        ((LowRank(layer="b2_dense", rank=1, alpha=1),), "a linear layer or 1x1 convolution: b0_pr"),
        ((LowRank(layer="b1_depth", rank=1, alpha=1),), "b1_depth"),
        ((LowRank(layer="nowhere", rank=1, alpha=1),), "nowhere"),
        ((LowRank(layer="head", rank=4, alpha=1),), "rank of head: got 4, .* from 1 to 3"),
        (tuple(LowRank(layer="head", rank=1, alpha=alpha) for alpha in (1, 2)), "each layer once"),
    ],
)
def test_what_cannot_have_one_is_refused(adapters, words):
    with pytest.raises(SpecError, match=words):
        adapted(block_net(), adapters)


@pytest.mark.parametrize("change", [{"rank": 0}, {"rank": 1.5}, {"alpha": 0.0}, {"alpha": np.nan}])
def test_rank_and_alpha_have_bounds(change):
    with pytest.raises(SpecError):
        LowRank(**{"layer": "q", "rank": 2, "alpha": 1.0} | change)


@pytest.mark.parametrize("norm", NORM_CHOICES)
@pytest.mark.parametrize("make", [block_net, lambda norm: token_net(), lambda norm: product_net()])
def test_outputs_are_the_same_before_training_and_after_merging(make, norm):
    graph = normalised(make(norm), None)
    torch.manual_seed(0)
    base, adapters = build_module(graph), with_all(graph)
    grown, images = adapted_module(base, adapters), inputs_of(graph)
    with torch.no_grad():
        assert torch.equal(grown(images), base(images))
        assert sum(p.numel() for p in grown.parameters()) == grown.graph.parameter_count
        for adapter in adapters:
            grown.get_parameter(f"{adapter.parts[1]}.weight").normal_(std=0.3)
        changed = grown(images)
        assert (changed - base(images)).abs().max() > 1e-3
        base.load_state_dict(merged_state(grown, adapters))
        torch.testing.assert_close(base(images), changed, rtol=0, atol=1e-6)


@pytest.mark.parametrize("graph", NETS, ids=lambda graph: graph.name)
def test_saved_bytes_are_those_of_the_hooks(graph):
    assert_equal_hooks(adapted(graph, with_all(graph)))


@pytest.mark.parametrize("graph", NETS, ids=lambda graph: graph.name)
def test_macs_and_parameters_are_those_torch_has(graph):
    wide, policy = adapted_alone(graph)
    costs = evaluate(wide, GAP9, batch_of(wide, policy))
    module = build_module(wide).to(memory_format=torch.contiguous_format).train()
    parameters = apply_to_copy(module, wide, policy, None)
    assert sum(one.numel() for one in parameters) == costs.trained_parameter_count[0]
    macs = costs.forward_macs + costs.input_grad_macs + costs.weight_grad_macs
    assert macs.tolist() == [counted_macs(module, inputs_of(graph))]
    if graph.norm in ("gn", "none") and len(graph.input_shape) == 3:
        assert predicted(wide, policy) == measure(wide, policy)[0]


def test_a_policy_of_the_family_is_what_it_says():
    session = explorer.Session(model="digits-cnn", policy="lora:rank=2,alpha=8,targets=pointwise1")
    policy = session.chosen_policy
    assert [str(one) for one in policy.adapters] == [
        f"rank 2 of blocks.{block}.pointwise1" for block in range(3)
    ]
    assert {one.factor for one in policy.adapters} == {4.0}
    shapes = {one.layer: session.graph[one.layer] for one in policy.adapters}
    count = sum(
        2 * (session.graph.in_channels(layer) + layer.channels) for layer in shapes.values()
    )
    assert session.cost().trained_parameters == count
    last = session.with_policy("lora:rank=2,blocks=1").chosen_policy
    assert {one.layer.rpartition(".")[0] for one in last.adapters} == {"blocks.2"}
    text = session.export().to_json()
    again = parse_document(PolicyDocument, text, "x.json")
    assert again.to_json() == text
    assert again.policy(session.graph) == replace(policy, channels=None)
    assert json.loads(text)["adapters"][0] == {
        "layer": "blocks.0.pointwise1",
        "rank": 2,
        "alpha": 8.0,
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("rank=0", "rank: got '0'"),
        ("rank=999", "999"),
        ("alpha=0", "alpha: got '0'"),
        ("alpha=x", "alpha"),
        ("targets=linear", "targets: got 'linear'"),
        ("targets=pointwise1/nothing", "got 'nothing'"),
        ("targets=wise1", "got 'wise1'"),
        ("blocks=9", "blocks"),
        ("head=maybe", "head"),
    ],
)
def test_options_that_fit_nothing_are_refused(options, words):
    with pytest.raises(SpecError, match=words):
        _ = explorer.Session(model="digits-cnn", policy=f"lora:{options}").chosen_policy


@pytest.mark.parametrize(
    "change",
    [
        {"layer": "q", "rank": 2},
        {"layer": "q", "rank": 2, "alpha": 1.0, "more": 1},
        {"layer": "q", "rank": -2, "alpha": 1.0},
        3,
        "",
    ],
)
def test_a_bad_adapter_of_a_document_is_named(change):
    data = json.loads(explorer.Session(model="digits-cnn", policy="lora").export().to_json())
    data["adapters"] = [change]
    with pytest.raises(SpecError, match=r"x.json: adapters\.0"):
        parse_document(PolicyDocument, json.dumps(data), "x.json")


# others' transformer


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    pytest.importorskip("transformers")
    from tests.train.architectures import built

    module, batch = built("distilbert")
    path = tmp_path_factory.mktemp("traced") / "distilbert.json"
    trace(module, batch, "distilbert").save(path)
    return module, batch, path


def fresh(traced, policy):
    """The module, a batch, its session and what the policy exports."""
    module, batch, path = traced
    session = explorer.Session(model=str(path), device="gap9", policy=policy, batch=len(batch))
    return _copied(module), batch, session, session.export()


def _copied(module):
    import copy

    return copy.deepcopy(module).requires_grad_(True)


POLICIES = (
    "last-k-blocks:k=1",
    "last-k-blocks:k=2",
    "lora:rank=2,alpha=4,targets=q_lin/v_lin",
    "lora:rank=3,blocks=1,head=frozen",
    "full",
)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_transformer_does_what_its_document_says(traced, policy):
    module, batch, session, document = fresh(traced, policy)
    before = module(batch)[0].detach()
    apply_policy(module, document, graph=session.graph)
    torch.testing.assert_close(module(batch)[0], before)
    report = explorer.check_applied(module, document, batch, graph=session.graph)
    assert report.agrees, report.problems
    cost = session.cost()
    frame = report.to_frame()
    assert cost.trained_parameters == frame.found["trained_parameters"]
    for phase in ("forward", "input_grad", "weight_grad"):
        assert cost.macs[phase] == frame.found[f"{phase}_macs"]


def test_the_last_blocks_are_those_the_graph_names(traced):
    _, _, session, document = fresh(traced, "last-k-blocks:k=1")
    names = {choice.name for choice in document.layers}
    block = "distilbert.transformer.layer.1"
    inside = {name for name in session.graph.weighted if session.graph[name].block == block}
    assert names == inside | {"pre_classifier", "classifier"}
    assert len(inside) == 8
    specs = session.compare().labels
    assert {"lora", "last-k-blocks:k=1"} <= set(specs)


@pytest.mark.parametrize("policy", POLICIES[:4])
def test_a_transformer_learns_and_nothing_else_moves(traced, policy):
    module, batch, session, document = fresh(traced, policy)
    groups = apply_policy(module, document, graph=session.graph)
    free = {name for name, one in module.named_parameters() if one.requires_grad}
    before = {name: value.clone() for name, value in module.state_dict().items()}
    optimizer = torch.optim.Adam(trained_parameters(groups), 0.01)
    labels = torch.tensor([0, 1])
    losses = []
    for _ in range(20):
        loss = nn.functional.cross_entropy(module(batch)[0], labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    moved = {name for name, value in module.state_dict().items() if not value.equal(before[name])}
    assert moved <= free
    if document.adapters:
        plain = _copied(traced[0])
        plain.load_state_dict(merged_state(module, document.adapters))
        with torch.no_grad():
            torch.testing.assert_close(plain(batch)[0], module(batch)[0], rtol=0, atol=1e-6)


def test_a_copy_of_an_adapted_module_has_adapters_of_its_own(traced):
    module, batch, session, document = fresh(traced, POLICIES[2])
    apply_policy(module, document, graph=session.graph)
    twin, before = _copied(module), module(batch)[0].detach()
    with torch.no_grad():
        for adapter in document.adapters:
            twin.get_parameter(f"{adapter.parts[1]}.weight").fill_(1.0)
        assert (twin(batch)[0] - before).abs().max() > 1e-3
        assert torch.equal(module(batch)[0], before)
    apply_policy(module, document, graph=session.graph)  # again: no second one
    assert torch.equal(module(batch)[0], before)
    other = replace(document.adapters[0], rank=3)
    with pytest.raises(SpecError, match=r"rank of .* got 3, allowed: 2, as it has"):
        attach(module, other)


@pytest.mark.parametrize("layer", ["0", "0.out_proj"])
def test_a_layer_that_is_never_called_is_refused(layer):
    module = nn.Sequential(nn.MultiheadAttention(4, 2))
    with pytest.raises(SpecError, match=r"MultiheadAttention|NonDynamically"):
        attach(module, LowRank(layer=layer, rank=1, alpha=1.0))


@pytest.mark.parametrize(
    ("layer", "fits"),
    [
        (nn.Conv1d(4, 6, 1, stride=2), True),
        (nn.Conv2d(4, 6, 1, padding=1), True),
        (nn.Conv1d(4, 6, 1, groups=2), False),
        (nn.Conv1d(4, 6, 3), False),
        (nn.LayerNorm(4), False),
    ],
)
def test_convolutions_of_kernel_one_can_have_one(layer, fits):
    module = nn.Sequential(layer)
    adapter = LowRank(layer="0", rank=2, alpha=1.0)
    if not fits:
        with pytest.raises(SpecError, match="a linear layer or an ungrouped convolution"):
            attach(module, adapter)
        return
    signal = torch.randn(2, 4, *[5] * (layer.weight.ndim - 2))
    before = module(signal)
    attach(module, adapter)
    assert torch.equal(module(signal), before)
    nn.init.normal_(module.get_parameter("0.adapter_up.weight"))
    plain = nn.Sequential(type(layer)(4, 6, 1, stride=layer.stride, padding=layer.padding))
    plain.load_state_dict(merged_state(module, (adapter,)))
    torch.testing.assert_close(plain(signal), module(signal), rtol=0, atol=1e-6)
