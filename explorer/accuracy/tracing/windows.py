"""Exported pools, means, sums and resized images; handlers as in layers.py."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from explorer.accuracy.tracing.step import Step, Traced, pair


def _windows(
    step: Step, op: str, x: Traced, value: Tensor, kernel: Sequence[int] = (1, 1), **rest: Any
) -> Traced | None:
    """An operator over an image, or over a signal as an image of one row."""
    if step.merged(x):
        return None
    if value.ndim == 4:
        return step.layer(op, [x], value, kernel=tuple(kernel), **rest)
    channels, length = step.shape(x)
    row = step.layer("reshape", [x], x.value, shape=(channels, 1, length))
    shape = (channels, 1, value.shape[2])
    rest |= {name: (1, rest[name][0]) for name in ("stride", "dilation") if name in rest}
    rest |= {name: (0, rest[name][0]) for name in ("padding",) if name in rest}
    made = step.layer(op, [row], value, shape=shape, kernel=(1, kernel[0]), **rest)
    return step.layer("reshape", [made], value)


def _adaptive(step: Step, x: Traced, _size: Any) -> Traced | None:
    """A mean, or windows side by side where the sides can be divided."""
    sides, wanted = x.value.shape[2:], step.value.shape[2:]
    if all(side == 1 for side in wanted):
        axes = tuple(range(1, len(step.shape(x))))
        return None if step.merged(x) else step.layer("mean", [x], step.value, args=axes)
    if any(one % other for one, other in zip(sides, wanted, strict=True)):
        return None
    kernel = [one // other for one, other in zip(sides, wanted, strict=True)]
    return _windows(step, "avgpool", x, step.value, kernel)


def _largest(step: Step, x: Traced, _size: Any) -> list[Any] | None:
    """The largest of a whole image or signal; of where it is no reader is known."""
    value, sides = step.value[0], tuple(x.value.shape[2:])
    if any(side != 1 for side in value.shape[2:]):
        return None
    made = _windows(step, "maxpool", x, value, sides, stride=sides)
    return None if made is None else [made]


def _avg_pool(
    step: Step,
    x: Traced,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    _ceil_mode: bool = False,
    counts_padding: bool = True,
    divisor: Any = None,
) -> Traced | None:
    sides, pads = pair(kernel), pair(padding)
    steps = pair(stride) if stride else sides
    size, wanted = x.value.shape[2:], step.value.shape[2:]
    if sides is None or pads is None or steps is None or divisor is not None:
        return None
    ends = [min(both) for both in zip(sides, size, strict=False)]
    windows = [one // span for one, span in zip(size, ends, strict=True)]
    if pads == (0, 0) and windows == list(wanted) and set(windows) == {1}:
        return _windows(step, "avgpool", x, step.value, ends)  # a larger one ends with the image
    floors = [
        (one + 2 * pad - span) // by + 1
        for one, pad, span, by in zip(size, pads, sides, steps, strict=False)
    ]
    if floors != list(wanted):
        return None
    if pads == (0, 0) and steps == sides:
        return _windows(step, "avgpool", x, step.value, sides)
    rest = {"stride": steps, "padding": pads, "args": (int(counts_padding),)}
    return _windows(step, "avgpool", x, step.value, sides, **rest)


def _max_pool(
    step: Step,
    x: Traced,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    _ceil_mode: bool = False,
) -> Traced | None:
    sides = pair(kernel)
    steps = pair(stride) if stride else sides
    if sides is None or steps is None:
        return None
    rest = {"stride": steps, "padding": pair(padding), "dilation": pair(dilation)}
    return _windows(step, "maxpool", x, step.value, sides, **rest)


def _mean(
    step: Step, x: Traced, axes: Any = None, keepdim: bool = False, **options: Any
) -> Traced | None:
    if axes is None or options.get("dtype") is not None:
        return None
    taken = tuple(step.sample_axis(x, axis) for axis in axes)
    before = sum(axis % x.value.ndim < x.batch_axis for axis in axes)
    place = (x.batch_axis - before * (not keepdim), x.lead)
    return None if -1 in taken else step.layer("mean", [x], step.value, place=place, args=taken)


def _sum(
    step: Step, x: Traced, axes: Any = None, keepdim: bool = False, **options: Any
) -> Traced | None:
    """So many times the mean."""
    made = _mean(step, x, axes, keepdim, **options)
    if made is None:
        return None
    count = x.value.numel() // step.value.numel()
    return step.layer("scale", [made], step.value, place=made.place, args=(count, 0))


def _resized(op: str, *, corners: bool = False) -> Callable[..., Any]:
    """To any size; a factor that torch keeps must be that of the sizes."""

    def handle(step: Step, x: Traced, _size: Any, *rest: Any) -> Traced | None:
        *keeps_corners, factors = rest
        sides, wanted = x.value.shape[2:], step.value.shape[2:]
        scaled = [one * by for one, by in zip(sides, factors, strict=True)] if factors else wanted
        exact = list(scaled) == list(wanted)
        args = (1,) if corners and keeps_corners[0] else ()
        return _windows(step, op, x, step.value, args=args) if exact else None

    return handle


HANDLERS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d"), _adaptive),
    **dict.fromkeys(("adaptive_max_pool1d", "adaptive_max_pool2d"), _largest),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d"), _avg_pool),
    **dict.fromkeys(("max_pool1d", "max_pool2d"), _max_pool),
    "mean": _mean,
    "sum": _sum,
    **dict.fromkeys(("upsample_nearest1d", "upsample_nearest2d"), _resized("upsample_nearest")),
    **dict.fromkeys(
        ("upsample_linear1d", "upsample_bilinear2d"), _resized("upsample", corners=True)
    ),
}
