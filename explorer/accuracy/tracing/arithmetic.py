"""Exported activations, sums, products and attention; handlers as in layers.py."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from explorer.accuracy.tracing.layers import matrix
from explorer.accuracy.tracing.step import Place, Step, Traced, Weight, stem
from explorer.layer import PLAIN, SOFTMAX


def _activation(op: str) -> Callable[..., Any]:
    def handle(step: Step, x: Traced) -> Traced | None:
        return step.layer(op, [x], step.value, place=x.place)

    return handle


def _hardtanh(step: Step, x: Traced, low: float = -1.0, high: float = 1.0) -> Traced | None:
    if (low, high) != (0.0, 6.0):
        return _clamp(step, x, low, high)
    return step.layer("relu6", [x], step.value, place=x.place)


def _clamp(step: Step, x: Traced, low: Any = None, high: Any = None) -> Traced | None:
    limits = [limit for limit in (low, high) if limit is not None]
    if low is None or not all(isinstance(limit, int | float) for limit in limits):
        return None
    return step.layer("clip", [x], step.value, args=tuple(float(limit) for limit in limits))


def _prelu(step: Step, x: Traced, weight: Any) -> Traced | None:
    is_whole = isinstance(weight, Weight) and weight.value.numel() == weight.whole.numel()
    if not is_whole or step.merged(x):
        return None
    name = step.weighted(weight, stem(weight))
    step.keep(name, weight=weight)
    return step.layer("prelu", [x], step.value, name=name, args=(weight.value.numel(),))


def _gelu(step: Step, x: Traced, approximate: str = "none") -> Traced | None:
    op = "gelu_tanh" if approximate == "tanh" else "gelu"
    return step.layer(op, [x], step.value, place=x.place)


def _sloped(op: str, default: float) -> Callable[..., Any]:
    def handle(step: Step, x: Traced, slope: float = default, *rest: Any) -> Traced | None:
        if any(one != 1 for one in rest):
            return None
        return step.layer(op, [x], step.value, args=(float(slope),))

    return handle


def _softplus(step: Step, x: Traced, beta: float = 1, threshold: float = 20) -> Traced | None:
    return step.layer("softplus", [x], step.value, args=(beta,)) if threshold == 20 else None


def _pow(step: Step, x: Any, exponent: Any) -> Traced | None:
    if not isinstance(x, Traced) or not isinstance(exponent, int | float):
        return None
    return step.layer("power", [x], step.value, args=(float(exponent),))


def _softmax(step: Step, x: Traced, axis: int, *rest: Any) -> Traced | None:
    op = step.op.removeprefix("_")
    return step.layer(op, [x], step.value, axis=step.sample_axis(x, axis))


def _glu(step: Step, x: Traced, axis: int = -1) -> Traced | None:
    return step.layer("glu", [x], step.value, axis=step.sample_axis(x, axis))


def _scaled(step: Step, x: Traced, value: Tensor, factor: float, summand: float) -> Traced | None:
    return step.layer("scale", [x], value, place=x.place, args=(factor, summand))


def _add(step: Step, one: Any, other: Any, alpha: float = 1) -> Traced | None:
    return _sum(step, one, other, step.value) if alpha == 1 else None


def _sum(step: Step, one: Any, other: Any, value: Tensor) -> Traced | None:
    if not isinstance(one, Traced):
        one, other = other, one
    number = _number(other)
    if number is not None:
        return _scaled(step, one, value, 1.0, number)
    if isinstance(other, Traced) and step.shape(one) == step.shape(other):
        return step.layer("add", [one, other], value, place=one.place)
    if step.shape(one) != step.shape(value, one.place):
        one, other = other, one
    if not isinstance(one, Traced) or step.shape(one) != step.shape(value, one.place):
        return None
    return step.layer("shift", [one, other], value, place=one.place)


def _sub(step: Step, one: Any, other: Any, alpha: float = 1) -> Traced | None:
    value, number = step.value, _number(other)
    if isinstance(one, Traced) and number is not None:
        return _scaled(step, one, value, 1.0, -alpha * number)
    if not isinstance(other, Traced):
        return None
    number = _number(one)
    if number is not None:
        return _scaled(step, other, value, -float(alpha), number)
    negative = _scaled(step, other, -alpha * other.value, -float(alpha), 0.0)
    return None if negative is None else _sum(step, one, negative, value)


def _rsub(step: Step, one: Any, other: Any, alpha: float = 1) -> Traced | None:
    return _sub(step, other, one, alpha)


def _mul(step: Step, one: Any, other: Any) -> Traced | None:
    if not isinstance(one, Traced):
        one, other = other, one
    number = _number(other)
    if number is not None:
        return _scaled(step, one, step.value, number, 0.0)
    return step.layer("mul", [one, other], step.value, place=_place(one, other))


def _place(*operands: Any) -> Place:
    return next(one.place for one in operands if isinstance(one, Traced))


def _div(step: Step, one: Any, other: Any) -> Traced | None:
    number = _number(other)
    if number is not None and isinstance(one, Traced):
        return _scaled(step, one, step.value, 1.0 / number, 0.0)
    return step.layer("div", [one, other], step.value, place=_place(one, other))


def _number(value: Any) -> float | None:
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        return float(value)
    return float(value) if isinstance(value, int | float) else None


def _matmul(step: Step, one: Any, other: Any) -> Traced | None:
    """Torch multiplies stacks of matrices and copies operands it cannot see as such."""
    if isinstance(other, Weight) and isinstance(one, Traced):
        return matrix(step, one, other, None, other.value.T) if other.value.ndim == 2 else None
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
    if isinstance(mask, Weight):
        parts.append(mask)
    elif mask is not None:
        added = _additive(mask)
        causal = _is_causal(added)
        if added.any() and not causal:
            parts.append(added)
    args = (factor, 1.0) if causal else (factor,)
    return step.layer("attention", parts, step.value, args=args)


def _additive(mask: Tensor) -> Tensor:
    """What a mask adds to the scores."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))


def _is_causal(added: Tensor) -> bool:
    """Whether a mask hides from each position all later ones, and nothing else."""
    rows, columns = added.shape[-2:]
    later = torch.full((rows, columns), float("-inf")).triu(1)
    return rows == columns and bool((added == later).all())


HANDLERS: dict[str, Callable[..., Any]] = {
    **{op: _activation(op) for op in ("relu", "relu6", "silu", "hardswish", "hardsigmoid")},
    **{op: _activation(op) for op in ("sigmoid", "tanh", "mish", "selu", *PLAIN)},
    "hardtanh": _hardtanh,
    "gelu": _gelu,
    "leaky_relu": _sloped("leaky_relu", 0.01),
    "elu": _sloped("elu", 1.0),
    "celu": _sloped("celu", 1.0),
    "softplus": _softplus,
    "prelu": _prelu,
    **dict.fromkeys(("clamp", "clamp_min"), _clamp),
    "neg": lambda step, x: _scaled(step, x, step.value, -1.0, 0.0),
    "pow": _pow,
    **dict.fromkeys((*SOFTMAX, *(f"_{name}" for name in SOFTMAX)), _softmax),
    "glu": _glu,
    "add": _add,
    "sub": _sub,
    "rsub": _rsub,
    "mul": _mul,
    "div": _div,
    "matmul": _matmul,
    "bmm": _matmul,
    "scaled_dot_product_attention": _attention,
}
