"""MACs of a training step against the operators torch really runs.

FlopCounterMode of torch 2.13 counts the weight gradient of a grouped convolution once for
each group too often; the mapping below counts it as the forward convolution it is.
"""

from collections import Counter
from math import prod

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from explorer import catalog
from explorer.accuracy.torch_bridge import build_module
from explorer.costmodel.evaluate import evaluate
from explorer.graph import INPUT, ModelGraph, normalised
from explorer.search.sources import model_graph
from tests.helpers import (
    BIOSIGNALS,
    Net,
    adapted_nets,
    batch_of,
    conv_chain,
    depthwise_net,
    device_for,
    parallel_branches,
    policy_of,
    random_policy,
    residual_net,
    two_consumers,
)

pytestmark = pytest.mark.train
aten = torch.ops.aten
BATCH = 5  # no size of a weight, by which the two gradients of a linear layer are told apart
FLOPS_PER_MAC = 2


class MacCounter(FlopCounterMode):
    """FlopCounterMode with grouped backward put right, and dX told from dW."""

    def __init__(self) -> None:
        self.phases = Counter()
        super().__init__(
            display=False,
            custom_mapping={
                aten.convolution: self._forward,
                aten.convolution_backward: self._backward,
                aten.addmm: self._addmm,
                aten.mm: self._mm,
            },
        )
        self.linear_weights: set[tuple[int, ...]] = set()

    def _forward(self, inputs, weight, *rest, out_shape, **options) -> int:
        return self._count("forward", _positions(out_shape) * prod(weight))

    def _backward(self, output, inputs, weight, *rest, out_shape, **options) -> int:
        wants_input, wants_weight = rest[-1][:2]
        macs = _positions(output) * prod(weight)
        return self._count("input_grad", wants_input * macs) + self._count(
            "weight_grad", wants_weight * macs
        )

    def _addmm(self, bias, left, right, *rest, out_shape, **options) -> int:
        return self._count("forward", left[0] * left[1] * right[1])

    def _mm(self, left, right, *rest, out_shape, **options) -> int:
        """A linear layer without bias, or either gradient: told apart by their shapes."""
        if torch._C._current_graph_task_id() < 0:  # not inside backward
            phase = "forward"
        else:
            phase = "weight_grad" if tuple(out_shape) in self.linear_weights else "input_grad"
        return self._count(phase, left[0] * left[1] * right[1])

    def _count(self, phase: str, macs: int) -> int:
        self.phases[phase] += macs
        return FLOPS_PER_MAC * macs


def _positions(shape) -> int:
    """Samples x output positions: how often each weight is used."""
    return shape[0] * prod(shape[2:])


def measure(graph: ModelGraph, policy) -> tuple[dict[str, int], int]:
    """MACs of one sample by phase, and FlopCounterMode's own total in MACs."""
    module = build_module(graph).requires_grad_(False)
    for index, name in enumerate(graph.weighted):
        layer = module.get_submodule(name)
        layer.weight.requires_grad_(policy.slices[index] > 0)
        norm = graph.norm_of(name)
        if layer.bias is not None:
            layer.bias.requires_grad_(policy.update_bias[index])
        elif norm is not None:
            module.get_submodule(norm).bias.requires_grad_(policy.update_bias[index])
        if norm is not None:
            module.get_submodule(norm).weight.requires_grad_(policy.update_norm[index])
    images = torch.zeros(BATCH, *graph.input_shape)
    with MacCounter() as counter:
        counter.linear_weights = {
            tuple(parameter.shape) for parameter in module.parameters() if parameter.ndim == 2
        }
        output = module(images)
        if output.requires_grad:
            output.sum().backward()
    counted = {phase: counter.phases[phase] for phase in ("forward", "input_grad", "weight_grad")}
    assert all(macs % BATCH == 0 for macs in counted.values())
    per_sample = {phase: macs // BATCH for phase, macs in counted.items()}
    return per_sample, counter.get_total_flops() // FLOPS_PER_MAC // BATCH


def predicted(graph: ModelGraph, policy) -> dict[str, float]:
    costs = evaluate(graph, device_for("fp32"), batch_of(graph, policy))
    return {
        phase: float(getattr(costs, f"{phase}_macs")[0])
        for phase in ("forward", "input_grad", "weight_grad")
    }


def network(name: str, norm: str) -> ModelGraph:
    return normalised(catalog.load("model", name).build(), norm)


# 108 policies in all
CASES = [
    (conv_chain(), 12),
    *((graph, 6) for graph in adapted_nets("gn", "none")),
    (depthwise_net("gn"), 8),
    (depthwise_net("bn"), 6),
    (residual_net("frozen-bn"), 8),
    (two_consumers("none"), 8),
    (parallel_branches("gn"), 8),
    (network("digits-cnn", "gn"), 8),
    *((model_graph(spec), 8) for spec in BIOSIGNALS),
    (network("mcunet-5fps", "none"), 12),
    (network("mbv2-w0.35-tinytrain", "bn"), 12),
]


@pytest.mark.parametrize(("graph", "count"), CASES, ids=lambda case: getattr(case, "name", ""))
def test_macs_equal_what_torch_runs(graph, count):
    rng = np.random.default_rng(count)
    policies = [random_policy(graph, rng, whole_layers=True) for _ in range(count - 2)]
    policies += [policy_of(graph, 1.0, bias=True, norm=True), policy_of(graph, bias=True)]
    for policy in policies:
        counted, total = measure(graph, policy)
        assert predicted(graph, policy) == counted
        assert sum(counted.values()) == total


def test_the_counter_as_it_comes_overcounts_depthwise_weight_gradients():
    """Why the mapping is here: when this fails, torch has put it right."""
    convolution = torch.nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
    with FlopCounterMode(display=False) as counter:
        convolution(torch.zeros(1, 16, 8, 8)).sum().backward()
    forward = FLOPS_PER_MAC * 16 * 9 * 64
    assert counter.get_total_flops() == forward + 16 * forward


@pytest.mark.parametrize("axis", ["out", "in"])
@pytest.mark.parametrize("slices", [1, 3, 6])
def test_a_share_of_the_slices_takes_that_share_of_the_weight_gradient(axis, slices):
    """A convolution split into a trained and a frozen part, each with its own weight."""
    net = Net(6, 5, 5)
    net.conv(INPUT, "layer", 6, kernel=3, bias=False)
    graph = net.graph()
    images = torch.zeros(BATCH, 6, 5, 5)
    trained = torch.zeros(slices, 6, 3, 3) if axis == "out" else torch.zeros(6, slices, 3, 3)
    rest = 6 - slices
    frozen = torch.zeros(rest, 6, 3, 3) if axis == "out" else torch.zeros(6, rest, 3, 3)
    trained.requires_grad_()
    with MacCounter() as counter:
        halves = [images[:, :slices], images[:, slices:]]
        parts = [images, images] if axis == "out" else halves
        outputs = [
            torch.nn.functional.conv2d(part, weight, padding=1)
            for part, weight in zip(parts, (trained, frozen), strict=True)
            if weight.numel()
        ]
        sum(output.sum() for output in outputs).backward()
    policy = policy_of(graph, slices / 6, axis=axis)
    expected = {phase: macs * BATCH for phase, macs in predicted(graph, policy).items()}
    assert {phase: counter.phases[phase] for phase in expected} == expected
    assert expected["weight_grad"] * 6 == expected["forward"] * slices
