"""Which layer of a graph an exported operator becomes.

A handler takes a `Step` and the operator's own arguments and returns what it made, or None
where a form of the operator has no counterpart. Views make no memory: whether an operator
copies is told by the memory of what it returned.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from explorer.graph import LayerSpec

EPSILON = 1e-5


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Traced:
    """A tensor that depends on the input: the layer it comes from, and its value.

    `batch_axis` is where torch has the samples; the first axis may hold several of a sample's
    own axes' worth of rows behind each sample (`merged`).
    """

    name: str
    value: Tensor
    batch_axis: int = 0


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Weight:
    """A parameter, or a view of one: `whole` is the parameter itself."""

    path: str
    value: Tensor
    whole: Tensor


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """One exported operator: where it is, and what it returned."""

    walk: Any
    op: str
    path: str
    value: Any
    samples: int = 2

    def shape(self, value: Traced | Tensor, batch_axis: int = 0) -> tuple[int, ...]:
        """Shape of one sample; rows of a sample merged into the batch axis come first."""
        tensor = value.value if isinstance(value, Traced) else value
        axis = value.batch_axis if isinstance(value, Traced) else batch_axis
        rows, rest = divmod(tensor.shape[axis], self.samples)
        sizes = (*tensor.shape[:axis], *tensor.shape[axis + 1 :])
        if rest:
            return ()
        return sizes if rows == 1 and sizes else (rows, *sizes)

    def merged(self, value: Traced) -> bool:
        """Whether the batch axis also holds rows of a sample."""
        return value.value.shape[value.batch_axis] != self.samples

    def sample_axis(self, value: Traced, axis: int) -> int:
        """An axis of torch as one of the sample; -1 for the batch."""
        axis = axis % value.value.ndim
        if axis == value.batch_axis:
            return 0 if self.merged(value) else -1
        before = axis - (axis > value.batch_axis)
        return before + self.merged(value)

    def layer(
        self,
        op: str,
        inputs: Sequence[Any],
        value: Tensor,
        *,
        name: str = "",
        shape: tuple[int, ...] | None = None,
        batch_axis: int = 0,
        **rest: Any,
    ) -> Traced | None:
        """Add a layer; its inputs may be weights and constants too."""
        sample = self.shape(value, batch_axis) if shape is None else shape
        if not sample:
            return None
        names = tuple(self._source(one) for one in inputs)
        name = name or self.walk.free_name(self.path, op)
        spec = LayerSpec(
            name=name,
            op=op,
            out_shape=sample,
            inputs=() if names == ("input",) else names,
            **rest,
        )
        return Traced(name=self.walk.append(spec), value=value, batch_axis=batch_axis)

    def _source(self, one: Any) -> str:
        if isinstance(one, Traced):
            return one.name
        if isinstance(one, Weight):
            return self.parameter(one)
        return constant(self, one)

    def parameter(self, weight: Weight) -> str:
        """A layer that is a weight's values, one sample of them."""
        value = _one_sample(self, weight.value)
        key = f"{weight.path} {tuple(value.shape)} {value.storage_offset()}"
        if key in self.walk.sources:
            return str(self.walk.sources[key])
        args = () if value.numel() == weight.whole.numel() else (weight.whole.numel(),)
        name = self.weighted(weight, weight.path)
        self.walk.sources[key] = self.walk.append(
            LayerSpec(name=name, op="parameter", out_shape=tuple(value.shape), args=args)
        )
        self.walk.state[f"{name}.weight"] = value
        return name

    def weighted(self, weight: Weight, name: str) -> str:
        """The name of a layer with a weight; a weight used twice has no counterpart."""
        if weight.path in self.walk.weighted_by:
            first = self.walk.weighted_by[weight.path]
            op = f"a second use of {weight.path} (as in {first})"
            self.walk.unknown.setdefault(op, set()).add(self.path)
            return str(self.walk.free_name(self.path, "again"))
        self.walk.weighted_by[weight.path] = name
        self.walk.used.append((weight.path,))
        return name

    def keep(self, name: str, **tensors: Weight | Tensor | None) -> None:
        """Values of a layer's parameters and buffers."""
        for part, tensor in tensors.items():
            if isinstance(tensor, Weight):
                self.walk.used.append((tensor.path,))
            if tensor is not None:
                value = tensor.value if isinstance(tensor, Weight) else tensor
                self.walk.state[f"{name}.{part}"] = value

    def view(self, source: Traced, value: Tensor, **to: Any) -> Traced | None:
        """A reshape, behind a copy where torch makes one."""
        return self.layer("reshape", [self.copied(source, value)], value, **to)

    def copied(self, source: Traced, value: Tensor) -> Traced:
        """The tensor itself, or a copy of it where `value` has memory of its own."""
        if _same_memory(source.value, value):
            return source
        made = self.layer("copy", [source], source.value, batch_axis=source.batch_axis)
        return source if made is None else made


def _same_memory(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _one_sample(step: Step, value: Tensor) -> Tensor:
    """Values beside a batch as those of one sample, without the batch's own axis."""
    result = step.value[0] if isinstance(step.value, list | tuple) else step.value
    if value.ndim < result.ndim:
        return value
    if len(value) in (1, step.samples):
        return value[0]
    return value[: len(value) // step.samples] if len(value) == len(result) else value


def constant(step: Step, value: Tensor) -> str:
    """A layer of fixed values."""
    value = _one_sample(step, value)
    value = value.reshape(1) if value.ndim == 0 else value
    name = step.walk.free_name(step.path, "constant")
    step.walk.append(LayerSpec(name=name, op="constant", out_shape=tuple(value.shape)))
    step.walk.state[f"{name}.values"] = value
    return str(name)


def _stem(weight: Weight) -> str:
    return weight.path.rpartition(".")[0]


def _own(*weights: Any) -> bool:
    """Whether these are whole parameters, or none."""
    return all(
        one is None or (isinstance(one, Weight) and one.value is one.whole) for one in weights
    )


def _pair(value: Any) -> tuple[int, int] | None:
    numbers = [value] if isinstance(value, int) else list(value)
    return (numbers[0], numbers[-1]) if len(numbers) <= 2 else None


# weighted layers


def _conv2d(
    step: Step,
    x: Traced,
    weight: Weight,
    bias: Weight | None = None,
    stride: Any = (1, 1),
    padding: Any = (0, 0),
    dilation: Any = (1, 1),
    groups: int = 1,
) -> Traced | None:
    return _convolution(step, "conv2d", x, weight, bias, stride, padding, dilation, groups)


def _convolution(
    step: Step,
    op: str,
    x: Traced,
    weight: Weight,
    bias: Weight | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    **rest: Any,
) -> Traced | None:
    value = step.value
    sides = tuple(weight.value.shape[2:])
    strides, pads = _pair(stride), _padding(padding, sides, dilation)
    if step.merged(x) or not _own(weight, bias) or strides is None or pads is None:
        return None
    flat = x.value.ndim == 3
    if not flat and strides[0] != strides[1]:
        return None
    if flat:
        channels, length = step.shape(x)
        x_in = step.layer("reshape", [x], x.value, shape=(channels, 1, length))
    else:
        x_in = x
    name = step.weighted(weight, _stem(weight))
    made = step.layer(
        op,
        [x_in],
        value,
        name=name,
        shape=(value.shape[1], *(1,) * flat, *value.shape[2:]),
        kernel=(1, *sides) if flat else sides,
        stride=strides[0],
        padding=(0, pads[0]) if flat else pads,
        dilation=(1, _pair(dilation)[0]) if flat else _pair(dilation),  # type: ignore[index]
        groups=groups,
        has_bias=bias is not None,
        **rest,
    )
    kernel = weight.value.unsqueeze(2) if flat else weight.value
    step.keep(name, weight=kernel, bias=bias)
    return step.layer("reshape", [made], value) if flat else made


def _padding(padding: Any, sides: tuple[int, ...], dilation: Any) -> tuple[int, int] | None:
    """Rows and columns around; `same` has a counterpart where both ends get as many."""
    if padding == "valid":
        return (0, 0)
    if padding != "same":
        return _pair(padding)
    reach = _pair(dilation) or (1, 1)
    around = [by * (side - 1) for by, side in zip((reach[0], reach[-1]), sides, strict=False)]
    return None if any(both % 2 for both in around) else _pair([both // 2 for both in around])


def _conv_transpose2d(
    step: Step,
    x: Traced,
    weight: Weight,
    bias: Weight | None = None,
    stride: Any = (1, 1),
    padding: Any = (0, 0),
    output_padding: Any = (0, 0),
    groups: int = 1,
    dilation: Any = (1, 1),
) -> Traced | None:
    more = _pair(output_padding) or (0, 0)
    args = (0, more[0]) if x.value.ndim == 3 else more
    rest = (stride, padding, dilation, groups)
    return _convolution(step, "conv_transpose2d", x, weight, bias, *rest, args=args)


def _linear(step: Step, x: Traced, weight: Weight, bias: Weight | None = None) -> Traced | None:
    return _matrix(step, x, weight, bias, weight.value)


def _matrix(
    step: Step, x: Traced, weight: Weight, bias: Weight | None, matrix: Tensor
) -> Traced | None:
    """A linear layer; torch copies inputs whose rows it cannot see as one matrix."""
    if not _own(weight, bias) or x.batch_axis:
        return None
    x = step.copied(x, x.value.reshape(-1, x.value.shape[-1]))
    name = step.weighted(weight, _stem(weight))
    sample = step.shape(step.value)
    if not sample:
        return None
    made = step.layer(
        "linear", [x], step.value, name=name, axis=len(sample) - 1, has_bias=bias is not None
    )
    step.keep(name, weight=matrix, bias=bias)
    return made


def _addmm(step: Step, bias: Weight, x: Traced, weight: Weight) -> Traced | None:
    """GPT-2's linear layers have their inputs in front."""
    if not isinstance(bias, Weight) or not isinstance(weight, Weight):
        return None
    return _matrix(step, x, weight, bias, weight.value.T)


def _embedding(
    step: Step, weight: Weight, indices: Any, *_rest: Any, **_options: Any
) -> Traced | Weight | None:
    value = step.value
    if not isinstance(indices, Traced):
        return replace(weight, value=value)
    if indices.name != "input" or not _own(weight):
        return None
    name = step.weighted(weight, _stem(weight))
    rank = len(step.shape(value))
    step.keep(name, weight=weight)
    return step.layer(
        "embedding", [indices], value, name=name, axis=rank - 1, args=(len(weight.value),)
    )


def _recurrent(
    step: Step, x: Traced, start: Any, params: list[Weight], biases: bool, depth: int, *rest: Any
) -> Any:
    _dropout, _train, both, first = rest
    value = step.value
    if not first or not _own(*params) or len(step.shape(x)) != 2:
        return None
    hidden = params[0].value.shape[0] // {"gru": 3, "lstm": 4}[step.op]
    name = step.weighted(params[0], _stem(params[0]))
    for weight in params:
        part = weight.path.rpartition(".")[2]
        step.keep(name, **{f"cells.{part}": weight})
    args = (hidden, depth, 1 + bool(both), int(biases))
    made = step.layer(step.op, [x], value[0], name=name, axis=1, args=args)
    return [made]


# norms


def _epsilon(eps: float) -> tuple[float, ...]:
    return () if eps == EPSILON else (eps,)


def _batch_norm(
    step: Step,
    x: Traced,
    weight: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    training: bool,
    momentum: float,
    eps: float,
    *rest: Any,
) -> Traced | None:
    if weight is None or bias is None or mean is None or not _own(weight, bias) or step.merged(x):
        return None
    name = step.weighted(weight, _stem(weight))
    step.keep(name, weight=weight, bias=bias, running_mean=mean, running_var=variance)
    return step.layer("batchnorm", [x], step.value, name=name, args=_epsilon(eps))


def _group_norm(
    step: Step,
    x: Traced,
    groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = EPSILON,
    *rest: Any,
) -> Traced | None:
    if weight is None or bias is None or not _own(weight, bias) or step.merged(x):
        return None
    name = step.weighted(weight, _stem(weight))
    step.keep(name, weight=weight, bias=bias)
    return step.layer("groupnorm", [x], step.value, name=name, groups=groups, args=_epsilon(eps))


def _layer_norm(
    step: Step,
    x: Traced,
    shape: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = EPSILON,
    *rest: Any,
) -> Traced | None:
    if len(shape) != 1 or weight is None or not _own(weight, bias) or x.batch_axis:
        return None
    name = step.weighted(weight, _stem(weight))
    step.keep(name, weight=weight, bias=bias)
    axis = len(step.shape(x)) - 1
    return step.layer(
        "layernorm", [x], step.value, name=name, axis=axis, has_bias=bias is not None, args=_epsilon(eps)
    )


# activations and arithmetic


def _activation(op: str) -> Callable[..., Any]:
    def handle(step: Step, x: Traced) -> Traced | None:
        return step.layer(op, [x], step.value, batch_axis=x.batch_axis)

    return handle


def _hardtanh(step: Step, x: Traced, low: float = -1.0, high: float = 1.0) -> Traced | None:
    if (low, high) != (0.0, 6.0):
        return None
    return step.layer("relu6", [x], step.value, batch_axis=x.batch_axis)


def _gelu(step: Step, x: Traced, approximate: str = "none") -> Traced | None:
    op = "gelu_tanh" if approximate == "tanh" else "gelu"
    return step.layer(op, [x], step.value)


def _sloped(op: str, default: float) -> Callable[..., Any]:
    def handle(step: Step, x: Traced, slope: float = default, *rest: Any) -> Traced | None:
        if any(one != 1 for one in rest):
            return None
        return step.layer(op, [x], step.value, args=(float(slope),))

    return handle


def _pow(step: Step, x: Any, exponent: Any) -> Traced | None:
    if not isinstance(x, Traced) or not isinstance(exponent, int | float):
        return None
    return step.layer("power", [x], step.value, args=(float(exponent),))


def _softmax(step: Step, x: Traced, axis: int, *rest: Any) -> Traced | None:
    return step.layer(
        "softmax", [x], step.value, axis=step.sample_axis(x, axis)
    )


def _glu(step: Step, x: Traced, axis: int = -1) -> Traced | None:
    return step.layer("glu", [x], step.value, axis=step.sample_axis(x, axis))


def _scaled(step: Step, x: Traced, value: Tensor, factor: float, summand: float) -> Traced | None:
    return step.layer("scale", [x], value, batch_axis=x.batch_axis, args=(factor, summand))


def _add(step: Step, one: Any, other: Any, alpha: float = 1) -> Traced | None:
    return _sum(step, one, other, step.value) if alpha == 1 else None


def _sum(step: Step, one: Any, other: Any, value: Tensor) -> Traced | None:
    if not isinstance(one, Traced):
        one, other = other, one
    number = _number(other)
    if number is not None:
        return _scaled(step, one, value, 1.0, number)
    if isinstance(other, Traced) and step.shape(one) == step.shape(other):
        return step.layer("add", [one, other], value)
    if step.shape(one) != step.shape(value):
        one, other = other, one
    if not isinstance(one, Traced) or step.shape(one) != step.shape(value):
        return None
    return step.layer("shift", [one, other], value)


def _sub(step: Step, one: Any, other: Any, alpha: float = 1) -> Traced | None:
    value, number = step.value, _number(other)
    number = _number(other)
    if isinstance(one, Traced) and number is not None:
        return _scaled(step, one, value, 1.0, -alpha * number)
    if not isinstance(other, Traced):
        return None
    number = _number(one)
    if number is not None:
        return _scaled(step, other, value, -float(alpha), number)
    negative = _scaled(step, other, -alpha * other.value, -float(alpha), 0.0)
    return _sum(step, one, negative, value)


def _mul(step: Step, one: Any, other: Any) -> Traced | None:
    if not isinstance(one, Traced):
        one, other = other, one
    number = _number(other)
    if number is not None:
        return _scaled(step, one, step.value, number, 0.0)
    return step.layer("mul", [one, other], step.value)


def _div(step: Step, one: Any, other: Any) -> Traced | None:
    number = _number(other)
    if number is None or not isinstance(one, Traced):
        return None
    return _scaled(step, one, step.value, 1.0 / number, 0.0)


def _number(value: Any) -> float | None:
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        return float(value)
    return float(value) if isinstance(value, int | float) else None


def _matmul(step: Step, one: Any, other: Any) -> Traced | None:
    """Torch multiplies stacks of matrices and copies operands it cannot see as such."""
    if isinstance(other, Weight) and isinstance(one, Traced):
        return _matrix(step, one, other, None, other.value.T) if other.value.ndim == 2 else None
    if not isinstance(one, Traced) or not isinstance(other, Traced):
        return None
    if one.value.ndim != other.value.ndim or min(len(step.shape(x)) for x in (one, other)) < 2:
        return None
    parts = [step.copied(x, x.value.reshape(-1, *x.value.shape[-2:])) for x in (one, other)]
    return step.layer("matmul", parts, step.value)


def _attention(
    step: Step,
    query: Traced,
    key: Traced,
    value: Traced,
    mask: Any = None,
    dropout: float = 0.0,
    causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Traced | None:
    parts: list[Any] = [query, key, value]
    if dropout or enable_gqa or any(not isinstance(one, Traced) for one in parts):
        return None
    factor = query.value.shape[-1] ** -0.5 if scale is None else scale
    if mask is not None:
        parts.append(mask if isinstance(mask, Weight) else _additive(mask))
    args = (factor, 1.0) if causal else (factor,)
    return step.layer("attention", parts, step.value, args=args)


def _additive(mask: Tensor) -> Tensor:
    """What a mask adds to the scores."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))


# pools


def _adaptive(step: Step, x: Traced, size: Any) -> Traced | None:
    sizes = [size] if isinstance(size, int) else list(size)
    if any(side != 1 for side in sizes) or step.merged(x):
        return None
    axes = tuple(range(1, len(step.shape(x))))
    return step.layer("mean", [x], step.value, args=axes)


def _mean(
    step: Step, x: Traced, axes: Any = None, keepdim: bool = False, **options: Any
) -> Traced | None:
    if axes is None or options.get("dtype") is not None:
        return None
    taken = tuple(step.sample_axis(x, axis) for axis in axes)
    return None if -1 in taken else step.layer("mean", [x], step.value, args=taken)


def _avg_pool2d(
    step: Step, x: Traced, kernel: Any, stride: Any = None, padding: Any = 0, *rest: Any
) -> Traced | None:
    sides, pads = _pair(kernel), _pair(padding)
    strides = _pair(stride) if stride else sides
    if sides is not None and pads == (0, 0) and step.value.shape[2:] == (1, 1):
        height, width = x.value.shape[2:]  # a larger window ends with the image
        sides = strides = (min(sides[0], height), min(sides[1], width))
        rest = ()
    if strides != sides or pads != (0, 0) or any(rest[:1]) or step.merged(x):
        return None
    return step.layer("avgpool", [x], step.value, kernel=sides)


def _max_pool2d(
    step: Step,
    x: Traced,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Traced | None:
    sides = _pair(kernel)
    strides = _pair(stride) if stride else sides
    if strides is None or strides[0] != strides[1] or ceil_mode or step.merged(x):
        return None
    return step.layer(
        "maxpool",
        [x],
        step.value,
        kernel=sides,
        stride=strides[0],
        padding=_pair(padding),
        dilation=_pair(dilation),
    )


# shapes


def _same(step: Step, x: Any, *_: Any, **options: Any) -> Any:
    """Nothing in evaluation, or the same tensor again."""
    return x


def _cast(step: Step, x: Traced, *args: Any, **options: Any) -> Any:
    return x if step.value.dtype == x.value.dtype else None


def _contiguous(step: Step, x: Traced, *args: Any, **options: Any) -> Traced | None:
    if _same_memory(x.value, step.value):
        return x
    return step.layer("copy", [x], step.value, batch_axis=x.batch_axis)


def _reshape(step: Step, x: Traced, *args: Any) -> Traced | None:
    if step.value.shape == x.value.shape and _same_memory(x.value, step.value):
        return x
    return None if x.batch_axis else step.view(x, step.value)


def _expand(step: Step, x: Traced, *args: Any, **options: Any) -> Traced | None:
    return x if step.value.shape == x.value.shape else None


def _permute(step: Step, x: Traced, order: Sequence[int]) -> Traced | None:
    return _turned(step, x, step.value, [axis % x.value.ndim for axis in order])


def _transpose(step: Step, x: Traced, one: int, other: int) -> Traced | None:
    rank = x.value.ndim
    order = list(range(rank))
    order[one % rank], order[other % rank] = order[other % rank], order[one % rank]
    return _turned(step, x, step.value, order)


def _turned(step: Step, x: Traced, value: Tensor, order: list[int]) -> Traced | None:
    batch_axis = order.index(x.batch_axis)
    if step.merged(x) and batch_axis:
        return None
    axes = [step.sample_axis(x, axis) for axis in order]
    moved = tuple(axis for axis in axes if axis >= 0)
    return step.layer("transpose", [x], value, batch_axis=batch_axis, args=moved)


def _slice(
    step: Step, x: Traced, dim: int = 0, start: Any = None, end: Any = None, stride: int = 1
) -> Traced | None:
    value = step.value
    if value.shape == x.value.shape:
        return x
    return _part(step, x, value, dim, *slice(start, end, stride).indices(x.value.shape[dim]))


def _part(
    step: Step, x: Traced, value: Tensor, dim: int, start: int, stop: int, stride: int = 1
) -> Traced | None:
    axis = step.sample_axis(x, dim)
    if axis < 0 or (step.merged(x) and dim % x.value.ndim == x.batch_axis):
        return None
    args = (start, stop, stride)
    return step.layer("slice", [x], value, batch_axis=x.batch_axis, axis=axis, args=args)


def _select(step: Step, x: Traced, dim: int, index: int) -> Traced | None:
    index, dim = index % x.value.shape[dim], dim % x.value.ndim
    kept = x.value.narrow(dim, index, 1)
    part = _part(step, x, kept, dim, index, index + 1)
    value = x.value.select(dim, index)
    batch_axis = x.batch_axis - (dim < x.batch_axis)
    return None if part is None else step.layer("reshape", [part], value, batch_axis=batch_axis)


def _split(step: Step, x: Traced, _sizes: Any, dim: int = 0) -> list[Any] | None:
    start, found = 0, []
    for value in step.value:
        stop = start + value.shape[dim]
        found.append(_part(step, x, value, dim, start, stop))
        start = stop
    return None if None in found else found


def _unbind(step: Step, x: Traced, dim: int = 0) -> list[Any] | None:
    found = [_select(step, x, dim, index) for index in range(x.value.shape[dim])]
    return None if None in found else found


def _cat(step: Step, tensors: Sequence[Any], dim: int = 0) -> Traced | None:
    first = next(one for one in tensors if isinstance(one, Traced))
    axis = step.sample_axis(first, dim)
    if axis < 0 or first.batch_axis or step.merged(first):
        return None
    return step.layer("concat", tensors, step.value, axis=axis)


def _pad(
    step: Step, x: Traced, ends: Sequence[int], mode: Any = "constant", number: Any = None
) -> Traced | None:
    """Zeros around; `constant_pad_nd` has its number in the place of the mode."""
    if mode not in ("constant", 0) or number or x.batch_axis:
        return None
    if not any(ends):
        return step.layer("copy", [x], step.value)
    pairs = list(zip(ends[::2], ends[1::2], strict=True))[::-1]
    rank = len(step.shape(x))
    args = (0,) * 2 * (rank - len(pairs)) + tuple(number for pair in pairs for number in pair)
    return step.layer("pad", [x], step.value, args=args) if min(args) >= 0 else None


def _roll(step: Step, x: Traced, shifts: Sequence[int], dims: Sequence[int] = ()) -> Traced | None:
    axes = [step.sample_axis(x, dim) for dim in dims]
    if -1 in axes or len(axes) != len(shifts):
        return None
    args = [0] * len(step.shape(x))
    for axis, shift in zip(axes, shifts, strict=True):
        args[axis] = shift
    return step.layer("roll", [x], step.value, args=tuple(args))


def _value(one: Any) -> Any:
    return one.value if isinstance(one, Traced | Weight) else one


HANDLERS: dict[str, Callable[..., Any]] = {
    "conv1d": _conv2d,
    "conv2d": _conv2d,
    "conv_transpose1d": _conv_transpose2d,
    "conv_transpose2d": _conv_transpose2d,
    "linear": _linear,
    "addmm": _addmm,
    "embedding": _embedding,
    "gru": _recurrent,
    "lstm": _recurrent,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    **{op: _activation(op) for op in ("relu", "relu6", "silu", "hardswish", "hardsigmoid")},
    **{op: _activation(op) for op in ("sigmoid", "tanh")},
    "hardtanh": _hardtanh,
    "gelu": _gelu,
    "leaky_relu": _sloped("leaky_relu", 0.01),
    "elu": _sloped("elu", 1.0),
    "pow": _pow,
    "softmax": _softmax,
    "glu": _glu,
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "matmul": _matmul,
    "bmm": _matmul,
    "scaled_dot_product_attention": _attention,
    "adaptive_avg_pool1d": _adaptive,
    "adaptive_avg_pool2d": _adaptive,
    "mean": _mean,
    "avg_pool2d": _avg_pool2d,
    "max_pool2d": _max_pool2d,
    **dict.fromkeys(("dropout", "feature_dropout", "alias", "detach", "lift_fresh"), _same),
    **dict.fromkeys(("to", "_to_copy"), _cast),
    **dict.fromkeys(("contiguous", "clone"), _contiguous),
    **dict.fromkeys(("reshape", "view", "flatten", "unsqueeze", "squeeze", "unflatten"), _reshape),
    "expand": _expand,
    "permute": _permute,
    "transpose": _transpose,
    "slice": _slice,
    "select": _select,
    "split": _split,
    "split_with_sizes": _split,
    "chunk": _split,
    "unbind": _unbind,
    "cat": _cat,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "roll": _roll,
}
