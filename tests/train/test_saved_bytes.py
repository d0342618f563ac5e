"""Saved bytes against a torch network that keeps only what backward needs.

Plain torch modules keep too much to compare with (`reference` section 1: input and weight of
every convolution the gradient passes). Here every operator is an autograd function of its
own; what torch's hooks see is counted by the storage it holds, so a view of a whole tensor
does not pass for a slice. Its gradients must be those of the plain modules.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.nn.grad import conv2d_input, conv2d_weight

from explorer import catalog
from explorer.accuracy.torch_bridge import GraphModule, build_module
from explorer.costmodel.evaluate import evaluate
from explorer.design import TrainingSetup, UpdatePolicy
from explorer.graph import INPUT, LayerSpec, ModelGraph, normalised
from tests.helpers import (
    NORM_CHOICES,
    adapted_nets,
    batch_of,
    device_for,
    policy_of,
    random_policy,
    small_graphs,
)

pytestmark = pytest.mark.train
DIGITS = [
    normalised(catalog.load("model", "digits-cnn").build(), norm) for norm in ("gn", "bn", "none")
]
EPSILON = 1e-5


class Weighted(Function):
    """Convolution or linear layer; keeps the input channels its trained slices need."""

    @staticmethod
    def forward(ctx, inputs, kept, weight, bias, mask, layer):
        ctx.layer, ctx.weight, ctx.mask, ctx.shape = layer, weight.detach(), mask, inputs.shape
        if weight.requires_grad:
            ctx.save_for_backward(kept)
        if layer.op == "linear":
            return functional.linear(inputs, weight, bias)
        even = functional.pad(inputs, widened(layer))
        return functional.conv2d(even, weight, bias, layer.stride, groups=layer.groups)

    @staticmethod
    def backward(ctx, gradient):
        layer, weight = ctx.layer, ctx.weight
        linear = layer.op == "linear"
        how = {"stride": layer.stride, "groups": layer.groups}
        to_input = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            if linear:
                to_input = gradient @ weight
            else:
                around = functional.pad(torch.zeros(ctx.shape), widened(layer)).shape
                whole = conv2d_input(around, weight, gradient, **how)
                to_input = functional.pad(whole, [-end for end in widened(layer)])
        if ctx.needs_input_grad[2]:
            (kept,) = ctx.saved_tensors
            inputs = torch.zeros(ctx.shape)
            inputs[:, : kept.shape[1]] = kept
            if linear:
                to_weight = gradient.T @ inputs
            else:
                even = functional.pad(inputs, widened(layer))
                to_weight = conv2d_weight(even, weight.shape, gradient.contiguous(), **how)
            to_weight = to_weight * ctx.mask
        if ctx.needs_input_grad[3]:
            to_bias = gradient.sum([axis for axis in range(gradient.ndim) if axis != 1])
        return to_input, None, to_weight, to_bias, None, None


class Activation(Function):
    """ReLU or ReLU6; keeps one bit an element, whole bytes a sample."""

    @staticmethod
    def forward(ctx, inputs, highest):
        passes = (inputs > 0) & (inputs < highest)
        bits = np.packbits(passes.reshape(len(inputs), -1).numpy(), axis=1)
        ctx.save_for_backward(torch.from_numpy(bits))
        return inputs.clamp(0, highest)

    @staticmethod
    def backward(ctx, gradient):
        (bits,) = ctx.saved_tensors
        count = gradient[0].numel()
        passes = np.unpackbits(bits.numpy(), axis=1, count=count)
        return gradient * torch.from_numpy(passes).view(gradient.shape), None


class Norm(Function):
    """Batch or group norm in training mode; keeps normalised input and reciprocal deviations."""

    @staticmethod
    def forward(ctx, inputs, scale, offset, groups):
        ctx.groups, ctx.scale = groups, scale.detach()
        parts, axes = _parts(inputs, groups)
        variance = parts.var(dim=axes, keepdim=True, unbiased=False)
        reciprocal = (variance + EPSILON).rsqrt()
        normed = ((parts - parts.mean(dim=axes, keepdim=True)) * reciprocal).view(inputs.shape)
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            ctx.save_for_backward(normed, reciprocal)
        return normed * scale.view(-1, 1, 1) + offset.view(-1, 1, 1)

    @staticmethod
    def backward(ctx, gradient):
        to_input = to_scale = None
        to_offset = gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        if ctx.saved_tensors:
            normed, reciprocal = ctx.saved_tensors
            to_scale = (gradient * normed).sum((0, 2, 3))
            to_normed, axes = _parts(gradient * ctx.scale.view(-1, 1, 1), ctx.groups)
            parts, _ = _parts(normed, ctx.groups)
            mean = to_normed.mean(dim=axes, keepdim=True)
            along = parts * (to_normed * parts).mean(dim=axes, keepdim=True)
            to_input = (reciprocal * (to_normed - mean - along)).view(gradient.shape)
        return to_input, to_scale, to_offset, None


class FrozenNorm(Function):
    """Batch norm with fixed statistics; keeps nothing."""

    @staticmethod
    def forward(ctx, inputs, factor, offset, shift):
        ctx.factor = factor
        return inputs * factor.view(-1, 1, 1) + (offset + shift).view(-1, 1, 1)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factor.view(-1, 1, 1), None, gradient.sum((0, 2, 3)), None


class Pool(Function):
    """Average over windows; keeps nothing."""

    @staticmethod
    def forward(ctx, inputs, window):
        ctx.shape, ctx.window = inputs.shape, window
        return functional.avg_pool2d(inputs, window)

    @staticmethod
    def backward(ctx, gradient):
        height, width = ctx.window
        spread = gradient.repeat_interleave(height, 2).repeat_interleave(width, 3)
        to_input = torch.zeros(ctx.shape)
        to_input[:, :, : spread.shape[2], : spread.shape[3]] = spread / (height * width)
        return to_input, None


class Maximum(Function):
    """Largest of windows; keeps the place in its window, in as many bits as that needs."""

    @staticmethod
    def forward(ctx, inputs, window):
        ctx.shape, ctx.window = inputs.shape, window
        largest, place = _windows(inputs, window).max(dim=-1)
        bit_count = (window[0] * window[1] - 1).bit_length()
        bits = (place.reshape(len(inputs), -1, 1).numpy() >> np.arange(bit_count)) & 1
        ctx.save_for_backward(torch.from_numpy(np.packbits(bits.reshape(len(inputs), -1), axis=1)))
        return largest

    @staticmethod
    def backward(ctx, gradient):
        (kept,) = ctx.saved_tensors
        size = ctx.window[0] * ctx.window[1]
        bit_count = (size - 1).bit_length()
        bits = np.unpackbits(kept.numpy(), axis=1, count=gradient[0].numel() * bit_count)
        place = bits.reshape(*gradient.shape, bit_count) @ (1 << np.arange(bit_count))
        to_input = torch.zeros(ctx.shape)
        into = _windows(to_input, ctx.window)
        chosen = torch.nn.functional.one_hot(torch.from_numpy(place), size) * gradient[..., None]
        into += chosen.reshape(into.shape)
        return to_input, None


def _windows(tensor: Tensor, window: tuple[int, int]) -> Tensor:
    """Windows side by side on a last axis of their own, a view [N, C, H, W, K]."""
    height, width = window
    assert height == 1
    return tensor.unfold(3, width, width)


def widened(layer: LayerSpec) -> list[int]:
    """The padding as torch's pad takes it: width before and after, then height."""
    return [end for pad in reversed(layer.pads) for end in pad]


def _parts(tensor: Tensor, groups: int) -> tuple[Tensor, tuple[int, ...]]:
    """The tensor split into groups (0: batch norm), and the axes a statistic runs over."""
    if not groups:
        return tensor, (0, 2, 3)
    samples, channels, *sides = tensor.shape
    return tensor.reshape(samples, groups, channels // groups, *sides), (2, 3, 4)


@dataclass
class Frugal:
    """A graph run with the functions above on the parameters of its plain module."""

    module: GraphModule
    policy: UpdatePolicy

    def __post_init__(self) -> None:
        graph, policy = self.module.graph, self.policy
        self.module.requires_grad_(False)
        self.masks: dict[str, Tensor] = {}
        needs: dict[str, int] = {}
        for index, name in enumerate(graph.weighted):
            layer, norm = self.module.get_submodule(name), graph.norm_of(name)
            slices = policy.slices[index]
            self.masks[name] = trained_mask(graph, graph[name], slices, policy.channel_axis)
            layer.weight.requires_grad_(slices > 0)
            bias = layer.bias if layer.bias is not None else None
            if bias is None and norm is not None:
                bias = self.module.get_submodule(norm).bias
            if bias is not None:
                bias.requires_grad_(policy.update_bias[index])
            if norm is not None:
                self.module.get_submodule(norm).weight.requires_grad_(policy.update_norm[index])
            source = graph.producers(graph[name])[0]
            needed = channels_needed(graph, graph[name], slices, policy.channel_axis)
            needs[source] = max(needs.get(source, 0), needed)
        self.needs = needs

    def __call__(self, images: Tensor) -> Tensor:
        graph = self.module.graph
        live = {INPUT: images}
        kept: dict[str, Tensor] = {}
        for layer in graph.layers:
            sources = graph.producers(layer)
            if sources[0] in self.needs and sources[0] not in kept:
                # readers of one tensor share what is kept of it
                share = live[sources[0]].detach()[:, : self.needs[sources[0]]]
                kept[sources[0]] = share.contiguous()
            live[layer.name] = self._run(layer, [live[name] for name in sources], kept, sources[0])
        return live[graph.layers[-1].name]

    def _run(self, layer: LayerSpec, inputs, kept, source) -> Tensor:
        operator = self.module.get_submodule(layer.name)
        if layer.op in ("conv2d", "linear"):
            return Weighted.apply(
                inputs[0],
                kept[source],
                operator.weight,
                operator.bias,
                self.masks[layer.name],
                layer,
            )
        if layer.op in ("relu", "relu6"):
            return Activation.apply(inputs[0], 6.0 if layer.op == "relu6" else float("inf"))
        if layer.op in ("batchnorm", "groupnorm"):
            groups = layer.groups if layer.op == "groupnorm" else 0
            return Norm.apply(inputs[0], operator.weight, operator.bias, groups)
        if layer.op == "frozen_batchnorm":
            factor = operator.weight * (operator.running_var + EPSILON).rsqrt()
            shift = -operator.running_mean * factor
            return FrozenNorm.apply(inputs[0], factor, operator.bias, shift)
        if layer.op == "scale":
            return inputs[0] * layer.args[0] + layer.args[1]
        if layer.op == "add":
            return sum(inputs[1:], inputs[0])
        if layer.op == "avgpool":
            return Pool.apply(inputs[0], layer.kernel)
        if layer.op == "window_max":
            return Maximum.apply(inputs[0], layer.kernel)
        if layer.op == "reshape":
            return inputs[0].reshape(-1, *layer.out_shape)
        if layer.op == "upsample":
            return functional.interpolate(inputs[0], layer.out_shape[1:], mode="bilinear")
        assert layer.op == "global_avgpool"
        return inputs[0].mean((2, 3))


def trained_mask(graph: ModelGraph, layer: LayerSpec, slices: int, axis: str) -> Tensor:
    """1 for every weight of the first slices along an axis."""
    inside = graph.in_channels(layer) // layer.groups
    kernel = layer.kernel if layer.op == "conv2d" else ()
    mask = torch.zeros(layer.out_shape[0], inside, *kernel)
    if axis == "out":
        mask[:slices] = 1
        return mask
    outputs = layer.out_shape[0] // layer.groups
    for channel in range(slices):
        group, column = divmod(channel, inside)
        mask[group * outputs : (group + 1) * outputs, column] = 1
    return mask


def channels_needed(graph: ModelGraph, layer: LayerSpec, slices: int, axis: str) -> int:
    """How many input channels the weight gradient of the first slices reads."""
    if axis == "in":
        return slices
    if layer.groups == layer.out_shape[0]:  # each output reads inputs of its own
        return slices * (graph.in_channels(layer) // layer.groups)
    return graph.in_channels(layer) if slices else 0


def randomise(module: GraphModule, generator: torch.Generator) -> None:
    """Every number away from its initial value, so that nothing is 1 or 0 by chance."""
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point() and tensor.ndim == 1:
                low = 0.5 if name.endswith(("weight", "running_var")) else -0.5
                tensor.copy_(low + torch.rand(tensor.shape, generator=generator))
            elif tensor.ndim > 1:
                spread = tensor[0].numel() ** -0.5
                tensor.copy_(spread * torch.randn(tensor.shape, generator=generator))


def plain_gradients(module: GraphModule, images: Tensor, weights: Tensor) -> dict[str, Tensor]:
    module.requires_grad_(True).train()
    (module(images) * weights).sum().backward()
    gradients = {name: p.grad.clone() for name, p in module.named_parameters()}
    module.zero_grad()
    return gradients


def check(graph: ModelGraph, policy: UpdatePolicy, micro_batch: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    module = build_module(graph).to(memory_format=torch.contiguous_format)
    randomise(module, generator)
    images = torch.randn(micro_batch, *graph.input_shape, generator=generator)
    weights = torch.randn(micro_batch, *graph.layers[-1].out_shape, generator=generator)
    expected = plain_gradients(module, images, weights)
    frugal = Frugal(module, policy)
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        output = frugal(images)
    parameters = {p.untyped_storage().data_ptr() for p in module.parameters()}
    saved = sum(size for address, size in held.items() if address not in parameters)
    setup = TrainingSetup(micro_batch=micro_batch)
    costs = evaluate(graph, device_for("fp32"), batch_of(graph, policy, setup=setup))
    assert costs.saved_activation_bytes.tolist() == [saved]

    if not output.requires_grad:
        assert not costs.trained_parameter_count.any()
        return
    (output * weights).sum().backward()
    trained_count = 0
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None
            continue
        layer, _, part = name.rpartition(".")
        mask = frugal.masks[layer] if part == "weight" and layer in frugal.masks else 1
        torch.testing.assert_close(
            parameter.grad, expected[name] * mask, rtol=1e-3, atol=1e-4, msg=name
        )
        trained_count += int((torch.ones_like(parameter) * mask).sum())
    assert costs.trained_parameter_count.tolist() == [trained_count]


# 4 random policies for each of 30 graphs, and both ends
@pytest.mark.parametrize(
    "graph", [*small_graphs(), *DIGITS, *adapted_nets()], ids=lambda graph: graph.name
)
def test_saved_bytes_and_gradients(graph):
    rng = np.random.default_rng(len(graph.layers))
    policies = [random_policy(graph, rng) for _ in range(4)]
    policies += [policy_of(graph, 1.0, bias=True, norm=True), policy_of(graph)]
    for seed, policy in enumerate(policies):
        check(graph, policy, micro_batch=2 + seed % 2, seed=seed)


@pytest.mark.parametrize("norm", NORM_CHOICES)
@pytest.mark.parametrize("axis", ["out", "in"])
def test_quarters_of_every_layer(norm, axis):
    for graph in small_graphs():
        if graph.norm == norm:
            check(graph, policy_of(graph, 0.25, bias=True, axis=axis), micro_batch=2, seed=7)


@pytest.mark.parametrize("norm", NORM_CHOICES)
def test_biases_and_scales_alone(norm):
    for graph in small_graphs():
        if graph.norm == norm:
            check(graph, policy_of(graph, bias=True), micro_batch=2, seed=8)
            check(graph, policy_of(graph, norm=True), micro_batch=2, seed=9)
