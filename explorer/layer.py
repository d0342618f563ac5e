"""One operator of a network: its fields, and the groups of operators that are alike.

Shapes are of one sample: images are channels first, `(C, H, W)`; sequences are as torch
has them, `(T, C)` with `axis=1` for their channels, or `(C, T)`.
"""

from dataclasses import dataclass
from math import isfinite, prod

from explorer.errors import SpecError

Shape = tuple[int, ...]

CONVOLUTIONS = ("conv2d", "conv_transpose2d")
CONVOLVE = "convolve"  # a conv2d whose kernel and bias are inputs, so that several may share them
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
