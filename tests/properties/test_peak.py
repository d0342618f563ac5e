"""Memory to the byte: the linear cost model against a simulator that runs the step."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer import catalog
from explorer.adapters import policy_with_adapters
from explorer.costmodel.evaluate import evaluate, live_profile
from explorer.design import TrainingSetup
from explorer.graph import INPUT, ModelGraph, normalised
from tests.helpers import (
    NORM_CHOICES,
    Net,
    adapted_nets,
    batch_of,
    block_net,
    device_for,
    policy_of,
    random_graph,
    random_policies,
    random_policy,
    setups,
    small_graphs,
    with_blocks,
    with_some_adapters,
)
from tests.properties.event_simulator import simulate

NETWORKS = ("digits-cnn", "mcunet-5fps", "mbv2-w0.35-tinytrain")


def assert_equal_bytes(
    graph: ModelGraph, policy, setup: TrainingSetup, *, flash=True, tiny_engine=False
) -> None:
    workspace = "tiny-engine" if tiny_engine else "none"
    device = device_for(setup.precision, weights_in_flash=flash, workspace=workspace)
    designs = batch_of(graph, policy, setup=setup)
    costs = evaluate(graph, device, designs)
    oracle = simulate(
        *policy_with_adapters(graph, policy),
        setup,
        weights_in_flash=flash,
        tiny_engine=tiny_engine,
    )
    assert costs.recompute_macs.tolist() == [oracle.repeated_macs]
    assert costs.workspace_bytes.tolist() == [oracle.scratch_bytes]
    assert costs.peak_live_bytes.tolist() == [oracle.peak_bytes]
    assert costs.saved_activation_bytes.tolist() == [oracle.saved_bytes]
    assert costs.training_extra_bytes.tolist() == [oracle.extra_bytes]
    profile, labels = live_profile(graph, device, designs)
    differing = {
        label: (mine, theirs)
        for label, mine, theirs in zip(labels, profile[0], oracle.live_bytes, strict=True)
        if mine != theirs
    }
    assert differing == {}


@pytest.mark.parametrize("norm", NORM_CHOICES)
@pytest.mark.parametrize("name", NETWORKS)
@given(data=st.data(), setup=setups, flash=st.booleans(), tiny_engine=st.booleans())
@settings(max_examples=40, derandomize=True, deadline=None)
def test_networks(name, norm, data, setup, flash, tiny_engine):
    graph = normalised(catalog.load("model", name).build(), norm)
    policy = data.draw(random_policies(graph))
    assert_equal_bytes(graph, policy, setup, flash=flash, tiny_engine=tiny_engine)


@pytest.mark.parametrize("graph", small_graphs(), ids=lambda graph: graph.name)
@given(data=st.data(), setup=setups, flash=st.booleans(), tiny_engine=st.booleans())
@settings(max_examples=25, derandomize=True, deadline=None)
def test_small_graphs(graph, data, setup, flash, tiny_engine):
    policy = data.draw(random_policies(graph))
    seed = data.draw(st.integers(0, 2**32 - 1))
    graph = with_blocks(graph, np.random.default_rng(seed))
    assert_equal_bytes(graph, policy, setup, flash=flash, tiny_engine=tiny_engine)


@pytest.mark.parametrize("graph", small_graphs(), ids=lambda graph: graph.name)
def test_depths_from_one_layer_to_all(graph):
    position = np.arange(len(graph.weighted))
    for first in position:
        late = position >= first
        for share in (1.0, 0.25):
            assert_equal_bytes(graph, policy_of(graph, late * share), TrainingSetup())
        bias_only = policy_of(graph, bias=late, norm=late)
        assert_equal_bytes(graph, bias_only, TrainingSetup(micro_batch=3))


def test_a_tensor_read_behind_its_own_sum_has_a_gradient_of_its_own():
    """When dX of `late` is taken, the gradients of `stem`, `sum` and `out` are all alive."""
    net = Net(1, 4, 4)
    stem = net.conv(INPUT, "stem", 8)
    total = net.add("sum", stem, net.conv(stem, "branch", 8))
    late = net.conv(stem, "late", 8)
    net.pool(net.conv(net.add("out", total, late), "end", 8))
    graph = net.graph()
    assert_equal_bytes(graph, policy_of(graph, 1.0), TrainingSetup(micro_batch=4))


def test_random_graphs():
    for seed in range(300):
        rng = np.random.default_rng(seed)
        graph = random_graph(rng)
        setup = TrainingSetup(micro_batch=int(rng.integers(1, 5)))
        for _ in range(3):
            assert_equal_bytes(graph, random_policy(graph, rng), setup, tiny_engine=seed % 2 == 0)


def test_random_graphs_in_random_blocks():
    """Many of these blocks cannot run again; those that can are exact too."""
    ran = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        graph = with_blocks(random_graph(rng), rng)
        setup = TrainingSetup(micro_batch=int(rng.integers(1, 5)), recompute="blocks")
        for _ in range(3):
            policy = random_policy(graph, rng)
            assert_equal_bytes(graph, policy, setup, tiny_engine=seed % 2 == 0)
            ran += (
                evaluate(
                    graph, device_for("fp32"), batch_of(graph, policy, setup=setup)
                ).recompute_macs[0]
                > 0
            )
    assert ran > 100


@pytest.mark.parametrize("graph", adapted_nets(), ids=lambda graph: graph.name)
@given(data=st.data(), setup=setups, flash=st.booleans())
@settings(max_examples=15, derandomize=True, deadline=None)
def test_any_layer_of_a_network_with_adapters(graph, data, setup, flash):
    assert_equal_bytes(graph, data.draw(random_policies(graph)), setup, flash=flash)


@pytest.mark.parametrize("name", [*NETWORKS, "blocks"])
@given(seed=st.integers(0, 2**32 - 1), setup=setups, flash=st.booleans())
@settings(max_examples=25, derandomize=True, deadline=None)
def test_policies_with_adapters(name, seed, setup, flash):
    rng = np.random.default_rng(seed)
    norm = str(rng.choice(NORM_CHOICES))
    made = block_net(norm) if name == "blocks" else catalog.load("model", name).build()
    graph = normalised(made, norm)
    policy = with_some_adapters(graph, random_policy(graph, rng), rng)
    assert_equal_bytes(graph, policy, setup, flash=flash)
