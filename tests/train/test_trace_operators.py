"""Each operator of torch, traced: outputs, parameters, MACs and saved bytes are torch's own."""

import numpy as np
import pytest
import torch
from torch import nn

from explorer.accuracy.apply import apply_choices
from explorer.accuracy.tracing import trace
from explorer.costmodel.eager import UNKNOWN, eager_saved_bytes
from explorer.costmodel.evaluate import evaluate
from explorer.design import TrainingSetup
from explorer.document import choices_of
from explorer.errors import UnsupportedOpError
from tests.helpers import batch_of, device_for, policy_of, random_policy
from tests.train.small_nets import NETS, Between, States
from tests.train.test_eager import hooked_bytes
from tests.train.test_wide_macs import counted_macs

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("name", NETS)
def test_an_operator_is_what_torch_runs(name):
    make, shape = NETS[name]
    torch.manual_seed(0)
    module, batch = make().eval(), torch.randn(3, *shape)
    made = trace(module, batch)
    graph = made.graph
    with torch.no_grad():
        torch.testing.assert_close(made.module(batch), module(batch))
    assert graph.parameter_count == sum(one.numel() for one in module.parameters())
    for part in module.modules():
        part.train(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d))
    rng = np.random.default_rng(0)
    some = [random_policy(graph, rng, whole_layers=True) for _ in range(2)]
    for policy in [policy_of(graph, 1.0, bias=True, norm=True), policy_of(graph, bias=True), *some]:
        apply_choices(module, choices_of(policy), graph=graph)
        designs = batch_of(graph, policy, setup=TrainingSetup(micro_batch=len(batch)))
        costs = evaluate(graph, device_for("fp32"), designs)
        macs = costs.forward_macs + costs.input_grad_macs + costs.weight_grad_macs
        assert macs.tolist() == [counted_macs(module, batch)]
        if not {layer.op for layer in graph.layers} & UNKNOWN:
            assert eager_saved_bytes(graph, designs).tolist() == [hooked_bytes(module, batch)]


@pytest.mark.parametrize(
    ("operator", "words"),
    [
        (nn.Hardshrink(), "hardshrink in op"),
        (nn.AdaptiveAvgPool2d(3), "adaptive_avg_pool2d in op"),
        (nn.Upsample(scale_factor=2, mode="bicubic"), "upsample_bicubic2d in op"),
        (nn.Upsample(scale_factor=1.25, mode="bilinear"), "upsample_bilinear2d in op"),
        (nn.InstanceNorm2d(8, track_running_stats=True), "instance_norm in op"),
        (lambda images: images.clamp(max=1), "clamp in the module itself"),
        (lambda images: images.maximum(images.flip(2)), "flip in the module itself; maximum"),
    ],
)
def test_forms_without_counterpart_are_named(operator, words):
    with pytest.raises(UnsupportedOpError, match=words):
        trace(Between(nn.Conv2d(3, 8, 3), operator), (3, 12, 12))


@pytest.mark.parametrize(
    ("cells", "channels", "words"),
    [
        (States(nn.LSTM, "all", proj_size=3), 3, "lstm in op.cells"),
        (States(nn.GRU, "whole", num_layers=2), 5, "output 1 of gru in op.cells"),
        (States(nn.RNN, "all"), 5, "rnn_tanh in op.cells"),
    ],
)
def test_recurrent_forms_without_counterpart_are_named(cells, channels, words):
    with pytest.raises(UnsupportedOpError, match=words):
        trace(Between(nn.Linear(8, 8), cells, channels, axis=-1), (6, 8))
