"""Tiles: what a pass of one layer moves through a small inner memory, such as GAP9's L1.

Tensors live in the data level; a pass cuts them along their longest side, and into groups of
channels where one position and the weights are already too much. Tiles are double-buffered;
weights, or their gradient, stay for all tiles of a group. What is moved again: the kernel
minus stride positions that a convolution's neighbouring tiles share, and the input of a layer
that mixes channels, for each further group. One sample at a time, padding counted as if it
were moved, a norm's first reading for its statistics not counted. Rates of a device include
what this costs (devices/gap9.toml), so it is shown and not charged.
"""

from dataclasses import dataclass
from math import ceil, prod

from explorer.costmodel.forms import FORMS, Form
from explorer.costmodel.lifetimes import trained_counts
from explorer.costmodel.ops import RULES, kernel_kind
from explorer.costmodel.tables import layer_table
from explorer.design import DesignBatch
from explorer.device import DeviceProfile
from explorer.graph import NORM_OPS, WEIGHTED_OPS, LayerSpec, ModelGraph
from explorer.layer import CONVOLVE, WINDOWS
from explorer.units import BITS_PER_BYTE

BUFFERS = 2  # one is filled while the other is worked on


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """One pass of a layer: `forward`, `weight gradient` or `backward`.

    `tile_bytes` is what it takes of the inner memory, `moved_bytes` all that goes in and out
    of it, `again_bytes` the part of that which was there before.
    """

    layer: str
    phase: str
    tile_count: int
    tile_bytes: int
    moved_bytes: int
    again_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """`position_count` steps along the longest side with so many bits each.

    `halo_bits` is shared by two neighbouring tiles, `resident_bits` stays, `shared_bits` are
    read by every group of channels.
    """

    phase: str
    position_count: int
    position_bits: float
    halo_bits: float = 0.0
    resident_bits: float = 0.0
    shared_bits: float = 0.0


def tilings(graph: ModelGraph, device: DeviceProfile, designs: DesignBatch) -> tuple[Tiling, ...]:
    """The passes of the first design's step in their order; none without an inner level."""
    level = device.level("inner")
    if level is None:
        return ()
    form = FORMS[designs.setup.precision]
    table = layer_table(graph)
    reached = table.gradient_passes(table.active_sites(designs))[0]
    weights = trained_counts(table, designs)[0, : len(graph.weighted)] > 0
    trained = dict(zip(graph.weighted, weights.tolist(), strict=True))
    moving = [layer for layer in graph.layers if layer.op != "reshape"]
    gets_gradient = {layer.name: bool(at) for layer, at in zip(graph.layers, reached, strict=True)}
    steps = [(layer, _forward(graph, layer, form)) for layer in moving]
    for layer in reversed(moving):
        if trained.get(layer.name):
            steps.append((layer, _weight_gradient(graph, layer, form)))
        if gets_gradient[layer.name]:
            steps.append((layer, _backward(graph, layer, form)))
    return tuple(_cut(layer.name, one, level.usable_bytes) for layer, one in steps)


def _cut(layer: str, one: _Pass, usable_bytes: int) -> Tiling:
    """The longest tiles that fit, of as few channel groups as one position needs."""
    usable_bits = usable_bytes * BITS_PER_BYTE
    whole_bits = one.position_count * one.position_bits + one.halo_bits
    groups, along, held_bits = 1, 1, whole_bits + one.resident_bits
    if held_bits > usable_bits:
        least_bits = BUFFERS * (one.position_bits + one.halo_bits) + one.resident_bits
        groups = ceil(least_bits / usable_bits)
        free_bits = (usable_bits * groups - one.resident_bits) / BUFFERS - one.halo_bits
        length = min(int(free_bits // one.position_bits), one.position_count)
        along = ceil(one.position_count / length)
        held_bits = BUFFERS * (length * one.position_bits + one.halo_bits) + one.resident_bits
    readers = groups if one.shared_bits else 1
    again_bits = (along - 1) * one.halo_bits * readers + (groups - 1) * one.shared_bits
    return Tiling(
        layer=layer,
        phase=one.phase,
        tile_count=along * groups,
        tile_bytes=ceil(held_bits / groups / BITS_PER_BYTE),
        moved_bytes=ceil((whole_bits + one.resident_bits + again_bits) / BITS_PER_BYTE),
        again_bytes=ceil(again_bits / BITS_PER_BYTE),
    )


def _forward(graph: ModelGraph, layer: LayerSpec, form: Form) -> _Pass:
    bits = form.activation_bits
    if layer.op == "linear":
        return _rows(graph, layer, "forward", form.weight_bits, bits)
    return _along(graph, layer, "forward", bits, bits, _weight_bits(graph, layer, form))


def _weight_gradient(graph: ModelGraph, layer: LayerSpec, form: Form) -> _Pass:
    bits = form.weight_gradient_bits
    if layer.op == "linear":
        return _rows(graph, layer, "weight gradient", bits, form.activation_bits)
    resident = graph.weight_elements(layer) * bits
    return _along(
        graph, layer, "weight gradient", form.activation_bits, form.gradient_bits, resident
    )


def _backward(graph: ModelGraph, layer: LayerSpec, form: Form) -> _Pass:
    """Gradients of output and input, and of a norm or an activation what it kept."""
    bits, rule = form.gradient_bits, RULES[layer.op]
    if layer.op == "linear":
        return _rows(graph, layer, "backward", form.weight_bits, bits)
    kept = form.activation_bits if layer.op in NORM_OPS and rule.keeps_input else 0
    if rule.mask_bits is not None:
        kept = rule.mask_bits(graph, layer)
    return _along(graph, layer, "backward", bits, bits + kept, _weight_bits(graph, layer, form))


def _along(
    graph: ModelGraph, layer: LayerSpec, phase: str, in_bits: int, out_bits: int, resident: float
) -> _Pass:
    """Positions of the output's longest side, or of the input's where the output has none."""
    inputs = [graph.shape(name) for name in graph.producers(layer)]
    if layer.op == CONVOLVE:
        inputs = inputs[:1]
    sides, out_sides = inputs[0][1:], layer.out_shape[1:]
    axis = max(range(len(sides)), key=sides.__getitem__) if sides else 0
    position_count = out_sides[axis] if out_sides else max(sides, default=layer.out_shape[0])
    in_elements = float(sum(prod(shape) for shape in inputs))
    is_conv = layer.op in ("conv2d", CONVOLVE)
    halo, mixes = 0.0, is_conv and kernel_kind(layer) != "depthwise"
    if is_conv:
        shared = max(0, layer.kernel[axis] - layer.strides[axis])
        column_elements = in_elements / sides[axis]
        halo = shared * column_elements * in_bits
        in_elements = column_elements * position_count * layer.strides[axis]
    elif layer.op in WINDOWS:
        in_elements = prod(inputs[0]) * position_count * layer.kernel[axis] / sides[axis]
    moved_bits = in_elements * in_bits + layer.out_elements * out_bits
    return _Pass(
        phase=phase,
        position_count=position_count,
        position_bits=moved_bits / position_count,
        halo_bits=halo,
        resident_bits=resident,
        shared_bits=prod(inputs[0]) * in_bits if mixes else 0.0,
    )


def _rows(
    graph: ModelGraph, layer: LayerSpec, phase: str, weight_bits: int, vector_bits: int
) -> _Pass:
    """A linear layer by rows of its matrix, its input vector resident."""
    features = graph.in_channels(layer)
    return _Pass(
        phase=phase,
        position_count=layer.out_shape[0],
        position_bits=features * weight_bits + vector_bits,
        resident_bits=features * vector_bits,
        shared_bits=features * vector_bits,
    )


def _weight_bits(graph: ModelGraph, layer: LayerSpec, form: Form) -> float:
    if layer.op == CONVOLVE:
        return prod(graph.shape(layer.inputs[1])) * form.weight_bits
    return graph.weight_elements(layer) * form.weight_bits if layer.op in WEIGHTED_OPS else 0.0
