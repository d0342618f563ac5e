"""Exported views, copies and joins; handlers as in layers.py."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from explorer.accuracy.tracing.step import Step, Traced, same_memory


def _same(step: Step, x: Any, *_: Any, **options: Any) -> Any:
    """Nothing in evaluation, or the same tensor again."""
    return x


def _dropout(step: Step, x: Any, share: float, training: bool) -> Any:
    """Nothing in evaluation; a call may insist on training all the same."""
    return None if training and share else x


def _cast(step: Step, x: Traced, *args: Any, **options: Any) -> Any:
    return x if step.value.dtype == x.value.dtype else None


def _contiguous(step: Step, x: Traced, *args: Any, **options: Any) -> Traced | None:
    if same_memory(x.value, step.value):
        return x
    return step.layer("copy", [x], step.value, place=x.place)


def _reshape(step: Step, x: Traced, *args: Any) -> Traced | None:
    if step.value.shape == x.value.shape and same_memory(x.value, step.value):
        return x
    return step.view(x, step.value)


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
    if x.lead > 1:
        return None
    axes = [step.sample_axis(x, axis) for axis in order]
    moved = tuple(axis for axis in axes if axis >= 0)
    return step.layer("transpose", [x], value, place=(batch_axis, 1), args=moved)


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
    return step.layer("slice", [x], value, place=x.place, axis=axis, args=args)


def _select(step: Step, x: Traced, dim: int, index: int) -> Traced | None:
    index, dim = index % x.value.shape[dim], dim % x.value.ndim
    kept = x.value.narrow(dim, index, 1)
    part = _part(step, x, kept, dim, index, index + 1)
    value = x.value.select(dim, index)
    place = (x.batch_axis - (dim < x.batch_axis), x.lead)
    return None if part is None else step.layer("reshape", [part], value, place=place)


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
    return _joined(step, tensors, step.value, dim)


def _joined(step: Step, tensors: Sequence[Any], value: Tensor, dim: int) -> Traced | None:
    first = next(one for one in tensors if isinstance(one, Traced))
    axis = step.sample_axis(first, dim)
    alone = first.batch_axis and not all(isinstance(one, Traced) for one in tensors)
    if axis < 0 or alone or step.merged(first):
        return None
    return step.layer("concat", tensors, value, place=first.place, axis=axis)


def _stack(step: Step, tensors: Sequence[Any], dim: int = 0) -> Traced | None:
    """Each with an axis of its own, then joined along it."""
    dim %= step.value.ndim
    if not dim or any(not isinstance(one, Traced) or one.batch_axis for one in tensors):
        return None
    return _cat(step, [step.view(one, one.value.unsqueeze(dim)) for one in tensors], dim)


def _repeat(step: Step, x: Traced, times: Sequence[int]) -> Traced | None:
    """Joined with itself along each axis that is repeated."""
    if len(times) != x.value.ndim or times[x.batch_axis] != 1:
        return None
    made: Traced | None = x
    for dim, count in enumerate(times):
        if count > 1 and made is not None:
            value = torch.cat([made.value] * count, dim)
            made = _joined(step, [made] * count, value, dim)
    return made


def _pixel_shuffle(step: Step, x: Traced, factor: int) -> Traced | None:
    """Channels become places: the order of torch's own."""
    samples, _, rows, columns = x.value.shape
    parts = step.view(x, x.value.reshape(samples, -1, factor, factor, rows, columns))
    return _reordered(step, parts, [0, 1, 4, 2, 5, 3])


def _pixel_unshuffle(step: Step, x: Traced, factor: int) -> Traced | None:
    samples, channels, rows, columns = x.value.shape
    sizes = (samples, channels, rows // factor, factor, columns // factor, factor)
    return _reordered(step, step.view(x, x.value.reshape(sizes)), [0, 1, 3, 5, 2, 4])


def _channel_shuffle(step: Step, x: Traced, groups: int) -> Traced | None:
    samples, channels, *sides = x.value.shape
    parts = step.view(x, x.value.reshape(samples, groups, channels // groups, *sides))
    return _reordered(step, parts, [0, 2, 1, *range(3, x.value.ndim + 1)])


def _reordered(step: Step, parts: Traced | None, order: list[int]) -> Traced | None:
    """Axes in another order, then a copy of the shape the operator returned."""
    if parts is None:
        return None
    turned = _turned(step, parts, parts.value.permute(order), order)
    return None if turned is None else step.view(turned, turned.value.reshape(step.value.shape))


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


HANDLERS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("dropout", "feature_dropout"), _dropout),
    **dict.fromkeys(("alias", "detach", "lift_fresh"), _same),
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
    "stack": _stack,
    **dict.fromkeys(("repeat", "tile"), _repeat),
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "roll": _roll,
}
