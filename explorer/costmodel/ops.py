"""One row per operator: MACs and what its backward pass must keep.

Pure functions of shapes. An operator without a row raises, it never counts as
zero. Assumptions of the `device` accounting, which the planner relies on:

* activations and norms overwrite their input; so do their gradients;
* a piecewise linear activation keeps one bit per element for backward, a maximum pool the
  place in its window in as many bits as that needs;
* a norm in training mode keeps its normalised input and one reciprocal deviation per
  statistic; a curved activation (GELU, SiLU) its input; sigmoid, tanh and softmax their output;
* a product keeps each of its two operands while the other's gradient is taken, attention its
  three inputs and the softmax of the scores, a recurrent layer its gates and states;
* a residual add writes a new tensor; its gradient is shared by its inputs;
* reshapes, transposes and slices are views and cost nothing; `copy` moves a view's elements.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from math import isqrt, prod

from explorer.costmodel.state_space import StateSpace
from explorer.errors import UnsupportedOpError
from explorer.graph import CFC_GATES, LayerSpec, ModelGraph, recurrent_weights
from explorer.layer import (
    CLIPPED,
    CONVOLUTIONS,
    CONVOLVE,
    CURVED,
    MAXIMA,
    RECURRENT_GATES,
    SATURATING,
    SOFTMAX,
    STATE_SPACES,
    VIEWS,
    WINDOWS,
)

THIN_CHANNELS = 16
LONG_KERNEL = 16
USUAL_KERNEL = 3

Count = Callable[[ModelGraph, LayerSpec], int]


class Holds(Enum):
    """Tensors an operator reads again in backward, which nobody may overwrite till then."""

    NONE = "none"
    SHARE = "share"  # of its input, in proportion to the weights that train
    INPUTS = "inputs"
    OPERANDS = "operands"  # each of two inputs while a gradient goes to the other
    OUTPUT = "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpRule:
    """How an operator behaves in forward and backward.

    `macs` per sample; `per_operand` ones take as many for the gradient of each of two inputs.
    A weighted operator's dX and dW take as many, too, unless `input_grad_macs` and
    `weight_grad_macs` say otherwise; `shared_grad_macs` come beside for either of the two.
    `pass_macs` come once a micro-batch while weights train.
    `in_place` operators overwrite their first input; a `view` is its input. `mask_bits` per
    output element are kept while a gradient passes; `keeps_input` ones keep a copy of their
    input while a gradient passes, with `statistics` reciprocal deviations per sample
    (`statistics_per_batch`: per micro-batch), and `keeps_extra` elements per sample beside;
    `keeps_trained` only while their weights train. `resident` elements stay in memory for good.
    `is_sum` shares one gradient. `*_passes` count elementwise passes over the output, for each
    input of a window (`passes_of`); 0 forward for activations, whose cost the fitted kernel
    rates include (assumed: other counts are by inspection).
    """

    macs: Count | None = None
    input_grad_macs: Count | None = None
    weight_grad_macs: Count | None = None
    shared_grad_macs: Count | None = None
    pass_macs: Count | None = None
    per_operand: bool = False
    in_place: bool = False
    view: bool = False
    mask_bits: Count | None = None
    holds: Holds = Holds.NONE
    keeps_input: bool = False
    keeps_extra: Count | None = None
    keeps_trained: Count | None = None
    resident: Count | None = None
    statistics: Count | None = None
    statistics_per_batch: bool = False
    is_sum: bool = False
    forward_passes: int = 0
    backward_passes: int = 0

    @property
    def kept_beside(self) -> bool:
        """Whether backward needs something of its own of this operator."""
        return bool(self.mask_bits or self.keeps_input or self.keeps_extra)

    @property
    def runs_again(self) -> bool:
        """Whether a block with this operator can run again instead of keeping its tensors."""
        plain = self.holds in (Holds.NONE, Holds.SHARE) and not self.view
        return plain and not (self.keeps_extra or self.keeps_trained or self.resident)


def _weighted_macs(graph: ModelGraph, layer: LayerSpec) -> int:
    """Every weight is used once per output position."""
    return graph.weight_elements(layer) * (layer.out_elements // layer.channels)


def _transposed_macs(graph: ModelGraph, layer: LayerSpec) -> int:
    """Every weight is used once per input position."""
    positions = prod(graph.shape(graph.producers(layer)[0])[1:])
    return graph.weight_elements(layer) * positions


def _no_macs(_graph: ModelGraph, _layer: LayerSpec) -> int:
    return 0


def _recurrent_macs(graph: ModelGraph, layer: LayerSpec) -> int:
    """Every matrix element is used once per position."""
    positions, features = graph.shape(graph.producers(layer)[0])
    return positions * recurrent_weights(layer, features, biases=0)


def _matmul_macs(graph: ModelGraph, layer: LayerSpec) -> int:
    return layer.out_elements * graph.shape(layer.inputs[0])[-1]


def _convolve_macs(graph: ModelGraph, layer: LayerSpec) -> int:
    """Every entry of the kernel is used once per output position."""
    return prod(graph.shape(layer.inputs[1])) * prod(layer.out_shape[1:])


def _scores(graph: ModelGraph, layer: LayerSpec) -> int:
    """Elements of the attention matrices."""
    query, key = (graph.shape(name) for name in layer.inputs[:2])
    return prod(query[:-1]) * key[-2]


def _attention_macs(graph: ModelGraph, layer: LayerSpec) -> int:
    """Scores from queries and keys, then their products with the values."""
    query, value = graph.shape(layer.inputs[0]), layer.out_shape
    return _scores(graph, layer) * (query[-1] + value[-1])


def _recurrent_extra(_graph: ModelGraph, layer: LayerSpec) -> int:
    """Gates and state of every position, layer and direction; all but the output's states."""
    positions, _ = layer.out_shape
    hidden, depth, directions = (layer.whole(position) for position in range(3))
    return positions * hidden * depth * directions * (RECURRENT_GATES[layer.op] + 1)


def _state_space(count: Callable[[StateSpace], int]) -> Count:
    return lambda _graph, layer: count(StateSpace.of(layer))


def _cell_macs(graph: ModelGraph, layer: LayerSpec) -> int:
    return CFC_GATES * graph.mask_elements(layer)


def _cell_gates(_graph: ModelGraph, layer: LayerSpec) -> int:
    """Both candidates and the time gate of every neuron."""
    return 3 * layer.channels


def _channels(_graph: ModelGraph, layer: LayerSpec) -> int:
    return layer.channels


def _groups(_graph: ModelGraph, layer: LayerSpec) -> int:
    return layer.groups


def _positions(_graph: ModelGraph, layer: LayerSpec) -> int:
    return layer.out_elements // layer.channels


def _standardised(_graph: ModelGraph, layer: LayerSpec) -> int:
    return layer.out_elements // prod(layer.out_shape[-layer.whole(1) :])


def _one_bit(_graph: ModelGraph, _layer: LayerSpec) -> int:
    return 1


def _place_bits(_graph: ModelGraph, layer: LayerSpec) -> int:
    return (prod(layer.kernel) - 1).bit_length()


_CLIPPED = OpRule(in_place=True, mask_bits=_one_bit, backward_passes=1)
_CURVED = OpRule(in_place=True, keeps_input=True, backward_passes=1)
_SATURATING = OpRule(in_place=True, holds=Holds.OUTPUT, backward_passes=1)
_VIEW = OpRule(view=True)
_NORM = OpRule(
    in_place=True, keeps_input=True, statistics=_groups, forward_passes=2, backward_passes=3
)
_RECURRENT = OpRule(
    macs=_recurrent_macs, holds=Holds.SHARE, keeps_extra=_recurrent_extra, backward_passes=1
)
# dy is transformed for either gradient; dX then takes a product and a transform back, dW a
# product. Once a micro-batch: the kernel and its transform, and back the same with twice the sum.
_CONVOLVED = OpRule(
    macs=_state_space(lambda s: 2 * s.transform + s.product + s.skip),
    input_grad_macs=_state_space(lambda s: s.transform + s.product + s.skip),
    weight_grad_macs=_state_space(lambda s: s.product + s.skip),
    shared_grad_macs=_state_space(lambda s: s.transform),
    pass_macs=_state_space(lambda s: 3 * s.vandermonde + 2 * s.transform),
    holds=Holds.SHARE,
    resident=_state_space(lambda s: 2 * s.channels * (s.sample_count + 1)),
)
# dX is the recurrence backwards in time, without any state. dW needs it as well and all states:
# kept every sqrt(L) samples, they are made once more, with room for one stretch between, and
# multiplied by the adjoint ones.
_RECURRED = OpRule(
    macs=_state_space(lambda s: s.recurrence + s.skip),
    input_grad_macs=_state_space(lambda s: s.skip),
    weight_grad_macs=_state_space(lambda s: 2 * s.recurrence + s.skip),
    shared_grad_macs=_state_space(lambda s: s.recurrence),
    holds=Holds.SHARE,
    keeps_trained=_state_space(
        lambda s: 4 * s.channels * s.pair_count * (isqrt(s.sample_count - 1) + 1)
    ),
)
RULES = {
    "conv2d": OpRule(macs=_weighted_macs, holds=Holds.SHARE),
    "conv_transpose2d": OpRule(macs=_transposed_macs, holds=Holds.SHARE),
    "linear": OpRule(macs=_weighted_macs, holds=Holds.SHARE),
    "embedding": OpRule(macs=_no_macs, holds=Holds.SHARE, forward_passes=1),
    "lookup": OpRule(holds=Holds.OPERANDS, forward_passes=1, backward_passes=1),
    "parameter": OpRule(macs=_no_macs),
    "constant": OpRule(),
    **dict.fromkeys(RECURRENT_GATES, _RECURRENT),
    "s4d": _CONVOLVED,
    "s4d_recurrent": _RECURRED,
    "cfc": OpRule(macs=_cell_macs, holds=Holds.SHARE, keeps_extra=_cell_gates, backward_passes=1),
    "dropout2d": OpRule(in_place=True, keeps_extra=_channels, backward_passes=1),
    **dict.fromkeys(CLIPPED, _CLIPPED),
    **dict.fromkeys(CURVED, _CURVED),
    **dict.fromkeys(SATURATING, _SATURATING),
    **dict.fromkeys(SOFTMAX, replace(_SATURATING, forward_passes=3, backward_passes=3)),
    "prelu": replace(_CURVED, macs=_no_macs, backward_passes=2),
    "frozen_batchnorm": OpRule(in_place=True, forward_passes=1, backward_passes=1),
    "groupnorm": _NORM,
    "batchnorm": replace(_NORM, statistics=_channels, statistics_per_batch=True),
    "layernorm": replace(_NORM, statistics=_positions, macs=_no_macs),
    "standardise": replace(_NORM, statistics=_standardised),
    "add": OpRule(is_sum=True, forward_passes=1),
    "shift": OpRule(in_place=True, forward_passes=1),
    "scale": OpRule(in_place=True, forward_passes=1, backward_passes=1),
    "mul": OpRule(holds=Holds.OPERANDS, forward_passes=1, backward_passes=2),
    "div": OpRule(holds=Holds.INPUTS, forward_passes=1, backward_passes=2),
    "glu": OpRule(holds=Holds.INPUTS, forward_passes=1, backward_passes=2),
    "matmul": OpRule(macs=_matmul_macs, per_operand=True, holds=Holds.OPERANDS),
    CONVOLVE: OpRule(macs=_convolve_macs, per_operand=True, holds=Holds.OPERANDS),
    "attention": OpRule(macs=_attention_macs, holds=Holds.INPUTS, keeps_extra=_scores),
    "concat": OpRule(forward_passes=1, backward_passes=1),
    "pad": OpRule(forward_passes=1, backward_passes=1),
    "copy": OpRule(forward_passes=1, backward_passes=1),
    "roll": OpRule(forward_passes=1, backward_passes=1),
    **dict.fromkeys(VIEWS, _VIEW),
    "global_avgpool": OpRule(forward_passes=1, backward_passes=1),
    "mean": OpRule(forward_passes=1, backward_passes=1),
    "avgpool": OpRule(forward_passes=1, backward_passes=1),
    **dict.fromkeys(MAXIMA, OpRule(mask_bits=_place_bits, forward_passes=1, backward_passes=1)),
    "upsample_nearest": OpRule(forward_passes=1, backward_passes=1),
    "upsample": OpRule(forward_passes=4, backward_passes=4),  # four neighbours an output
}


def passes_of(layer: LayerSpec) -> tuple[int, int]:
    """Elementwise passes over a layer's output, forward and backward; a window reads each input."""
    rule = RULES[layer.op]
    window = prod(layer.kernel) if layer.op in WINDOWS else 1
    return rule.forward_passes * window, rule.backward_passes * window


def input_grad_macs(graph: ModelGraph, layer: LayerSpec) -> list[tuple[tuple[str, ...], int]]:
    """Tensors and the MACs of backward, but dW, if the gradient of any of them is taken.

    A product takes as many for each operand as forward. Attention takes two products for each
    of its two (the scores' softmax is kept). A recurrent layer that trains passes gradients
    from position to position, and from layer to layer, also where none goes to its input.
    """
    rule = RULES[layer.op]
    macs = _counted(rule.macs, graph, layer)
    inputs = graph.producers(layer)
    if rule.per_operand:
        return [((name,), macs) for name in inputs[:2] if not graph.parameter_of(name)]
    if rule.input_grad_macs:
        shared = _counted(rule.shared_grad_macs, graph, layer)
        return [(inputs, rule.input_grad_macs(graph, layer)), ((layer.name,), shared)]
    if layer.op == "attention":
        return [(inputs, 2 * macs)]
    if layer.op not in RECURRENT_GATES:
        return [(inputs, macs)] if macs else []
    positions, features = graph.shape(inputs[0])
    rows = RECURRENT_GATES[layer.op] * layer.whole(0) * layer.whole(2)
    first = positions * rows * features
    start = rows * layer.whole(0) * layer.whole(1)  # the first position has none before it
    return [(inputs, first), ((layer.name,), macs - first - start)]


def weight_grad_macs(graph: ModelGraph, layer: LayerSpec) -> int:
    """MACs of the gradient of all weights, beside what dX and dW share.

    A parameter takes those of every product that reads it.
    """
    rule = RULES[layer.op]
    if layer.op == "parameter":
        return sum(_counted(RULES[one.op].macs, graph, one) for one in products_of(graph, layer))
    return _counted(rule.weight_grad_macs or rule.macs, graph, layer)


def products_of(graph: ModelGraph, parameter: LayerSpec) -> list[LayerSpec]:
    """Products that have a parameter, or a view of it, as an operand; twice where it is both."""
    products = [reader for reader in graph.layers if RULES[reader.op].per_operand]
    reads = [(one, name) for one in products for name in one.inputs[:2]]
    return [one for one, name in reads if graph.parameter_of(name) == parameter.name]


def pass_macs(graph: ModelGraph, layer: LayerSpec) -> int:
    """MACs once a micro-batch while the weights train."""
    return _counted(RULES[layer.op].pass_macs, graph, layer)


def _counted(count: Count | None, graph: ModelGraph, layer: LayerSpec) -> int:
    return 0 if count is None else count(graph, layer)


def check_supported(graph: ModelGraph) -> None:
    """UnsupportedOpError lists every operator of the graph that has no rule."""
    unknown = {layer.op: layer.name for layer in graph.layers if layer.op not in RULES}
    if unknown:
        listed = ", ".join(f"{op} (first at {name})" for op, name in sorted(unknown.items()))
        raise UnsupportedOpError(f"{graph.name}: no rule for {listed}")


def kernel_kind(layer: LayerSpec) -> str:
    """Which kernel runs a layer with MACs: conv, pointwise, depthwise or linear.

    Matrix products without weights run at the rate of linear layers, state spaces, which
    reuse little, at that of depthwise ones (assumed).
    """
    if layer.op in STATE_SPACES:
        return "depthwise"
    if layer.op not in (*CONVOLUTIONS, CONVOLVE):
        return "linear"
    if layer.groups > 1 and layer.groups == layer.out_shape[0]:
        return "depthwise"
    return "pointwise" if layer.kernel == (1, 1) else "conv"


def special_kernel(graph: ModelGraph, layer: LayerSpec) -> str:
    """`thin` or `wide_depthwise` where a device may have a rate of its own, else empty.

    Thin is a convolution along one axis with little to reuse: few channels on either side,
    or depthwise with many taps. What is measured of these (GAP9, EEG and EOG networks) ran
    along time, so convolutions over an image, such as the first layer of a vision network,
    do not count (assumed). Wide is a depthwise kernel of more than 3x3, which reuses more.
    """
    if layer.op != "conv2d" or layer.kernel == (1, 1):
        return ""
    depthwise = kernel_kind(layer) == "depthwise"
    if min(layer.kernel) > 1:
        return "wide_depthwise" if depthwise and min(layer.kernel) > USUAL_KERNEL else ""
    many_taps = depthwise and max(layer.kernel) >= LONG_KERNEL
    few_channels = min(layer.out_shape[0], graph.in_channels(layer)) <= THIN_CHANNELS
    return "thin" if many_taps or few_channels else ""
