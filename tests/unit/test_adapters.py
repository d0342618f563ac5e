"""Lite-residual adapters: where they go, what they are, and policies that use them."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from explorer import catalog
from explorer.adapters import (
    adapted,
    adapter_blocks,
    policy_with_adapters,
    trained_parts,
    with_adapters,
)
from explorer.costmodel.conventions import CONVENTIONS, recount
from explorer.costmodel.evaluate import arena_plan, evaluate, live_profile
from explorer.costmodel.memory_map import memory_map
from explorer.costmodel.report import CostReport
from explorer.design import LayerAxes, UpdatePolicy
from explorer.document import PolicyDocument, parse_document
from explorer.errors import SpecError
from explorer.export import policy_of_candidate
from explorer.graph import LayerSpec, ModelGraph, normalised
from explorer.search.judge import design_keys
from explorer.session import Session
from tests.helpers import (
    SOURCE,
    batch_of,
    block_net,
    device_for,
    policy_of,
    random_policy,
    with_some_adapters,
)

MCUNET = catalog.load("model", "mcunet-5fps").build()
GAP9 = device_for("fp32")


def test_every_block_but_the_first_with_one_image_in_and_one_out():
    assert adapter_blocks(MCUNET) == tuple(f"blocks.{block}" for block in range(1, 14))
    assert adapter_blocks(block_net()) == ("b1", "b2", "b3", "b4", "b6", "b7")


def test_an_adapter_as_the_paper_draws_it():
    """mcunet-5fps, block 1: 8 x 64 x 64 in, 16 x 32 x 32 out, stride 2."""
    (block,) = blocks = ("blocks.1",)
    graph = adapted(MCUNET, blocks)
    names = [
        layer.name for layer in graph.layers if layer.role == "adapter" or "_adapter" in layer.name
    ]
    first, first_norm, second, second_norm = trained_parts(block)
    relu = f"{first}_relu"
    parts = [f"{block}_adapter_{part}" for part in ("pool", "upsample", "add")]
    assert names == [parts[0], first, first_norm, relu, second, second_norm, *parts[1:]]
    assert [graph[name].out_shape for name in names] == [
        (8, 32, 32),
        *[(8, 16, 16)] * 3,
        *[(16, 16, 16)] * 2,
        *[(16, 32, 32)] * 2,
    ]
    conv = graph[first]
    assert (conv.kernel, conv.padding, conv.groups, conv.stride) == ((5, 5), (2, 2), 2, 2)
    assert graph[parts[0]].inputs == graph["blocks.1.pointwise1"].inputs
    assert graph[parts[2]].inputs == ("blocks.1.pointwise2", parts[1])
    assert graph["blocks.2.pointwise1"].inputs == (parts[2],)
    costs = {
        name: evaluate(network, GAP9, batch_of(network, policy_of(network))).forward_macs[0]
        for name, network in (("with", graph), ("without", MCUNET))
    }
    assert costs["with"] - costs["without"] == 16 * 16 * (8 * 4 * 25 + 8 * 16)
    weights = 8 * 4 * 25 + 8 * 16
    assert graph.parameter_count - MCUNET.parameter_count == weights + 2 * (8 + 16)


def test_what_read_a_block_reads_its_sum_and_the_block_itself_does_not():
    graph = block_net()
    wide = adapted(graph, ("b2", "b3"))
    assert wide["b2_adapter_pool"].inputs == ("b1_project",)
    assert wide["b2_add"].inputs == ("b1_project", "b2_dense_act")
    assert wide["b3_dense"].inputs == wide["b3_adapter_pool"].inputs == ("b2_adapter_add",)
    assert wide["b3_add"].inputs == ("b2_adapter_add", "b3_dense")
    assert wide["b3_adapter_add"].inputs == ("b3_act", "b3_adapter_upsample")
    assert wide["b4_depth"].inputs == ("b3_adapter_add",)
    assert [name for name in wide.weighted if "adapter" not in name] == list(graph.weighted)


def test_odd_sides_are_floored_and_sides_of_one_are_not_pooled():
    wide = adapted(block_net(), adapter_blocks(block_net()))
    shapes = {part: wide[f"b4_adapter_{part}"].out_shape for part in ("pool", "conv", "upsample")}
    assert shapes == {"pool": (5, 2, 1), "conv": (5, 1, 1), "upsample": (8, 2, 1)}
    assert wide["b4_adapter_conv"].groups == 1
    assert wide["b7_adapter_pool"].kernel == (1, 1)
    assert wide["b6_adapter_pool"].kernel == (2, 1)


@pytest.mark.parametrize(
    ("norm", "op"),
    [("bn", "batchnorm"), ("gn", "groupnorm"), ("frozen-bn", "groupnorm"), ("none", "groupnorm")],
)
def test_the_norm_is_the_networks_own_or_group_norm(norm, op):
    graph = adapted(normalised(MCUNET, norm), ("blocks.3",))
    assert {graph[name].op for name in trained_parts("blocks.3")[1::2]} == {op}


def test_blocks_that_cannot_have_one_are_refused():
    with pytest.raises(SpecError, match=r"'blocks\.0', allowed: blocks\.1, "):
        adapted(MCUNET, ("blocks.0",))
    layers = (LayerSpec(name="only", op="conv2d", out_shape=(2, 4, 4)),)
    bare = ModelGraph("bare", (2, 4, 4), layers, SOURCE)
    with pytest.raises(SpecError, match="no block here"):
        adapted(bare, ("b",))
    with pytest.raises(SpecError, match="each once"):
        replace(policy_of(MCUNET), adapters=("blocks.1", "blocks.1"))
    rows = [policy_of(MCUNET), replace(policy_of(MCUNET), adapters=("blocks.1",))]
    with pytest.raises(SpecError, match="the same ones in every row"):
        with_adapters(MCUNET, batch_of(MCUNET, *rows))


def test_a_policy_keeps_its_choice_and_trains_adapters_wholly():
    axes = LayerAxes.of(MCUNET)
    index = axes.index("blocks.9.pointwise1")
    taken = [0] * len(axes.names)
    taken[index] = 2
    policy = UpdatePolicy.of(
        "test", axes, slices=taken, update_bias=np.zeros(len(taken), bool), channel_axis="in"
    )
    listed = tuple((5, 7) if at == index else () for at in range(len(taken)))
    policy = replace(policy, channels=listed, adapters=("blocks.4",))
    graph, wide = policy_with_adapters(MCUNET, policy)
    rows = {
        name: row
        for name, *row in zip(
            wide.layer_names,
            wide.slices,
            wide.channels,
            wide.update_bias,
            wide.update_norm,
            strict=True,
        )
    }
    everything = tuple(range(24))
    assert rows.pop("blocks.4_adapter_conv") == [24, everything, True, True]
    assert rows.pop("blocks.4_adapter_pointwise") == [24, everything, True, True]
    assert rows.pop("blocks.9.pointwise1") == [2, (5, 7), False, False]
    assert set(map(tuple, rows.values())) == {(0, (), False, False)}
    assert wide.layer_names == graph.weighted
    assert policy_with_adapters(graph, wide) == (graph, wide)


@pytest.mark.parametrize("name", ["mcunet-5fps", "blocks"])
def test_a_mixed_batch_equals_batches_of_one(name):
    graph = MCUNET if name == "mcunet-5fps" else block_net("gn")
    rng = np.random.default_rng(5)
    policies = [random_policy(graph, rng) for _ in range(12)]
    policies = [with_some_adapters(graph, p, rng) if i % 3 else p for i, p in enumerate(policies)]
    designs = batch_of(graph, *policies)
    costs = evaluate(graph, GAP9, designs)
    for row, policy in enumerate(policies):
        network, wide = policy_with_adapters(graph, policy)
        alone = evaluate(network, GAP9, batch_of(network, wide))
        for column in CostReport.columns():
            assert np.allclose(
                getattr(costs, column)[row], getattr(alone, column)[0], equal_nan=True, rtol=1e-12
            ), column
        for accounting in CONVENTIONS:
            mixed = recount(graph, costs, accounting)
            single = recount(network, alone, accounting)
            assert mixed.peak_live_bytes[row] == single.peak_live_bytes[0]


@pytest.mark.parametrize("accounting", ["device", "tinytrain", "tiny-training", "torch-eager"])
@pytest.mark.parametrize("model", ["mcunet-5fps", "digits-cnn"])
def test_dropping_adapters_runs_from_tinytl_to_biases_alone(model, accounting):
    session = Session(model=model, policy="none", accounting=accounting, batch=4)

    def columns(policy):
        cost = session.with_policy(policy).cost()
        numbers = [*cost.macs.values(), *cost.memory.values(), cost.step_time_s]
        return np.array([*numbers, cost.step_energy_j, cost.trained_parameters], float)

    shares = [columns(f"adapter-drop:share={share}") for share in (0, 0.25, 0.5, 0.75, 1)]
    assert np.array_equal(shares[0], columns("tinytl"), equal_nan=True)
    assert np.array_equal(shares[-1], columns("bias-only:last=all"), equal_nan=True)
    if accounting != "tinytrain":  # there the bytes of inference count with biases alone only
        for more, fewer in pairwise(shares):
            assert np.all((more >= fewer) | np.isnan(more))


def test_the_report_has_the_adapters_rows_and_its_sums_are_the_totals():
    session = Session(model="mcunet-5fps", policy="tinytl:blocks=2", batch=2)
    cost = session.cost()
    rows = {row["name"]: row for row in cost.layer_rows}
    assert rows["blocks.13_adapter_conv"]["trained_ratio"] == 1.0
    assert "blocks.11_adapter_conv" not in rows
    for phase in ("forward", "input_grad", "weight_grad"):
        assert sum(row[f"{phase}_macs"] for row in rows.values()) == cost.macs[phase]
    assert sum(row["time_s"] for row in rows.values()) == pytest.approx(cost.step_time_s)
    assert cost.setup["norm"] == "none"
    biases = Session(model="mcunet-5fps", policy="bias-only:last=all").cost().trained_parameters
    blocks = adapter_blocks(session.graph)[-2:]
    grown = adapted(session.graph, blocks).parameter_count - session.graph.parameter_count
    assert cost.trained_parameters == biases + grown


def test_memory_is_placed_on_the_network_with_adapters():
    session = Session(model="digits-cnn", policy="tinytl", batch=2)
    designs = batch_of(session.graph, session.chosen_policy)
    seen = memory_map(session.graph, GAP9, designs)
    assert seen.live_bytes.max() == evaluate(session.graph, GAP9, designs).peak_live_bytes[0]
    assert seen.arena_bytes == arena_plan(session.graph, GAP9, designs)[1]
    assert any("adapter_conv" in buffer.label for buffer, _ in seen.placed)
    profile, labels = live_profile(session.graph, GAP9, designs)
    assert profile.shape == (1, len(labels))
    assert "blocks.1_adapter_pool forward" in labels


def test_a_design_with_adapters_is_another_design():
    session = Session(model="digits-cnn", policy="none")
    policies = [session.with_policy(p).chosen_policy for p in ("bias-only:last=all", "tinytl")]
    assert len(set(design_keys(batch_of(session.graph, *policies)))) == 2


def test_a_search_carries_adapters_to_the_exported_policy():
    session = Session(model="digits-cnn", policy="none")
    front = session.search(25, seed=1)
    (row,) = [at for at, label in enumerate(front.table.labels) if label == "tinytl"]
    assert front.table.designs.adapters[row] == ("blocks.1", "blocks.2")
    exported = session.export(front.table, row)
    written = session.front_document(front)
    again = policy_of_candidate(written, written.candidates[row], session.graph, session.scores)
    assert exported.adapters == again.adapters == ("blocks.1", "blocks.2")
    assert exported.policy(session.graph) == front.table.designs.policy(row)
    names = {row["name"] for row in session.candidate_cost(front.table, row).layer_rows}
    assert "blocks.2_adapter_add" in names


def test_old_documents_have_no_adapters_and_unknown_blocks_are_one_sentence():
    session = Session(model="digits-cnn", policy="tinytl")
    data = json.loads(session.export().to_json())
    old = {key: value for key, value in data.items() if key != "adapters"}
    assert parse_document(PolicyDocument, json.dumps(old), "old").adapters == ()
    for blocks, problem in (
        (["blocks.7"], r"adapters: got 'blocks\.7', allowed: blocks\.1, blocks\.2"),
        (["blocks.1", "blocks.1"], "each block and layer only once"),
        ([""], r"adapters\.0"),
    ):
        text = json.dumps(data | {"adapters": blocks})
        with pytest.raises(SpecError, match=problem):
            parse_document(PolicyDocument, text, "new").policy(session.graph)


def test_known_policies_differ():
    for model, shares in (("mcunet-5fps", ("0.25", "0.5", "0.75")), ("digits-cnn", ("0.25",))):
        labels = Session(model=model, policy="none").compare().labels
        known = [label for label in labels if label.startswith("adapter-drop")]
        assert known == [f"adapter-drop:share={share}" for share in shares]
