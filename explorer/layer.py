"""One operator of a network: its fields, and which output shape follows from its inputs.

Shapes are of one sample: images are channels first, `(C, H, W)`; sequences are as torch
has them, `(T, C)` with `axis=1` for their channels, or `(C, T)`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, isfinite, prod

from explorer.errors import SpecError

Shape = tuple[int, ...]

CONVOLUTIONS = ("conv2d", "conv_transpose2d")
SLICED_OPS = (*CONVOLUTIONS, "linear", "layernorm")
RECURRENT_GATES = {"gru": 3, "lstm": 4}
STATE_SPACES = ("s4d", "s4d_recurrent")
WHOLE_OPS = ("embedding", "parameter", "prelu", *RECURRENT_GATES, *STATE_SPACES, "cfc")
WEIGHTED_OPS = (*SLICED_OPS, *WHOLE_OPS)
NORM_OPS = ("batchnorm", "groupnorm", "frozen_batchnorm")
CLIPPED = ("relu", "relu6", "leaky_relu", "hardsigmoid", "clip", "abs")
CURVED = (
    *("gelu", "gelu_tanh", "silu", "hardswish", "elu", "selu", "celu", "mish", "softplus"),
    *("power", "log", "sin", "cos"),
)
SOFTMAX = ("softmax", "log_softmax")
SATURATING = ("sigmoid", "tanh", *SOFTMAX, "exp", "sqrt", "rsqrt", "reciprocal")
PLAIN = ("abs", "exp", "log", "sin", "cos", "sqrt", "rsqrt", "reciprocal")  # as torch names them
ACTIVATIONS = (*CLIPPED, *CURVED, *SATURATING)
ELEMENTWISE = (
    *(*ACTIVATIONS, *NORM_OPS, *STATE_SPACES),
    *("layernorm", "standardise", "prelu", "scale", "copy", "roll", "dropout2d"),
)
SOURCES = ("parameter", "constant")
VIEWS = ("reshape", "transpose", "slice")
MAXIMA = ("maxpool", "window_max")
WINDOWS = ("avgpool", *MAXIMA)
INPUT = "input"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """One operator.

    `inputs` names the producers, `()` means the network input. `stride` is one number where
    rows and columns share it. `padding` is (height, width)
    or, where the two ends of a side differ, (top, bottom, left, right). `groups` of a
    groupnorm is its number of groups; windows of a window_max, and of an avgpool without `args`,
    lie side by side and `kernel` is their size; an upsample is bilinear to any size. `axis` is
    where the channels are, or what a glu, softmax, concat or slice works along. `args` are an
    operator's other numbers, see ARGUMENTS. `block` and `role` label the place in the network
    for block-wise policies and figures.
    """

    name: str
    op: str
    out_shape: Shape
    inputs: tuple[str, ...] = ()
    kernel: tuple[int, int] = (1, 1)
    stride: int | tuple[int, int] = 1
    padding: tuple[int, int] | tuple[int, int, int, int] = (0, 0)
    groups: int = 1
    has_bias: bool = False
    block: str = ""
    role: str = ""
    axis: int = 0
    dilation: tuple[int, int] = (1, 1)
    args: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "args", tuple(_exact(number) for number in self.args))
        if not self.name or self.name == INPUT:
            raise SpecError.of("layer.name", self.name, f"a name other than {INPUT!r}")
        if not self.out_shape or min(self.out_shape) < 1:
            raise SpecError.of(f"{self.name}.out_shape", self.out_shape, "positive sizes")
        if len(set(self.strides)) == 1:
            object.__setattr__(self, "stride", self.strides[0])
        sizes = (*self.strides, self.groups, *self.kernel, *self.dilation)
        if min(sizes) < 1 or min(self.padding) < 0:
            allowed = "stride, groups, kernel, dilation >= 1, padding >= 0"
            raise SpecError.of(f"{self.name}", self, allowed)
        if len(self.padding) == 4 and self.padding[::2] == self.padding[1::2]:
            raise SpecError.of(f"{self.name}.padding", self.padding, "two numbers: both ends alike")
        if len(self.padding) == 4 and self.op != "conv2d":
            raise SpecError.of(f"{self.name}.padding", self.padding, f"two numbers for a {self.op}")
        if not 0 <= self.axis < len(self.out_shape):
            raise SpecError.of(f"{self.name}.axis", self.axis, f"0 to {len(self.out_shape) - 1}")
        if self.op in ARGUMENTS and len(self.args) not in ARGUMENTS[self.op][0]:
            raise SpecError.of(f"{self.name}.args", self.args, ARGUMENTS[self.op][1])
        if self.op in WHOLE_OPS and self.has_bias:
            raise SpecError.of(f"{self.name}.has_bias", True, f"false for a {self.op}")

    @property
    def strides(self) -> tuple[int, int]:
        """Steps of a window along rows and columns."""
        return (self.stride, self.stride) if isinstance(self.stride, int) else self.stride

    @property
    def pads(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Padding before and after, of the height and of the width."""
        if len(self.padding) == 2:
            height, width = self.padding
            return (height, height), (width, width)
        top, bottom, left, right = self.padding
        return (top, bottom), (left, right)

    @property
    def out_elements(self) -> int:
        """Elements of the output of one sample."""
        return prod(self.out_shape)

    @property
    def channels(self) -> int:
        """Output channels or features."""
        return self.out_shape[self.axis]

    def whole(self, position: int) -> int:
        """One of `args` as a whole number."""
        return int(self.args[position])


def _exact(number: float) -> float:
    """Whole numbers are integers, so that 1 and 1.0 are one digest."""
    if not isfinite(number):
        raise SpecError.of("layer.args", number, "finite numbers")
    return int(number) if number == int(number) else float(number)


ANY_COUNT = range(1, 9)
INPUT_COUNTS = {
    **dict.fromkeys(SOURCES, range(1)),
    **dict.fromkeys(("add", "shift", "concat"), range(1, 10_000)),
    **dict.fromkeys(("mul", "div", "matmul", "lookup"), range(2, 3)),
    "attention": range(3, 5),
}
ARGUMENTS = {
    "transpose": (ANY_COUNT, "the order of the sample's axes"),
    "mean": (ANY_COUNT, "the axes of the sample that are averaged"),
    "slice": ((3,), "start, stop and step along `axis`"),
    "pad": (range(2, 17), "how much before and after each axis, the first axis first"),
    "scale": ((2,), "factor and summand of every element"),
    "leaky_relu": ((1,), "the slope below 0"),
    "clip": ((1, 2), "the lowest value, and the highest"),
    "prelu": ((1,), "the number of slopes: one, or one a channel"),
    **dict.fromkeys(("elu", "celu"), ((1,), "the limit below 0, negated")),
    "softplus": ((1,), "by how much it is steeper"),
    "groupnorm": (range(3), "epsilon, and 1 where torch runs an instance norm"),
    "standardise": ((2,), "epsilon, and over how many of the last axes"),
    "avgpool": (range(2), "1 where padding counts, else 0, of windows with a stride"),
    "upsample": (range(2), "1 where corners stay where they are"),
    "power": ((1,), "the exponent"),
    "roll": (ANY_COUNT, "by how much each axis of the sample is rolled"),
    "parameter": (range(3), "the number of weights, where not that of elements, and of indices"),
    "attention": ((1, 2), "the factor of the scores, and 1 when each position sees no later one"),
    "conv_transpose2d": ((2,), "additional rows and columns of the output"),
    "embedding": ((1,), "the number of rows of the table"),
    "gru": ((4,), "hidden size, layers, directions, and 1 with biases"),
    "lstm": ((4,), "hidden size, layers, directions, and 1 with biases"),
    **dict.fromkeys(STATE_SPACES, ((1,), "the states of a channel, an even number")),
    "dropout2d": ((1,), "the share of channels that is dropped"),
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


def rounded_up(layer: LayerSpec, size: Shape) -> Shape:
    """Sides of a maximum pool's output whose last windows may reach over the edge."""
    sides = zip(size, _spans(layer), layer.pads, layer.strides, strict=True)
    return tuple(
        min(ceil((one + sum(pad) - span - 1) / stride), (one + pad[0] - 1) // stride) + 1
        for one, span, pad, stride in sides
    )


def _maxpool(layer: LayerSpec, inputs: Sequence[Shape]) -> Shape:
    """One more window along each side where the output says so."""
    if len(inputs[0]) == 3 and layer.out_shape == (inputs[0][0], *rounded_up(layer, inputs[0][1:])):
        return layer.out_shape
    return _sliding(layer, inputs)


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
