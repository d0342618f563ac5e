"""Exported activations, sums, products and attention; handlers as in layers.py."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from explorer.accuracy.tracing.layers import matrix
from explorer.accuracy.tracing.step import Step, Traced, Weight


def _activation(op: str) -> Callable[..., Any]:
    def handle(step: Step, x: Traced) -> Traced | None:
        return step.layer(op, [x], step.value, place=x.place)

    return handle


def _hardtanh(step: Step, x: Traced, low: float = -1.0, high: float = 1.0) -> Traced | None:
    if (low, high) != (0.0, 6.0):
        return None
    return step.layer("relu6", [x], step.value, place=x.place)


def _gelu(step: Step, x: Traced, approximate: str = "none") -> Traced | None:
    op = "gelu_tanh" if approximate == "tanh" else "gelu"
    return step.layer(op, [x], step.value, place=x.place)


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
    return step.layer("softmax", [x], step.value, axis=step.sample_axis(x, axis))


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


def _mul(step: Step, one: Any, other: Any) -> Traced | None:
    if not isinstance(one, Traced):
        one, other = other, one
    number = _number(other)
    if number is not None:
        return _scaled(step, one, step.value, number, 0.0)
    return step.layer("mul", [one, other], step.value, place=one.place)


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
}
