"""MACs of the wider vocabulary against the operators torch really runs."""

from math import prod

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from explorer.accuracy.torch_bridge import build_module
from explorer.costmodel.evaluate import evaluate
from tests.helpers import batch_of, device_for, policy_of, random_policy
from tests.operator_nets import wide_graphs
from tests.train.test_eager import train_only

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore:TF32 acceleration")]
aten = torch.ops.aten
BATCH = 2
FLOPS_PER_MAC = 2


def grouped_backward(output, inputs, weight, *rest, out_shape, **options):
    """FlopCounterMode of torch 2.13 counts the weight gradient of every group for all groups."""
    transposed, wants_input, wants_weight = rest[4], *rest[-1][:2]
    positions = prod((inputs if transposed else output)[2:])
    return FLOPS_PER_MAC * (wants_input + wants_weight) * output[0] * positions * prod(weight)


def attention_backward(gradient, query, key, value, *rest, out_shape, **options):
    """Two products for each of the two of the forward pass; torch recounts the scores."""
    return FLOPS_PER_MAC * 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def attention_forward(query, key, value, *rest, out_shape, **options):
    return FLOPS_PER_MAC * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


MAPPING = {
    aten.convolution_backward: grouped_backward,
    aten._scaled_dot_product_flash_attention_for_cpu: attention_forward,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
}


def counted_macs(module, batch):
    """MACs of one sample, forward and backward."""
    with (
        torch.backends.mkldnn.flags(enabled=False),  # one operator for a whole recurrent layer
        FlopCounterMode(display=False, custom_mapping=MAPPING) as counter,
    ):
        output = module(batch)
        if output.requires_grad:
            output.sum().backward()
    return counter.get_total_flops() / FLOPS_PER_MAC / len(batch)


@pytest.mark.parametrize("graph", wide_graphs(), ids=lambda graph: graph.name)
def test_macs_equal_what_torch_runs(graph):
    module = build_module(graph).to(memory_format=torch.contiguous_format).train()
    batch = torch.randn(BATCH, *graph.input_shape)
    if graph.index_count:
        batch = torch.randint(2, (BATCH, *graph.input_shape))
    rng = np.random.default_rng(0)
    policies = [random_policy(graph, rng, whole_layers=True) for _ in range(6)]
    for policy in [*policies, policy_of(graph, 1.0, bias=True), policy_of(graph, bias=True)]:
        train_only(module, graph, policy)
        costs = evaluate(graph, device_for("fp32"), batch_of(graph, policy))
        macs = costs.forward_macs + costs.input_grad_macs + costs.weight_grad_macs
        assert macs.tolist() == [counted_macs(module, batch)]
