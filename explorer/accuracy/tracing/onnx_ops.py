"""ONNX operators without weights as functions of torch; a handler gets a node and its inputs.

Inputs are tensors, arrays of what is constant, or None where one is left out.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from explorer.accuracy.tracing.onnx_nodes import Node, is_usual_hardsigmoid
from explorer.errors import SpecError

Handler = Callable[..., Any]


def refused(node: Node, why: str) -> SpecError:
    """What is said of a node in a form that is not known."""
    return SpecError(f"onnx: {node.op} {node.name} {why} is not known")


def _plain(function: Callable[[Tensor], Tensor]) -> Handler:
    return lambda _node, x, *_rest: function(x)


def _operand(value: Any) -> Any:
    """A tensor, or a constant as a number where it is one."""
    if not isinstance(value, np.ndarray | np.generic):
        return value
    array = np.asarray(value)
    return array.item() if array.size == 1 else torch.from_numpy(np.array(array))


def _binary(function: Callable[[Any, Any], Tensor]) -> Handler:
    return lambda _node, one, other: function(_operand(one), _operand(other))


def _numbers(value: Any) -> list[int]:
    return [int(one) for one in np.asarray(value).reshape(-1)]


def _axes(node: Node, given: Any) -> list[int] | None:
    """Axes as an input of newer files, or as an attribute of older ones."""
    if given is not None:
        return _numbers(given)
    axes = node.options.get("axes")
    return None if axes is None else [int(axis) for axis in axes]


def _reshape(node: Node, x: Tensor, sizes: Any) -> Tensor:
    wanted = _numbers(sizes)
    if not node.options.get("allowzero", 0):
        wanted = [x.shape[at] if size == 0 else size for at, size in enumerate(wanted)]
    return x.reshape(wanted)


def _flatten(node: Node, x: Tensor) -> Tensor:
    if node.options.get("axis", 1) != 1:
        raise refused(node, "of another axis than 1")
    return x.flatten(1)


def _squeeze(node: Node, x: Tensor, axes: Any = None) -> Tensor:
    chosen = _axes(node, axes)
    if chosen is None:
        raise refused(node, "of no axes")
    for axis in sorted((axis % x.ndim for axis in chosen), reverse=True):
        x = x.squeeze(axis)
    return x


def _unsqueeze(node: Node, x: Tensor, axes: Any = None) -> Tensor:
    chosen = _axes(node, axes) or []
    rank = x.ndim + len(chosen)
    for axis in sorted(axis % rank for axis in chosen):
        x = x.unsqueeze(axis)
    return x


def _transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.options.get("perm", list(reversed(range(x.ndim)))))


def _concat(node: Node, *parts: Any) -> Tensor:
    return torch.cat([_as_tensor(one) for one in parts], node.options["axis"])


def _as_tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))


def _split(node: Node, x: Tensor, sizes: Any = None) -> list[Tensor]:
    axis = node.options.get("axis", 0)
    given = node.options.get("split") if sizes is None else _numbers(sizes)
    if given is None:
        return list(x.chunk(len(node.outputs), axis))
    return list(torch.split(x, list(given), axis))


def _slice(
    node: Node, x: Tensor, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None
) -> Tensor:
    first = _numbers(node.options["starts"] if starts is None else starts)
    last = _numbers(node.options["ends"] if ends is None else ends)
    chosen = _axes(node, axes) or list(range(len(first)))
    by = [1] * len(first) if steps is None else _numbers(steps)
    if min(by) < 1:
        raise refused(node, "backwards")
    for axis, start, end, step in zip(chosen, first, last, by, strict=True):
        index = [slice(None)] * x.ndim
        index[axis] = slice(start, end, step)
        x = x[tuple(index)]
    return x


def _gather(node: Node, x: Tensor, index: Any) -> Tensor:
    axis = node.options.get("axis", 0)
    if isinstance(index, Tensor):
        raise refused(node, "by computed indices")
    chosen = np.asarray(index)
    if chosen.ndim == 0:
        return x.select(axis, int(chosen))
    parts = [x.narrow(axis, int(at) % x.shape[axis], 1) for at in chosen.reshape(-1)]
    if chosen.ndim != 1:
        raise refused(node, "by a table of indices")
    return torch.cat(parts, axis) if len(parts) > 1 else parts[0]


def _pad(node: Node, x: Tensor, pads: Any = None, number: Any = None, axes: Any = None) -> Tensor:
    ends = _numbers(node.options["pads"] if pads is None else pads)
    value = node.options.get("value", 0.0) if number is None else float(np.asarray(number))
    if node.options.get("mode", "constant") != "constant" or value or axes is not None:
        raise refused(node, "other than by zeros around every axis")
    half = len(ends) // 2
    padded = [at for at in range(half) if any(ends[at::half])]
    first = min(padded, default=half)  # torch counts from the last axis, and not before this
    return functional.pad(
        x, [end for at in range(half - 1, first - 1, -1) for end in ends[at::half]]
    )


def _clip(node: Node, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    bounds = [
        node.options.get(name) if one is None else float(np.asarray(one))
        for name, one in (("min", low), ("max", high))
    ]
    if bounds == [0.0, 6.0]:
        return functional.relu6(x)
    if bounds == [0.0, None]:
        return functional.relu(x)
    return x.clamp(*bounds)


def _hardsigmoid(node: Node, x: Tensor) -> Tensor:
    if not is_usual_hardsigmoid(node):
        raise refused(node, "with another slope than 1/6")
    return functional.hardsigmoid(x)


def _selu(node: Node, x: Tensor) -> Tensor:
    if {"alpha", "gamma"} & node.options.keys():
        raise refused(node, "with numbers of its own")
    return functional.selu(x)


def _prelu(node: Node, x: Tensor, slope: Any) -> Tensor:
    if not isinstance(slope, Tensor) or not has_channel_slopes(slope.shape, x.shape):
        raise refused(node, "with other than a slope a channel")
    return functional.prelu(x, slope.flatten())


def has_channel_slopes(slopes: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether slopes, broadcast from behind as ONNX does, are one for all or one a channel."""
    while len(slopes) > len(shape) - 1 and slopes[0] == 1:
        slopes = slopes[1:]
    return prod(slopes) == 1 or slopes == (shape[1], *(1,) * (len(shape) - 2))


def _gelu(node: Node, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=node.options.get("approximate", "none"))


def pads_of(
    node: Node, shape: tuple[int, ...], kernel: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and behind every side of a window operator."""
    options, count = node.options, len(shape)
    way = options.get("auto_pad", "NOTSET")
    if way in ("NOTSET", "VALID"):
        pads = options.get("pads", [0] * 2 * count) if way == "NOTSET" else [0] * 2 * count
        return tuple(pads[:count]), tuple(pads[count:])
    steps, reach = options.get("strides", [1] * count), options.get("dilations", [1] * count)
    total = [
        max((-(-size // step) - 1) * step + by * (taps - 1) + 1 - size, 0)
        for size, step, by, taps in zip(shape, steps, reach, kernel, strict=True)
    ]
    less, more = tuple(one // 2 for one in total), tuple(one - one // 2 for one in total)
    return (less, more) if way == "SAME_UPPER" else (more, less)


def _maxpool(node: Node, x: Tensor) -> Tensor:
    kernel = tuple(node.options["kernel_shape"])
    before, behind = pads_of(node, tuple(x.shape[2:]), kernel)
    if before != behind or len(kernel) > 2:
        raise refused(node, "with uneven padding or more than two sides")
    steps, reach = (node.options.get(name, [1] * len(kernel)) for name in ("strides", "dilations"))
    pool = functional.max_pool2d if len(kernel) == 2 else functional.max_pool1d
    up = bool(node.options.get("ceil_mode", 0))
    result: Tensor = pool(x, kernel, tuple(steps), before, tuple(reach), up)
    return result


def _avgpool(node: Node, x: Tensor) -> Tensor:
    kernel = tuple(node.options["kernel_shape"])
    steps = tuple(node.options.get("strides", [1] * len(kernel)))
    sides = tuple(x.shape[2:])
    before, behind = pads_of(node, sides, kernel)
    is_whole = all(taps >= side for taps, side in zip(kernel, sides, strict=False))
    if is_whole and not any(before + behind):
        kernel = steps = sides  # a larger window ends with the image
    if before != behind or len(kernel) > 2 or set(node.options.get("dilations", [1])) != {1}:
        raise refused(node, "with uneven padding, dilation or more than two sides")
    pool = functional.avg_pool2d if len(kernel) == 2 else functional.avg_pool1d
    up, counts = (bool(node.options.get(name, 0)) for name in ("ceil_mode", "count_include_pad"))
    result: Tensor = pool(x, kernel, steps, before, up, counts or not any(before))
    return result


def _mean(node: Node, x: Tensor, axes: Any = None) -> Tensor:
    chosen = _axes(node, axes)
    if chosen is None:
        raise refused(node, "over everything")
    return x.mean(chosen, keepdim=bool(node.options.get("keepdims", 1)))


def _sum(node: Node, x: Tensor, axes: Any = None) -> Tensor:
    chosen = _axes(node, axes)
    if chosen is None:
        raise refused(node, "over everything")
    return x.sum(chosen, keepdim=bool(node.options.get("keepdims", 1)))


def _largest(node: Node, x: Tensor) -> Tensor:
    if x.ndim not in (3, 4):
        raise refused(node, "over more than two sides")
    pool = functional.adaptive_max_pool2d if x.ndim == 4 else functional.adaptive_max_pool1d
    result: Tensor = pool(x, 1)
    return result


def _instance_norm(node: Node, x: Tensor, scale: Any, offset: Any) -> Tensor:
    """One without parameters has ones and zeros for them."""
    known = isinstance(scale, np.ndarray) and isinstance(offset, np.ndarray)
    if not known or (scale != 1).any() or offset.any():
        raise refused(node, "with fixed numbers")
    return functional.instance_norm(x, eps=node.options.get("epsilon", 1e-5))


RESIZES: dict[
    tuple[str, str], dict[str, Any]
] = {  # to torch's own, by mode and how places are found
    ("nearest", "asymmetric"): {"mode": "nearest"},
    ("linear", "half_pixel"): {"align_corners": False},
    ("linear", "pytorch_half_pixel"): {"align_corners": False},
    ("linear", "align_corners"): {"align_corners": True},
}


def _resize(node: Node, x: Tensor, *rest: Any) -> Tensor:
    """By sizes, the last input, or else by factors; batch and channels stay."""
    way = (
        node.options.get("mode", "nearest"),
        node.options.get("coordinate_transformation_mode", "half_pixel"),
    )
    rounds = node.options.get("nearest_mode", "round_prefer_floor")
    if way not in RESIZES or (way[0] == "nearest" and rounds != "floor"):
        raise refused(node, f"of mode {', '.join(map(str, way))}")
    factors, sizes = (*rest, None, None, None)[1:3]
    if sizes is None:
        sizes = [int(size * by) for size, by in zip(x.shape, np.asarray(factors), strict=True)]
    wanted = _numbers(sizes)
    if wanted[1] != x.shape[1] or x.ndim not in (3, 4):
        raise refused(node, "of channels, or of more than two sides")
    mode: dict[str, Any] = {"mode": "linear" if x.ndim == 3 else "bilinear"}
    return functional.interpolate(x, wanted[2:], **mode | RESIZES[way])


def _to_space(node: Node, x: Tensor) -> Tensor:
    if node.options.get("mode", "DCR") != "CRD":
        raise refused(node, "of mode DCR")
    return functional.pixel_shuffle(x, node.options["blocksize"])


def _einsum(node: Node, *parts: Any) -> Tensor:
    return torch.einsum(node.options["equation"], *map(_as_tensor, parts))


def _attention(node: Node, query: Any, key: Any, value: Any, mask: Any = None) -> Tensor:
    if node.options["axis"] not in (-1, query.ndim - 1):
        raise refused(node, "over another axis than the last")
    added = None if mask is None else _as_tensor(mask)
    return functional.scaled_dot_product_attention(
        query, key.transpose(-2, -1), value, added, scale=node.options["scale"]
    )


def _cast(_node: Node, x: Tensor) -> Tensor:
    return x


def _expand(_node: Node, x: Tensor, sizes: Any) -> Tensor:
    wanted = _numbers(sizes)
    ranks = max(x.ndim, len(wanted))
    own, wanted = ([1] * (ranks - len(one)) + list(one) for one in (x.shape, wanted))
    return x.expand([max(pair) for pair in zip(own, wanted, strict=True)])


HANDLERS: dict[str, Handler] = {
    "Relu": _plain(functional.relu),
    "Sigmoid": _plain(torch.sigmoid),
    "Tanh": _plain(torch.tanh),
    "HardSwish": _plain(functional.hardswish),
    "[HardSwish]": _plain(functional.hardswish),
    "[Silu]": _plain(functional.silu),
    "[Gelu]": _plain(functional.gelu),
    "Gelu": _gelu,
    "HardSigmoid": _hardsigmoid,
    "LeakyRelu": lambda node, x: functional.leaky_relu(x, node.options.get("alpha", 0.01)),
    "Elu": lambda node, x: functional.elu(x, node.options.get("alpha", 1.0)),
    "Clip": _clip,
    "Softmax": lambda node, x: x.softmax(node.options.get("axis", -1)),
    "LogSoftmax": lambda node, x: x.log_softmax(node.options.get("axis", -1)),
    **{name: _plain(getattr(torch, name.lower())) for name in ("Abs", "Exp", "Log", "Sin", "Cos")},
    **{name: _plain(getattr(torch, name.lower())) for name in ("Sqrt", "Reciprocal", "Neg")},
    "Selu": _selu,
    "Celu": lambda node, x: functional.celu(x, node.options.get("alpha", 1.0)),
    "Mish": _plain(functional.mish),
    "[Mish]": _plain(functional.mish),
    "Softplus": _plain(functional.softplus),
    "Softsign": _plain(functional.softsign),
    "PRelu": _prelu,
    "InstanceNormalization": _instance_norm,
    "Pow": _binary(lambda x, exponent: x.pow(exponent)),
    "Add": _binary(lambda one, other: one + other),
    "Sub": _binary(lambda one, other: one - other),
    "Mul": _binary(lambda one, other: one * other),
    "Div": _binary(lambda one, other: one / other),
    "MatMul": _binary(torch.matmul),
    "[Attention]": _attention,
    **dict.fromkeys(("Identity", "Dropout"), _plain(lambda x: x)),
    "Cast": _cast,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "Expand": _expand,
    "MaxPool": _maxpool,
    "AveragePool": _avgpool,
    "GlobalAveragePool": _plain(lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True)),
    "GlobalMaxPool": _largest,
    "ReduceMean": _mean,
    "ReduceSum": _sum,
    "Resize": _resize,
    "DepthToSpace": _to_space,
    "Tile": lambda _, x, times: x.repeat(_numbers(times)),
    "Einsum": _einsum,
}
