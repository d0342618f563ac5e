"""One row per operator: MACs and what its backward pass must keep.

Pure functions of shapes. An operator without a row raises, it never counts as
zero. Assumptions of the `device` accounting, which the planner relies on:

* activations and norms overwrite their input; so do their gradients;
* a ReLU-type activation keeps one bit per element for backward, a maximum which input
  it was, a norm in training mode its normalised input and one reciprocal deviation per
  statistic;
* a residual add writes a new tensor; its gradient is shared by its inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from explorer.errors import UnsupportedOpError
from explorer.graph import WINDOW_OPS, LayerSpec, ModelGraph

THIN_CHANNELS = 16
LONG_KERNEL = 16
USUAL_KERNEL = 3

MacsRule = Callable[[ModelGraph, LayerSpec], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpRule:
    """How an operator behaves in forward and backward.

    `macs` per sample. `in_place` operators overwrite their input. `mask_bits` per
    output element are kept while a gradient passes; `keeps_input` ones keep their
    input while a gradient passes, with `statistics` reciprocal deviations per sample
    (`statistics_per_batch`: per micro-batch). `is_sum` shares one gradient.
    `*_passes` count elementwise passes over the output, in a window each (`passes_of`); 0
    forward for activations, whose cost the fitted kernel rates include (assumed: other counts
    are by inspection).
    """

    macs: MacsRule | None = None
    in_place: bool = False
    mask_bits: Callable[[LayerSpec], int] | None = None
    keeps_input: bool = False
    statistics: Callable[[LayerSpec], int] | None = None
    statistics_per_batch: bool = False
    is_sum: bool = False
    forward_passes: int = 0
    backward_passes: int = 0


def _weighted_macs(graph: ModelGraph, layer: LayerSpec) -> int:
    """Every weight is used once per output position."""
    return graph.weight_elements(layer) * prod(layer.out_shape[1:])


def _channels(layer: LayerSpec) -> int:
    return layer.out_shape[0]


def _one_bit(_: LayerSpec) -> int:
    return 1


def _place_bits(layer: LayerSpec) -> int:
    """Which input of its window an output is."""
    return (prod(layer.kernel) - 1).bit_length()


def _groups(layer: LayerSpec) -> int:
    return layer.groups


RULES = {
    "conv2d": OpRule(macs=_weighted_macs),
    "linear": OpRule(macs=_weighted_macs),
    "relu": OpRule(in_place=True, mask_bits=_one_bit, backward_passes=1),
    "relu6": OpRule(in_place=True, mask_bits=_one_bit, backward_passes=1),
    "frozen_batchnorm": OpRule(in_place=True, forward_passes=1, backward_passes=1),
    "groupnorm": OpRule(
        in_place=True, keeps_input=True, statistics=_groups, forward_passes=2, backward_passes=3
    ),
    "batchnorm": OpRule(
        in_place=True,
        keeps_input=True,
        statistics=_channels,
        statistics_per_batch=True,
        forward_passes=2,
        backward_passes=3,
    ),
    "add": OpRule(is_sum=True, forward_passes=1),
    "global_avgpool": OpRule(forward_passes=1, backward_passes=1),
    "avgpool": OpRule(forward_passes=1, backward_passes=1),  # for each input of a window
    "window_max": OpRule(mask_bits=_place_bits, forward_passes=1, backward_passes=1),  # as that
    "reshape": OpRule(in_place=True),
    "upsample": OpRule(forward_passes=4, backward_passes=4),  # four neighbours an output
}


def passes_of(layer: LayerSpec) -> tuple[int, int]:
    """Elementwise passes over a layer's output, forward and backward; a window reads each input."""
    rule = RULES[layer.op]
    window = prod(layer.kernel) if layer.op in WINDOW_OPS else 1
    return rule.forward_passes * window, rule.backward_passes * window


def check_supported(graph: ModelGraph) -> None:
    """UnsupportedOpError lists every operator of the graph that has no rule."""
    unknown = {layer.op: layer.name for layer in graph.layers if layer.op not in RULES}
    if unknown:
        listed = ", ".join(f"{op} (first at {name})" for op, name in sorted(unknown.items()))
        raise UnsupportedOpError(f"{graph.name}: no rule for {listed}")


def kernel_kind(layer: LayerSpec) -> str:
    """Which kernel runs a weighted layer: conv, pointwise, depthwise or linear."""
    if layer.op == "linear":
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
