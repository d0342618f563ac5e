"""The `torch-eager` accounting equals what saved-tensor hooks see on plain modules."""

import numpy as np
import pytest
import torch

from explorer.accuracy.slices import layer_weights
from explorer.accuracy.torch_bridge import build_module
from explorer.costmodel.eager import eager_saved_bytes
from explorer.design import DesignBatch, LayerAxes, TrainingSetup, UpdatePolicy
from explorer.errors import UnsupportedOpError
from explorer.graph import normalised
from explorer.session import Session
from tests.helpers import BIOSIGNALS, adapted_nets, batch_of, policy_of
from tests.operator_nets import recurrent_net, wide_graphs

pytestmark = pytest.mark.train


def hooked_bytes(module, batch):
    own = {
        tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())
    }
    seen = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
            keep.append(tensor)
        return tensor

    keep = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(batch)
    return sum(seen.values())


def train_only(module, graph, policy):
    module.requires_grad_(False)
    for index, name in enumerate(policy.layer_names):
        layer = layer_weights(module, name)
        for weight in layer.tensors:
            weight.requires_grad_(policy.slices[index] > 0)
        norm = graph.norm_of(name)
        offset = layer if layer.bias is not None else norm and module.get_submodule(norm)
        if offset:
            offset.bias.requires_grad_(policy.update_bias[index])
        if norm:
            module.get_submodule(norm).weight.requires_grad_(policy.update_norm[index])


def random_policies(axes, count, seed):
    rng = np.random.default_rng(seed)
    layer_count = len(axes.names)
    for _ in range(count):
        inside = np.arange(layer_count) >= rng.integers(0, layer_count + 1)
        density = rng.random()
        taken = inside & (rng.random(layer_count) < density)
        yield UpdatePolicy.of(
            "random",
            axes,
            slices=np.where(taken, axes.out_channels, 0),
            update_bias=inside & (rng.random(layer_count) < density),
            update_norm=inside & (rng.random(layer_count) < density),
        )


@pytest.mark.parametrize("norm", [None, "bn", "frozen-bn", "none"])
@pytest.mark.parametrize(
    "model", ["digits-cnn", "mcunet-5fps:classes=5", *BIOSIGNALS, "epidenet:pool=max"]
)
def test_saved_bytes_equal_the_hooks(model, norm):
    assert_equal_hooks(normalised(Session(model=model, policy="none").graph, norm))


@pytest.mark.parametrize("graph", adapted_nets(), ids=lambda graph: graph.name)
def test_saved_bytes_of_adapters_equal_the_hooks(graph):
    assert_equal_hooks(graph)


@pytest.mark.parametrize("graph", wide_graphs()[:7], ids=lambda graph: graph.name)
def test_saved_bytes_of_other_operators_equal_the_hooks(graph):
    assert_equal_hooks(graph)


def test_bytes_of_recurrent_layers_are_not_guessed():
    graph = recurrent_net("gru")
    designs = batch_of(graph, policy_of(graph, 1.0))
    with pytest.raises(UnsupportedOpError, match="gru"):
        eager_saved_bytes(graph, designs)


def assert_equal_hooks(graph):
    axes = LayerAxes.of(graph)
    setup = TrainingSetup(micro_batch=2)
    module = build_module(graph).to(memory_format=torch.contiguous_format).train()
    batch = torch.randn(2, *graph.input_shape)
    if graph.index_count:
        batch = torch.randint(2, (2, *graph.input_shape))
    for policy in random_policies(axes, 12, seed=3):
        train_only(module, graph, policy)
        predicted = eager_saved_bytes(graph, DesignBatch.of(axes, [policy], setup))[0]
        assert predicted == hooked_bytes(module, batch)


def test_eager_keeps_several_times_what_a_sparse_policy_needs():
    session = Session(model="mcunet-5fps", policy="sparse-update:scheme=99kb", batch=8)
    needed = session.cost().memory["saved_activation_bytes"]
    eager = Session(
        model="mcunet-5fps", policy="sparse-update:scheme=99kb", batch=8, accounting="torch-eager"
    ).cost()
    assert eager.memory["saved_activation_bytes"] > 3 * needed
    assert eager.memory["peak_live_bytes"] > session.cost().memory["saved_activation_bytes"]
