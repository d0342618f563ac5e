"""Which output shape of an operator follows from the shapes of its inputs."""

from collections.abc import Callable, Sequence
from math import ceil, prod

from explorer.errors import SpecError
from explorer.layer import (
    ARGUMENTS,
    CONVOLVE,
    ELEMENTWISE,
    RECURRENT_GATES,
    SOURCES,
    LayerSpec,
    Shape,
)

INPUT_COUNTS = {
    **dict.fromkeys(SOURCES, range(1)),
    **dict.fromkeys(("add", "shift", "concat"), range(1, 10_000)),
    **dict.fromkeys(("mul", "div", "matmul", "lookup"), range(2, 3)),
    "attention": range(3, 5),
    CONVOLVE: range(2, 4),
}


def check_shape(layer: LayerSpec, inputs: Sequence[Shape]) -> None:
    """SpecError when an output shape does not follow from those of the inputs.

    Operators without a rule here pass; the cost model refuses them by name.
    """
    rule = _RULES.get(layer.op)
    if rule is None:
        return
    allowed = INPUT_COUNTS.get(layer.op, range(1, 2))
    if len(inputs) not in allowed:
        counts = " or ".join(str(count) for count in allowed[:2])
        raise SpecError.of(f"{layer.name}.inputs", len(inputs), f"{counts} of a {layer.op}")
    expected = rule(layer, inputs)
    if layer.out_shape != expected:
        raise SpecError.of(f"{layer.name}.out_shape", layer.out_shape, str(expected))


def is_rounded_up(layer: LayerSpec, images: Shape) -> bool:
    """Whether the output is of a maximum pool whose last windows may reach over the edge.

    A window counts where it begins inside the images or the padding before them. `images` is the
    input's (C, H, W); where both ways of rounding agree, the answer is yes.
    """
    if len(images) != 3:
        return False
    sides = zip(images[1:], _spans(layer), layer.pads, layer.strides, strict=True)
    rounded = (
        min(ceil((size + sum(pad) - span - 1) / stride), (size + pad[0] - 1) // stride) + 1
        for size, span, pad, stride in sides
    )
    return layer.out_shape == (images[0], *rounded)


def _same(_layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    return inputs[0]


def _conv(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    if len(inputs[0]) != 3:
        return inputs[0]
    _check_groups(layer, inputs)
    sides = zip(inputs[0][1:], _spans(layer), layer.pads, layer.strides, strict=True)
    return (
        layer.out_shape[0],
        *((size + sum(pad) - span - 1) // stride + 1 for size, span, pad, stride in sides),
    )


def _convolve(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    """The kernel is (out, in of a group, rows, columns), the bias (out,)."""
    images, out = inputs[0], layer.out_shape[0]
    wanted = (out, images[0] // layer.groups, *layer.kernel), (out,)
    if len(images) != 3 or any(one != want for one, want in zip(inputs[1:], wanted, strict=False)):
        allowed = f"images (C, H, W), a kernel {wanted[0]} and where wanted a bias {wanted[1]}"
        raise SpecError.of(f"{layer.name}.inputs", tuple(inputs), allowed)
    return _conv(layer, inputs)


def _conv_transpose(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    if len(inputs[0]) != 3:
        return inputs[0]
    _check_groups(layer, inputs)
    sides = zip(inputs[0][1:], _spans(layer), layer.padding, layer.args, layer.strides, strict=True)
    return (
        layer.out_shape[0],
        *(
            (size - 1) * stride - 2 * pad + span + int(more) + 1
            for size, span, pad, more, stride in sides
        ),
    )


def _spans(layer: LayerSpec) -> list[int]:
    """From the first to the last tap of a kernel, along rows and columns."""
    taps = zip(layer.dilation, layer.kernel, strict=True)
    return [dilation * (kernel - 1) for dilation, kernel in taps]


def _check_groups(layer: LayerSpec, inputs: Sequence[Shape]) -> None:
    if inputs[0][0] % layer.groups or layer.out_shape[0] % layer.groups:
        raise SpecError.of(f"{layer.name}.groups", layer.groups, "a divisor of the channels")


def _linear(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    """Only the last axis can be the features."""
    if layer.axis != len(inputs[0]) - 1:
        return (0,)
    return (*inputs[0][:-1], layer.out_shape[-1])


def _windows(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    if len(inputs[0]) != 3:
        return inputs[0]
    sides = zip(inputs[0][1:], layer.kernel, strict=True)
    return (inputs[0][0], *(size // window for size, window in sides))


def _avgpool(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    return _sliding(layer, inputs) if layer.args else _windows(layer, inputs)


def _sliding(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    return (inputs[0][0], *_conv(layer, inputs)[1:])


def _maxpool(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    """One more window along each side where the output says so."""
    return layer.out_shape if is_rounded_up(layer, inputs[0]) else _sliding(layer, inputs)


def _upsample(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    if len(inputs[0]) != 3 or len(layer.out_shape) != 3:
        return inputs[0]
    return (inputs[0][0], *layer.out_shape[1:])


def _add(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    if any(shape != inputs[0] for shape in inputs):
        raise SpecError.of(f"{layer.name}.inputs", inputs, "equal shapes")
    return inputs[0]


def _shift(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    """The others must not make the first larger."""
    _broadcast(layer, inputs)
    return inputs[0]


def _broadcast(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    rank = max(len(shape) for shape in inputs)
    padded = [(1,) * (rank - len(shape)) + shape for shape in inputs]
    sides = [max(sizes) for sizes in zip(*padded, strict=True)]
    if any(size not in (1, sides[at]) for shape in padded for at, size in enumerate(shape)):
        raise SpecError.of(f"{layer.name}.inputs", tuple(inputs), "shapes that broadcast")
    return tuple(sides)


def _reshape(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    return layer.out_shape if prod(layer.out_shape) == prod(inputs[0]) else inputs[0]


def _transpose(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    if sorted(layer.args) != list(range(len(inputs[0]))):
        raise SpecError.of(f"{layer.name}.args", layer.args, ARGUMENTS["transpose"][1])
    return tuple(inputs[0][int(axis)] for axis in layer.args)


def _mean(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    """Averaged axes go, or stay with a size of 1."""
    kept = tuple(1 if axis in layer.args else size for axis, size in enumerate(inputs[0]))
    if layer.out_shape == kept:
        return kept
    return tuple(size for axis, size in enumerate(inputs[0]) if axis not in layer.args)


def _slice(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    start, stop, step = (int(number) for number in layer.args)
    size = ceil((stop - start) / step) if step > 0 else 0
    return _along(layer, inputs[0], size)


def _glu(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    return _along(layer, inputs[0], _size(layer, inputs[0]) // 2)


def _concat(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    if any(_along(layer, shape, 1) != _along(layer, inputs[0], 1) for shape in inputs):
        raise SpecError.of(f"{layer.name}.inputs", tuple(inputs), "shapes equal but for the axis")
    return _along(layer, inputs[0], sum(_size(layer, shape) for shape in inputs))


def _pad(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    ends = [int(number) for number in layer.args]
    if len(ends) != 2 * len(inputs[0]):
        raise SpecError.of(f"{layer.name}.args", layer.args, ARGUMENTS["pad"][1])
    sides = zip(inputs[0], ends[::2], ends[1::2], strict=True)
    return tuple(size + before + after for size, before, after in sides)


def _matmul(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    left, right = inputs
    if min(len(left), len(right)) < 2 or left[-1] != right[-2]:
        raise SpecError.of(f"{layer.name}.inputs", (left, right), "matrices that can be multiplied")
    return (*_broadcast(layer, (left[:-2], right[:-2])), left[-2], right[-1])


def _attention(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    query, key, value = inputs[:3]
    if min(len(query), len(key), len(value)) < 2 or query[-1] != key[-1] or key[-2] != value[-2]:
        raise SpecError.of(f"{layer.name}.inputs", tuple(inputs), "query, key and value that fit")
    return (*query[:-1], value[-1])


def _embedding(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    return (*inputs[0], layer.out_shape[-1])


def _recurrent(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    """The hidden states of every position, both directions side by side."""
    return (*inputs[0][:-1], layer.whole(0) * layer.whole(2)) if len(inputs[0]) == 2 else (0,)


def _cell(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    """One step of a cell, from features to its neurons."""
    return layer.out_shape[:1] if len(inputs[0]) == 1 else (0,)


def _size(layer: LayerSpec, shape: Shape) -> int:
    if layer.axis >= len(shape):
        raise SpecError.of(f"{layer.name}.axis", layer.axis, f"0 to {len(shape) - 1}")
    return shape[layer.axis]


def _along(layer: LayerSpec, shape: Shape, size: int) -> Shape:
    """A shape with another size along the layer's axis."""
    _size(layer, shape)
    return (*shape[: layer.axis], size, *shape[layer.axis + 1 :])


_RULES: dict[str, Callable[[LayerSpec, Sequence[Shape]], Shape]] = {
    **dict.fromkeys(ELEMENTWISE, _same),
    "conv2d": _conv,
    CONVOLVE: _convolve,
    "conv_transpose2d": _conv_transpose,
    "linear": _linear,
    "embedding": _embedding,
    "lookup": lambda _, inputs: (*inputs[0], inputs[1][-1]),
    **dict.fromkeys(SOURCES, lambda layer, _: layer.out_shape),
    **dict.fromkeys(RECURRENT_GATES, _recurrent),
    "cfc": _cell,
    "global_avgpool": lambda _, inputs: inputs[0][:1],
    "avgpool": _avgpool,
    "window_max": _windows,
    "maxpool": _maxpool,
    **dict.fromkeys(("upsample", "upsample_nearest"), _upsample),
    "mean": _mean,
    "add": _add,
    "shift": _shift,
    **dict.fromkeys(("mul", "div"), _broadcast),
    "matmul": _matmul,
    "attention": _attention,
    "glu": _glu,
    "concat": _concat,
    "pad": _pad,
    "slice": _slice,
    "reshape": _reshape,
    "transpose": _transpose,
}
