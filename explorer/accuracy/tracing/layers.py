"""Exported operators with weights, and norms.

A handler takes a `Step` and the operator's own arguments and returns what it made, or None
where a form of the operator has no counterpart.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from explorer.accuracy.tracing.step import Step, Traced, Weight, is_own, pair, stem
from explorer.layer import CONVOLVE

EPSILON = 1e-5
ONE_OF_THREE = ("q_proj_weight", "k_proj_weight", "v_proj_weight")  # of one attention


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
    strides, pads = pair(stride), _padding(padding, sides, dilation)
    if step.merged(x) or not is_own(weight, bias) or strides is None:
        return None
    flat = x.value.ndim == 3
    if flat:
        channels, length = step.shape(x)
        x_in = step.layer("reshape", [x], x.value, shape=(channels, 1, length))
    else:
        x_in = x
    kernel = weight.value.unsqueeze(2) if flat else weight.value
    inputs: list[Traced | None] = [x_in]
    name = ""
    if weight.path in step.walk.shared:
        if op != "conv2d" or len(pads) > len(sides):
            return None
        op = CONVOLVE
        inputs.append(step.source(weight, kernel))
        inputs += [] if bias is None else [step.source(bias, bias.value)]
    else:
        name = step.weighted(weight, stem(weight))
        step.keep(name, weight=kernel, bias=bias)
    made = step.layer(
        op,
        inputs,
        value,
        name=name,
        shape=(value.shape[1], *(1,) * flat, *value.shape[2:]),
        kernel=(1, *sides) if flat else sides,
        stride=strides[0] if flat else strides,
        padding=(*(0,) * len(pads), *pads) if flat else pads,
        dilation=(1, pair(dilation)[0]) if flat else pair(dilation),  # type: ignore[index]
        groups=groups,
        has_bias=bias is not None and op != CONVOLVE,
        **rest,
    )
    return step.layer("reshape", [made], value) if flat else made


def _padding(padding: Any, sides: tuple[int, ...], dilation: Any) -> tuple[int, ...]:
    """Of each side, one number where both its ends get as many, else two."""
    if padding == "valid":
        return (0,) * len(sides)
    if padding != "same":
        return tuple(pair(padding) or ())[: len(sides)]
    reach = pair(dilation) or (1, 1)
    around = [by * (side - 1) for by, side in zip((reach[0], reach[-1]), sides, strict=False)]
    if not any(both % 2 for both in around):
        return tuple(both // 2 for both in around)
    return tuple(end for both in around for end in (both // 2, both - both // 2))


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
    more = pair(output_padding) or (0, 0)
    args = (0, more[0]) if x.value.ndim == 3 else more
    rest = (stride, padding, dilation, groups)
    return _convolution(step, "conv_transpose2d", x, weight, bias, *rest, args=args)


def _linear(step: Step, x: Traced, weight: Weight, bias: Weight | None = None) -> Traced | None:
    return matrix(step, x, weight, bias, weight.value)


def matrix(
    step: Step, x: Traced, weight: Weight, bias: Weight | None, rows: Tensor
) -> Traced | None:
    """A linear layer; torch copies inputs whose rows it cannot see as one matrix."""
    if x.batch_axis == x.value.ndim - 1:
        return None
    x = step.copied(x, x.value.reshape(-1, x.value.shape[-1]))
    is_alone = weight.path not in step.walk.shared and not weight.path.endswith(ONE_OF_THREE)
    if not is_alone or not is_own(weight, bias):
        return _tied(step, x, weight, bias, rows)
    name = step.weighted(weight, stem(weight))
    sample = step.shape(step.value, x.place)
    if not sample:
        return None
    made = step.layer(
        "linear",
        [x],
        step.value,
        name=name,
        place=x.place,
        axis=len(sample) - 1,
        has_bias=bias is not None,
    )
    step.keep(name, weight=rows, bias=bias)
    return made


def _tied(
    step: Step, x: Traced, weight: Weight, bias: Weight | None, rows: Tensor
) -> Traced | None:
    """A product with weights, or some of their rows, where others use them too."""
    table, summand = step.rows(weight), None if bias is None else step.rows(bias)
    is_whole = table is not None and (summand is not None or bias is None)
    if not is_whole or len(step.shape(x)) < 2:
        return None
    if rows is weight.value:
        turned = tuple(rows.T.shape)
        table = step.layer("transpose", [table], rows.T[None], shape=turned, args=(1, 0))
    made = step.layer("matmul", [x, table], step.value, place=x.place)
    if made is None or summand is None:
        return made
    return step.layer("shift", [made, summand], step.value, place=x.place)


def _addmm(step: Step, bias: Any, x: Traced, weight: Any) -> Traced | None:
    """GPT-2's linear layers have their inputs in front."""
    if not isinstance(bias, Weight) or not isinstance(weight, Weight):
        return None
    return matrix(step, x, weight, bias, weight.value.T)


def _embedding(
    step: Step, weight: Weight, indices: Any, *_rest: Any, **_options: Any
) -> Traced | Weight | None:
    value = step.value
    if not isinstance(indices, Traced):
        words = indices.untyped_storage().nbytes() // indices.element_size()
        return replace(weight, value=value, index_count=0 if step.walk.stores(indices) else words)
    if indices.name != "input" or not is_own(weight):
        return None
    if weight.path in step.walk.shared:
        return step.layer("lookup", [indices, step.source(weight, weight.value)], value)
    name = step.weighted(weight, stem(weight))
    rank = len(step.shape(value))
    step.keep(name, weight=weight)
    return step.layer(
        "embedding", [indices], value, name=name, axis=rank - 1, args=(len(weight.value),)
    )


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
    if training or mean is None or step.merged(x):
        return None
    if weight is None or bias is None or not is_own(weight, bias):
        return None
    name = step.weighted(weight, stem(weight))
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
    if step.merged(x):
        return None
    if weight is None and bias is None:
        samples, channels, *sides = x.value.shape
        parts = step.view(x, x.value.reshape(samples, groups, channels // groups, *sides))
        made = parts and _standardised(step, parts, parts.value, 1 + len(sides), eps)
        return made and step.layer("reshape", [made], step.value)
    return _scaled_groups(step, x, groups, weight, bias, _epsilon(eps))


def _instance_norm(
    step: Step,
    x: Traced,
    weight: Any,
    bias: Any,
    mean: Any,
    _variance: Any,
    own_statistics: bool,
    _momentum: float,
    eps: float,
    *_rest: Any,
) -> Traced | None:
    if step.merged(x) or (mean is not None and not own_statistics):
        return None
    if weight is None and bias is None:
        return _standardised(step, x, step.value, x.value.ndim - 2, eps)
    return _scaled_groups(step, x, x.value.shape[1], weight, bias, (eps, 1))


def _scaled_groups(
    step: Step, x: Traced, groups: int, weight: Any, bias: Any, args: tuple[float, ...]
) -> Traced | None:
    if weight is None or bias is None or not is_own(weight, bias):
        return None
    name = step.weighted(weight, stem(weight))
    step.keep(name, weight=weight, bias=bias)
    return step.layer("groupnorm", [x], step.value, name=name, groups=groups, args=args)


def _standardised(step: Step, x: Traced, value: Tensor, axes: int, eps: float) -> Traced | None:
    """A norm without parameters over the last axes."""
    return step.layer("standardise", [x], value, place=x.place, args=(eps, axes))


def _layer_norm(
    step: Step,
    x: Traced,
    shape: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = EPSILON,
    *_: Any,
) -> Traced | None:
    if x.batch_axis >= x.value.ndim - len(shape):
        return None
    if weight is None and bias is None:
        return _standardised(step, x, step.value, len(shape), eps)
    if len(shape) != 1 or weight is None or not is_own(weight, bias):
        return None
    name = step.weighted(weight, stem(weight))
    step.keep(name, weight=weight, bias=bias)
    axis = len(step.shape(x)) - 1
    return step.layer(
        "layernorm",
        [x],
        step.value,
        name=name,
        place=x.place,
        axis=axis,
        has_bias=bias is not None,
        args=_epsilon(eps),
    )


HANDLERS: dict[str, Callable[..., Any]] = {
    "conv1d": _conv2d,
    "conv2d": _conv2d,
    "conv_transpose1d": _conv_transpose2d,
    "conv_transpose2d": _conv_transpose2d,
    "linear": _linear,
    "addmm": _addmm,
    "embedding": _embedding,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "instance_norm": _instance_norm,
}
