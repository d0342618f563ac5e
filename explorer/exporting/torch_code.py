"""Every operator of a graph as a line of torch: what it keeps, and how it is called."""

from collections.abc import Callable, Sequence

from explorer.errors import UnsupportedOpError
from explorer.graph import ModelGraph
from explorer.layer import CONVOLVE, INPUT, PLAIN, SOURCES, LayerSpec
from explorer.layer_shapes import is_rounded_up

Keeper = Callable[[ModelGraph, LayerSpec], str]
Caller = Callable[[LayerSpec, Sequence[str]], str]

JOINED = {"mul": " * ", "div": " / ", "shift": " + ", "concat": ", "}


def keeper(graph: ModelGraph, layer: LayerSpec) -> str | None:
    """Code of the module that keeps an operator's parameters; None when it has none."""
    return KEEPERS[layer.op](graph, layer) if layer.op in KEEPERS else None


def call(graph: ModelGraph, layer: LayerSpec, names: dict[str, str]) -> str:
    """Code that computes a layer from its inputs, whose variables are `names`."""
    inputs = [names[producer] for producer in graph.producers(layer)]
    if layer.op == "matmul":
        end = "[0]" if graph.parameter_of(layer.inputs[1]) else ""
        return f"torch.matmul({', '.join(inputs)}{end})"
    if layer.op == "maxpool":
        return _maxpool(graph, layer, inputs[0])
    if layer.op in JOINED:
        return _joined(graph, layer, inputs)
    return CALLERS[layer.op](layer, inputs)


def check_written(graph: ModelGraph) -> None:
    """UnsupportedOpError lists every operator that has no code here."""
    known = CALLERS.keys() | {"matmul", "maxpool", *JOINED}
    if unknown := sorted({layer.op for layer in graph.layers} - known):
        raise UnsupportedOpError(
            f"{graph.name} cannot be written as torch: no code for {', '.join(unknown)}"
        )


def _conv(graph: ModelGraph, layer: LayerSpec) -> str:
    """Padding that both ends of a side share; the rest is padded before the call."""
    height, width = layer.pads
    return (
        f"nn.Conv2d({graph.in_channels(layer)}, {layer.channels}, {layer.kernel}, "
        f"{layer.stride}, {(min(height), min(width))}, {layer.dilation}, {layer.groups}, "
        f"{layer.has_bias})"
    )


def _conv_transpose(graph: ModelGraph, layer: LayerSpec) -> str:
    more = (layer.whole(0), layer.whole(1))
    return (
        f"nn.ConvTranspose2d({graph.in_channels(layer)}, {layer.channels}, {layer.kernel}, "
        f"{layer.stride}, {layer.padding}, {more}, {layer.groups}, {layer.has_bias}, "
        f"{layer.dilation})"
    )


def _recurrent(graph: ModelGraph, layer: LayerSpec) -> str:
    features = graph.shape(graph.producers(layer)[0])[-1]
    hidden, depth, directions, biases = (layer.whole(position) for position in range(4))
    return (
        f"held(cells=nn.{layer.op.upper()}({features}, {hidden}, {depth}, bias={bool(biases)}, "
        f"batch_first=True, bidirectional={directions == 2}))"
    )


def _epsilon(layer: LayerSpec) -> float:
    return layer.args[0] if layer.args else 1e-5


def _batchnorm(_: ModelGraph, layer: LayerSpec) -> str:
    kind = "BatchNorm2d" if len(layer.out_shape) == 3 else "BatchNorm1d"
    return f"nn.{kind}({layer.out_shape[0]}, {_epsilon(layer)})"


KEEPERS: dict[str, Keeper] = {
    "conv2d": _conv,
    "conv_transpose2d": _conv_transpose,
    "linear": lambda graph, layer: (
        f"nn.Linear({graph.in_channels(layer)}, {layer.channels}, {layer.has_bias})"
    ),
    "embedding": lambda _, layer: f"nn.Embedding({layer.whole(0)}, {layer.out_shape[-1]})",
    "parameter": lambda _, layer: f"held(weight=nn.Parameter(torch.zeros({layer.out_shape})))",
    "constant": lambda _, layer: f"held(values=torch.zeros({layer.out_shape}))",
    "prelu": lambda _, layer: f"nn.PReLU({layer.whole(0)})",
    "gru": _recurrent,
    "lstm": _recurrent,
    "batchnorm": _batchnorm,
    "frozen_batchnorm": _batchnorm,
    "groupnorm": lambda _, layer: (
        f"nn.GroupNorm({layer.groups}, {layer.out_shape[0]}, {_epsilon(layer)})"
    ),
    "layernorm": lambda _, layer: (
        f"nn.LayerNorm({layer.channels}, {_epsilon(layer)}, bias={layer.has_bias})"
    ),
}


def _own(layer: LayerSpec) -> str:
    return f"part({layer.name!r})"


def _called(layer: LayerSpec, inputs: Sequence[str]) -> str:
    return f"{_own(layer)}({inputs[0]})"


def _conv_call(layer: LayerSpec, inputs: Sequence[str]) -> str:
    height, width = layer.pads
    extra = tuple(end - min(pad) for pad in (width, height) for end in pad)
    images = f"F.pad({inputs[0]}, {extra})" if any(extra) else inputs[0]
    return f"{_own(layer)}({images})"


def _groupnorm_call(layer: LayerSpec, inputs: Sequence[str]) -> str:
    """Torch 2.13 crashes at its backward on an image of one position, which is channels-last."""
    if len(layer.args) > 1:
        own = f"{_own(layer)}.weight, {_own(layer)}.bias"
        return f"F.instance_norm({inputs[0]}, None, None, {own}, eps={layer.args[0]})"
    if layer.out_shape[1:] == (1, 1):
        return f"{_own(layer)}({inputs[0]}.clone(memory_format=torch.contiguous_format))"
    return _called(layer, inputs)


def _layernorm_call(layer: LayerSpec, inputs: Sequence[str]) -> str:
    if layer.axis == len(layer.out_shape) - 1:
        return _called(layer, inputs)
    axis = layer.axis + 1
    return f"{_own(layer)}({inputs[0]}.movedim({axis}, -1)).movedim(-1, {axis})"


def _plain(function: str, *words: str) -> Caller:
    """A function of the first input; a word such as `{args[0]}` is a field of the layer."""

    def code(layer: LayerSpec, inputs: Sequence[str]) -> str:
        given = [word.format(args=layer.args, axis=layer.axis + 1) for word in words]
        return f"{function}({', '.join([inputs[0], *given])})"

    return code


def _pad(layer: LayerSpec, inputs: Sequence[str]) -> str:
    ends = [int(number) for number in layer.args]
    pairs = list(zip(ends[::2], ends[1::2], strict=True))
    flat = tuple(number for pair in reversed(pairs) for number in pair)
    return f"F.pad({inputs[0]}, {flat})"


def _roll(layer: LayerSpec, inputs: Sequence[str]) -> str:
    shifts = tuple(int(number) for number in layer.args)
    return f"{inputs[0]}.roll({shifts}, {tuple(range(1, len(shifts) + 1))})"


def _slice(layer: LayerSpec, inputs: Sequence[str]) -> str:
    start, stop, step = (layer.whole(position) for position in range(3))
    return f"{inputs[0]}[{':, ' * (layer.axis + 1)}{start}:{stop}:{step}]"


def _attention(layer: LayerSpec, inputs: Sequence[str]) -> str:
    causal = len(layer.args) == 2 and layer.args[1] == 1
    return (
        f"F.scaled_dot_product_attention({', '.join(inputs)}, "
        f"scale={layer.args[0]}, is_causal={causal})"
    )


def _convolve(layer: LayerSpec, inputs: Sequence[str]) -> str:
    images, *fixed = inputs
    kernel, bias = (*(f"{one}[0]" for one in fixed), None)[:2]
    return (
        f"F.conv2d({images}, {kernel}, {bias}, {layer.stride}, {_pads(layer)}, "
        f"{layer.dilation}, {layer.groups})"
    )


def _avgpool(layer: LayerSpec, inputs: Sequence[str]) -> str:
    if not layer.args:
        return f"F.avg_pool2d({inputs[0]}, {layer.kernel})"
    return (
        f"F.avg_pool2d({inputs[0]}, {layer.kernel}, {layer.stride}, {_pads(layer)}, "
        f"count_include_pad={bool(layer.args[0])})"
    )


def _maxpool(graph: ModelGraph, layer: LayerSpec, images: str) -> str:
    is_up = is_rounded_up(layer, graph.shape(graph.producers(layer)[0]))
    return (
        f"F.max_pool2d({images}, {layer.kernel}, {layer.stride}, {_pads(layer)}, "
        f"{layer.dilation}, ceil_mode={is_up})"
    )


def _pads(layer: LayerSpec) -> tuple[int, int]:
    return layer.pads[0][0], layer.pads[1][0]


def _axes(layer: LayerSpec) -> tuple[int, ...]:
    return tuple(int(axis) + 1 for axis in layer.args)


CALLERS: dict[str, Caller] = {
    **dict.fromkeys(("conv_transpose2d", "linear", "embedding", "batchnorm"), _called),
    "frozen_batchnorm": _called,
    "conv2d": _conv_call,
    "groupnorm": _groupnorm_call,
    "layernorm": _layernorm_call,
    **dict.fromkeys(("gru", "lstm"), lambda layer, inputs: f"{_own(layer)}.cells({inputs[0]})[0]"),
    "lookup": lambda _, inputs: f"F.embedding({inputs[0]}, {inputs[1]}[0])",
    "parameter": lambda layer, _: f"{_own(layer)}.weight[None]",
    "constant": lambda layer, _: f"{_own(layer)}.values[None]",
    "relu": _plain("F.relu"),
    "relu6": _plain("F.relu6"),
    "leaky_relu": _plain("F.leaky_relu", "{args[0]}"),
    "hardsigmoid": _plain("F.hardsigmoid"),
    "gelu": _plain("F.gelu"),
    "gelu_tanh": _plain("F.gelu", 'approximate="tanh"'),
    "silu": _plain("F.silu"),
    "hardswish": _plain("F.hardswish"),
    "elu": _plain("F.elu", "{args[0]}"),
    "celu": _plain("F.celu", "{args[0]}"),
    "softplus": _plain("F.softplus", "{args[0]}"),
    **{name: _plain(f"F.{name}") for name in ("selu", "mish")},
    **{name: _plain(f"torch.{name}") for name in PLAIN},
    "clip": lambda layer, inputs: f"{inputs[0]}.clamp({', '.join(map(str, layer.args))})",
    "prelu": _called,
    "power": _plain("torch.pow", "{args[0]}"),
    "sigmoid": _plain("torch.sigmoid"),
    "tanh": _plain("torch.tanh"),
    "softmax": _plain("torch.softmax", "{axis}"),
    "log_softmax": _plain("torch.log_softmax", "{axis}"),
    "glu": _plain("F.glu", "{axis}"),
    "copy": _plain("torch.clone"),
    "global_avgpool": _plain("torch.mean", "(2, 3)"),
    "add": lambda _, inputs: " + ".join(inputs),
    "scale": lambda layer, inputs: f"{inputs[0]} * {layer.args[0]} + {layer.args[1]}",
    CONVOLVE: _convolve,
    "attention": _attention,
    "slice": _slice,
    "pad": _pad,
    "roll": _roll,
    "reshape": lambda layer, inputs: f"{inputs[0]}.reshape({(-1, *layer.out_shape)})",
    "transpose": lambda layer, inputs: f"{inputs[0]}.permute({(0, *_axes(layer))})",
    "mean": lambda layer, inputs: (
        f"{inputs[0]}.mean({_axes(layer)}).reshape({(-1, *layer.out_shape)})"
    ),
    "avgpool": _avgpool,
    "standardise": lambda layer, inputs: (
        f"F.layer_norm({inputs[0]}, {layer.out_shape[-layer.whole(1) :]}, eps={layer.args[0]})"
    ),
    "window_max": lambda layer, inputs: f"F.max_pool2d({inputs[0]}, {layer.kernel})",
    "upsample": lambda layer, inputs: (
        f'F.interpolate({inputs[0]}, {layer.out_shape[1:]}, mode="bilinear", '
        f"align_corners={bool(layer.args and layer.args[0])})"
    ),
    "upsample_nearest": lambda layer, inputs: f"F.interpolate({inputs[0]}, {layer.out_shape[1:]})",
}


def _joined(graph: ModelGraph, layer: LayerSpec, inputs: Sequence[str]) -> str:
    """Samples of fewer axes get theirs in front; what has one sample stands for all in a concat."""
    producers = graph.producers(layer)
    ranks = [len(graph.shape(name)) for name in producers]
    if layer.op == "concat":
        whole = [
            f"{name}.expand(len(images){', -1' * rank})" if _is_single(graph, producer) else name
            for name, rank, producer in zip(inputs, ranks, producers, strict=True)
        ]
        return f"torch.cat([{', '.join(whole)}], {layer.axis + 1})"
    aligned = [
        f"{name}[:, {', '.join(['None'] * (max(ranks) - rank))}]" if rank < max(ranks) else name
        for name, rank in zip(inputs, ranks, strict=True)
    ]
    return JOINED[layer.op].join(aligned)


def _is_single(graph: ModelGraph, name: str) -> bool:
    """Whether a tensor comes from fixed sources alone, so that it is one sample."""
    if name == INPUT:
        return False
    layer = graph[name]
    if layer.op in SOURCES:
        return True
    return all(_is_single(graph, producer) for producer in graph.producers(layer))
