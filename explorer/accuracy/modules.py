"""Every operator of a graph as a torch module."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from explorer.accuracy.convolution import Convolution
from explorer.accuracy.tdssm import cfc_of, s4d_of
from explorer.errors import UnsupportedOpError
from explorer.graph import LayerSpec, ModelGraph
from explorer.layer import CONVOLVE, PLAIN, STATE_SPACES
from explorer.layer_shapes import is_rounded_up

Maker = Callable[[ModelGraph, LayerSpec], nn.Module]


class Add(nn.Module):
    """Sum of all inputs (residual connection)."""

    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        """Element-wise sum."""
        total = first
        for other in others:
            total = total + other
        return total


class Apply(nn.Module):
    """A function without parameters of its own."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        """The function of all inputs."""
        return self.function(*inputs)


class GlobalAveragePool(nn.Module):
    """Mean over positions: (N, C, H, W) -> (N, C)."""

    def forward(self, images: Tensor) -> Tensor:
        """Mean over height and width."""
        return images.mean(dim=(2, 3))


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that always uses its running statistics; scale and offset may train."""

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":  # noqa: ARG002 - torch's signature
        """Stay in evaluation mode whatever is asked."""
        super().train(False)
        return self


class GroupNorm(nn.GroupNorm):
    """Group norm whose parameters may train on an input that has no gradient.

    Torch 2.13 crashes there (CPU, channels-last input), so such an input is copied to
    the plain layout first, also one of a single position, which has both layouts.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Normalise, scale and offset."""
        trained = self.weight.requires_grad or self.bias.requires_grad
        if torch.is_grad_enabled() and trained and not images.requires_grad:
            images = images.clone(memory_format=torch.contiguous_format)
        return super().forward(images)


class InstanceNorm(nn.GroupNorm):
    """Group norm of one channel a group, as torch's own instance norm computes it."""

    def forward(self, images: Tensor) -> Tensor:
        """Normalise, scale and offset."""
        return functional.instance_norm(images, None, None, self.weight, self.bias, eps=self.eps)


class LayerNorm(nn.LayerNorm):
    """Layer norm over one axis of the sample, not always the last."""

    def __init__(self, channels: int, axis: int, *, bias: bool, eps: float) -> None:
        super().__init__(channels, bias=bias, eps=eps)
        self.axis = axis + 1

    def forward(self, values: Tensor) -> Tensor:
        """Normalise, scale and offset."""
        return super().forward(values.movedim(self.axis, -1)).movedim(-1, self.axis)


class Parameter(nn.Module):
    """A tensor of weights, as one sample: it takes no input."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape).normal_(std=0.02))

    def forward(self) -> Tensor:
        """(1, ...), for every sample."""
        return self.weight[None]


class Constant(nn.Module):
    """Fixed values, as one sample: they take no input."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(shape))

    def forward(self) -> Tensor:
        """(1, ...), for every sample."""
        return self.get_buffer("values")[None]


class Recurrent(nn.Module):
    """GRU or LSTM: its hidden states at every position."""

    def __init__(self, op: str, features: int, hidden: int, depth: int, both: bool, bias: bool):
        super().__init__()
        options = {"batch_first": True, "bidirectional": both, "bias": bias}
        make = {"gru": nn.GRU, "lstm": nn.LSTM}[op]
        self.cells = make(features, hidden, depth, **options)

    def forward(self, values: Tensor) -> Tensor:
        """(N, T, F) -> (N, T, hidden states)."""
        states: Tensor = self.cells(values)[0]
        return states


class UnevenConvolution(Convolution):
    """Convolution of a copy padded by `extra` (left, right, top, bottom), as torch's `same`."""

    extra: tuple[int, ...] = (0, 0, 0, 0)

    def forward(self, images: Tensor) -> Tensor:
        """Pad, then convolve."""
        return super().forward(functional.pad(images, self.extra))


def _conv(graph: ModelGraph, layer: LayerSpec) -> nn.Module:
    height, width = layer.pads
    kind = Convolution if len(layer.padding) == 2 else UnevenConvolution
    made = kind(
        graph.in_channels(layer),
        layer.out_shape[0],
        layer.kernel,
        stride=layer.stride,
        padding=(min(height), min(width)),
        dilation=layer.dilation,
        groups=layer.groups,
        bias=layer.has_bias,
    )
    if isinstance(made, UnevenConvolution):
        made.extra = tuple(end - min(pad) for pad in (width, height) for end in pad)
    return made


def _conv_transpose(graph: ModelGraph, layer: LayerSpec) -> nn.Module:
    return nn.ConvTranspose2d(
        graph.in_channels(layer),
        layer.out_shape[0],
        layer.kernel,
        stride=layer.stride,
        padding=(layer.pads[0][0], layer.pads[1][0]),
        output_padding=(layer.whole(0), layer.whole(1)),
        dilation=layer.dilation,
        groups=layer.groups,
        bias=layer.has_bias,
    )


def _norm(make: Callable[..., nn.Module]) -> Maker:
    """Norms share torch's usual epsilon unless `args` name another."""
    return lambda _, layer: make(layer, eps=layer.args[0] if layer.args else 1e-5)


def _groupnorm(layer: LayerSpec, eps: float) -> nn.Module:
    make = InstanceNorm if len(layer.args) > 1 else GroupNorm
    return make(layer.groups, layer.out_shape[0], eps)


def _batchnorm(layer: LayerSpec, eps: float) -> nn.Module:
    make = nn.BatchNorm2d if len(layer.out_shape) == 3 else nn.BatchNorm1d
    return make(layer.out_shape[0], eps=eps)


def _function(make: Callable[[LayerSpec], Callable[..., Tensor]]) -> Maker:
    return lambda _, layer: Apply(make(layer))


def _aligned(*tensors: Tensor) -> list[Tensor]:
    """The samples' axes aligned from the last, as they broadcast."""
    rank = max(tensor.ndim for tensor in tensors)
    return [
        tensor.reshape(len(tensor), *(1,) * (rank - tensor.ndim), *tensor.shape[1:])
        for tensor in tensors
    ]


def _mul(first: Tensor, second: Tensor) -> Tensor:
    left, right = _aligned(first, second)
    return left * right


def _div(first: Tensor, second: Tensor) -> Tensor:
    left, right = _aligned(first, second)
    return left / right


def _matmul(graph: ModelGraph, layer: LayerSpec) -> nn.Module:
    """A matrix of parameters serves every sample as it is."""
    if graph.parameter_of(layer.inputs[1]):
        return Apply(lambda left, right: torch.matmul(left, right[0]))
    return Apply(torch.matmul)


def _convolve(layer: LayerSpec) -> Callable[..., Tensor]:
    places = layer.strides, (layer.pads[0][0], layer.pads[1][0]), layer.dilation, layer.groups

    def convolve(images: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
        own = None if bias is None else bias[0]
        return functional.conv2d(images, kernel[0], own, *places)

    return convolve


def _shift(first: Tensor, *others: Tensor) -> Tensor:
    for other in _aligned(first, *others)[1:]:
        first = first + other
    return first


def _concat(layer: LayerSpec) -> Callable[..., Tensor]:
    def concat(*tensors: Tensor) -> Tensor:
        samples = max(len(tensor) for tensor in tensors)
        whole = [tensor.expand(samples, *tensor.shape[1:]) for tensor in tensors]
        return torch.cat(whole, dim=layer.axis + 1)

    return concat


def _attention(layer: LayerSpec) -> Callable[..., Tensor]:
    causal = len(layer.args) == 2 and layer.args[1] == 1

    def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        return functional.scaled_dot_product_attention(
            query, key, value, mask, scale=layer.args[0], is_causal=causal
        )

    return attention


def _slice(layer: LayerSpec) -> Callable[[Tensor], Tensor]:
    part = slice(*(layer.whole(position) for position in range(3)))
    return lambda values: values[(slice(None),) * (layer.axis + 1) + (part,)]


def _pad(layer: LayerSpec) -> Callable[[Tensor], Tensor]:
    """Torch lists the last axis first."""
    ends = [int(number) for number in layer.args]
    pairs = list(zip(ends[::2], ends[1::2], strict=True))
    flat = [number for pair in reversed(pairs) for number in pair]
    return lambda values: functional.pad(values, flat)


def _roll(layer: LayerSpec) -> Callable[[Tensor], Tensor]:
    shifts = [int(number) for number in layer.args]
    return lambda values: values.roll(shifts, tuple(range(1, len(shifts) + 1)))


def _transpose(layer: LayerSpec) -> Callable[[Tensor], Tensor]:
    order = (0, *(int(axis) + 1 for axis in layer.args))
    return lambda values: values.permute(order)


def _mean(layer: LayerSpec) -> Callable[[Tensor], Tensor]:
    axes = tuple(int(axis) + 1 for axis in layer.args)
    return lambda values: values.mean(axes).reshape(-1, *layer.out_shape)


def _standardise(layer: LayerSpec) -> Callable[[Tensor], Tensor]:
    sizes = layer.out_shape[-layer.whole(1) :]
    return lambda values: functional.layer_norm(values, sizes, eps=layer.args[0])


def _avgpool(_: ModelGraph, layer: LayerSpec) -> nn.Module:
    if not layer.args:
        return nn.AvgPool2d(layer.kernel)
    padding = (layer.pads[0][0], layer.pads[1][0])
    return nn.AvgPool2d(
        layer.kernel, layer.strides, padding, count_include_pad=bool(layer.whole(0))
    )


def _maxpool(graph: ModelGraph, layer: LayerSpec) -> nn.Module:
    padding = (layer.pads[0][0], layer.pads[1][0])
    is_up = is_rounded_up(layer, graph.shape(graph.producers(layer)[0]))
    return nn.MaxPool2d(layer.kernel, layer.strides, padding, layer.dilation, ceil_mode=is_up)


def _recurrent(graph: ModelGraph, layer: LayerSpec) -> nn.Module:
    features = graph.shape(graph.producers(layer)[0])[-1]
    hidden, depth, directions, biases = (layer.whole(position) for position in range(4))
    return Recurrent(layer.op, features, hidden, depth, directions == 2, bool(biases))


OPERATORS: dict[str, Maker] = {
    "conv2d": _conv,
    "conv_transpose2d": _conv_transpose,
    "linear": lambda graph, layer: nn.Linear(
        graph.in_channels(layer), layer.channels, bias=layer.has_bias
    ),
    "embedding": lambda _, layer: nn.Embedding(layer.whole(0), layer.out_shape[-1]),
    "lookup": lambda *_: Apply(lambda indices, table: functional.embedding(indices, table[0])),
    "parameter": lambda _, layer: Parameter(layer.out_shape),
    "constant": lambda _, layer: Constant(layer.out_shape),
    **dict.fromkeys(STATE_SPACES, s4d_of),
    "cfc": cfc_of,
    "dropout2d": lambda _, layer: nn.Dropout2d(layer.args[0]),
    "gru": _recurrent,
    "lstm": _recurrent,
    "batchnorm": _norm(_batchnorm),
    "frozen_batchnorm": _norm(
        lambda layer, eps: FrozenBatchNorm2d(layer.out_shape[0], eps=eps).eval()
    ),
    "groupnorm": _norm(_groupnorm),
    "layernorm": _norm(
        lambda layer, eps: LayerNorm(layer.channels, layer.axis, bias=layer.has_bias, eps=eps)
    ),
    "relu": lambda *_: nn.ReLU(),
    "relu6": lambda *_: nn.ReLU6(),
    "leaky_relu": lambda _, layer: nn.LeakyReLU(layer.args[0]),
    "hardsigmoid": lambda *_: nn.Hardsigmoid(),
    "gelu": lambda *_: nn.GELU(),
    "gelu_tanh": lambda *_: nn.GELU("tanh"),
    "silu": lambda *_: nn.SiLU(),
    "hardswish": lambda *_: nn.Hardswish(),
    "elu": lambda _, layer: nn.ELU(layer.args[0]),
    "celu": lambda _, layer: nn.CELU(layer.args[0]),
    "selu": lambda *_: nn.SELU(),
    "mish": lambda *_: nn.Mish(),
    "softplus": lambda _, layer: nn.Softplus(layer.args[0]),
    "prelu": lambda _, layer: nn.PReLU(layer.whole(0)),
    "clip": _function(lambda layer: lambda values: values.clamp(*layer.args)),
    **dict.fromkeys(PLAIN, _function(lambda layer: getattr(torch, layer.op))),
    "power": _function(lambda layer: lambda values: values.pow(layer.args[0])),
    "sigmoid": lambda *_: nn.Sigmoid(),
    "tanh": lambda *_: nn.Tanh(),
    "softmax": lambda _, layer: nn.Softmax(layer.axis + 1),
    "log_softmax": lambda _, layer: nn.LogSoftmax(layer.axis + 1),
    "standardise": _function(_standardise),
    "glu": lambda _, layer: nn.GLU(layer.axis + 1),
    "add": lambda *_: Add(),
    "shift": lambda *_: Apply(_shift),
    "scale": _function(lambda layer: lambda values: values * layer.args[0] + layer.args[1]),
    "mul": lambda *_: Apply(_mul),
    "div": lambda *_: Apply(_div),
    "matmul": _matmul,
    CONVOLVE: _function(_convolve),
    "attention": _function(_attention),
    "concat": _function(_concat),
    "slice": _function(_slice),
    "pad": _function(_pad),
    "copy": lambda *_: Apply(torch.clone),
    "roll": _function(_roll),
    "reshape": _function(lambda layer: lambda values: values.reshape(-1, *layer.out_shape)),
    "transpose": _function(_transpose),
    "global_avgpool": lambda *_: GlobalAveragePool(),
    "mean": _function(_mean),
    "avgpool": _avgpool,
    "window_max": lambda _, layer: nn.MaxPool2d(layer.kernel),
    "maxpool": _maxpool,
    "upsample": lambda _, layer: nn.Upsample(
        layer.out_shape[1:], mode="bilinear", align_corners=bool(layer.args and layer.args[0])
    ),
    "upsample_nearest": lambda _, layer: nn.Upsample(layer.out_shape[1:]),
}


def check_runs(graph: ModelGraph) -> None:
    """UnsupportedOpError lists every operator that has no module here."""
    unknown = sorted({layer.op for layer in graph.layers} - OPERATORS.keys())
    if unknown:
        raise UnsupportedOpError(
            f"{graph.name} cannot be run in torch: no operator for {', '.join(unknown)}"
        )
