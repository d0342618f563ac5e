"""Adapters put into a network: on blocks (TinyTL) and on single layers (explorer.low_rank).

A lite-residual adapter (TinyTL: Cai et al., NeurIPS 2020) is named by its block and reads the
block's input: average pool by 2, convolution (kernel 5, two groups, as many channels, the
block's stride), norm, ReLU, 1x1 convolution to the block's output channels, norm, bilinear
upsampling to the block's output, which it is added to. Every block but the first may have one.

Chosen here, since TinyTrain's own layout is not published: it runs before its block, so
that only its small output waits; odd sides lose their last row or column in the pool and
a side of 1 is not pooled; the block's stride is how many times smaller its output is,
rounded; an odd number of channels makes one group; the norm is the network's own if that
is a batch or group norm, else group norm (a folded network has none to copy).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import gcd

import numpy as np

from explorer.design import DesignBatch, LayerAxes, TrainingSetup, UpdatePolicy
from explorer.errors import SpecError
from explorer.graph import INPUT, LayerSpec, ModelGraph, norm_behind
from explorer.low_rank import ROLE, Adapter, LowRank, with_low_rank
from explorer.units import FloatArray, IntArray

POOL = 2
KERNEL = 5
GROUPS = 2
OWN_NORMS = ("bn", "gn")

Columns = dict[str, FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a block's adapter goes: the tensors it reads and is added to, by name.

    `before` is the layer of the block that reads `entry` first.
    """

    block: str
    entry: str
    exit: str
    before: str


def adapter_blocks(graph: ModelGraph) -> tuple[str, ...]:
    """Blocks that can have an adapter: all but the first, with one image in and one out.

    Signals of one row have none: the adapter's kernel is square.
    """
    return tuple(_places(graph))


def trained_parts(adapter: Adapter) -> tuple[str, ...]:
    """Names of the adapter's layers with parameters; the weight of the last starts at 0."""
    if isinstance(adapter, LowRank):
        return adapter.parts
    return _block_parts(adapter)


def _block_parts(block: str) -> tuple[str, str, str, str]:
    """Two convolutions, each with the norm behind it."""
    first, second = f"{block}_adapter_conv", f"{block}_adapter_pointwise"
    return first, f"{first}_norm", second, f"{second}_norm"


@lru_cache(maxsize=64)
def adapted(graph: ModelGraph, adapters: tuple[Adapter, ...]) -> ModelGraph:
    """The network with adapters; SpecError names a block or layer that cannot have one."""
    if not adapters:
        return graph
    blocks = tuple(one for one in adapters if isinstance(one, str))
    wide = _with_blocks(graph, blocks) if blocks else graph
    return with_low_rank(wide, [one for one in adapters if isinstance(one, LowRank)])


def _with_blocks(graph: ModelGraph, blocks: tuple[str, ...]) -> ModelGraph:
    """The network with lite-residual adapters on some blocks."""
    places = _places(graph)
    for block in blocks:
        if block not in places:
            raise SpecError.of("adapters", block, ", ".join(places) or "no block here")
    starts = {places[block].before: places[block] for block in blocks}
    ends = {places[block].exit: places[block] for block in blocks}
    block_of = {layer.name: layer.block for layer in graph.layers}
    moved: dict[str, str] = {}
    layers: list[LayerSpec] = []
    for layer in graph.layers:
        if place := starts.get(layer.name):
            layers += _adapter(graph, place, moved.get(place.entry, place.entry))
        inputs = tuple(
            name if block_of.get(name) == layer.block else moved.get(name, name)
            for name in layer.inputs
        )
        layers.append(replace(layer, inputs=inputs))
        if place := ends.get(layer.name):
            layers += _sum(place, layer)
            moved[layer.name] = layers[-1].name
    return replace(graph, layers=tuple(layers))


def with_adapters(graph: ModelGraph, designs: DesignBatch) -> tuple[ModelGraph, DesignBatch]:
    """Designs on the network that has their adapters, where these are layers that train.

    SpecError when rows differ in their adapters.
    """
    if not any(designs.adapters):
        return graph, designs
    adapters = designs.adapters[0]
    if any(row != adapters for row in designs.adapters):
        raise SpecError.of("adapters", designs.adapters, "the same ones in every row")
    axes, columns = _wide_axes(graph, adapters)
    shape = (len(designs), len(axes.names))
    wide = replace(
        designs,
        axes=axes,
        slices=np.where(designs.axis_in[:, None], axes.in_channels, axes.out_channels),
        update_bias=np.broadcast_to(axes.has_bias, shape).copy(),
        update_norm=np.broadcast_to(axes.has_norm, shape).copy(),
        adapters=((),) * len(designs),
    )
    for name in ("slices", "update_bias", "update_norm"):
        getattr(wide, name)[:, columns] = getattr(designs, name)
    return adapted(graph, adapters), wide


def by_adapters(
    graph: ModelGraph,
    designs: DesignBatch,
    columns_of: Callable[[ModelGraph, DesignBatch], Mapping[str, FloatArray]],
) -> Columns:
    """Columns [P] of any designs, each worked out on the network that has its adapters."""
    if not any(designs.adapters):
        return dict(columns_of(graph, designs))
    columns: Columns = {}
    for adapters in dict.fromkeys(designs.adapters):
        rows = np.flatnonzero([row == adapters for row in designs.adapters])
        for name, values in columns_of(*with_adapters(graph, designs.take(rows))).items():
            columns.setdefault(name, np.zeros(len(designs)))[rows] = values
    return columns


def policy_with_adapters(
    graph: ModelGraph, policy: UpdatePolicy
) -> tuple[ModelGraph, UpdatePolicy]:
    """The network that has a policy's adapters, and the policy over all its layers."""
    if not policy.adapters:
        return graph, policy
    single = DesignBatch.of(LayerAxes.of(graph), [policy], TrainingSetup())
    network, designs = with_adapters(graph, single)
    wide = designs.policy(0)
    if policy.channels is None:
        return network, wide
    listed = dict(zip(policy.layer_names, policy.channels, strict=True))
    channels = tuple(
        listed.get(name, tuple(range(count)))
        for name, count in zip(wide.layer_names, wide.slices, strict=True)
    )
    return network, replace(wide, channels=channels)


@lru_cache(maxsize=64)
def _wide_axes(graph: ModelGraph, adapters: tuple[Adapter, ...]) -> tuple[LayerAxes, IntArray]:
    """Axes of the network with adapters, and where the network's own layers are in them [L]."""
    axes = LayerAxes.of(adapted(graph, adapters))
    return axes, np.array([axes.names.index(name) for name in graph.weighted])


@lru_cache(maxsize=32)
def _places(graph: ModelGraph) -> dict[str, _Place]:
    if graph.input_shape[1:2] == (1,):
        return {}
    blocks = list(dict.fromkeys(layer.block for layer in graph.layers if layer.block))
    found = [_place(graph, block) for block in blocks[1:]]
    return {place.block: place for place in found if place is not None}


def _place(graph: ModelGraph, block: str) -> _Place | None:
    """None when the block reads or hands on several tensors, or one that is no image."""
    inside = [layer for layer in graph.layers if layer.block == block]
    names = {layer.name for layer in inside}
    reads = [(source, layer.name) for layer in inside for source in graph.producers(layer)]
    entries = dict.fromkeys(source for source, _ in reads if source not in names)
    read_outside = {
        source
        for layer in graph.layers
        if layer.block != block
        for source in graph.producers(layer)
    } | {graph.layers[-1].name}
    exits = [layer.name for layer in inside if layer.name in read_outside]
    if len(entries) != 1 or len(exits) != 1:
        return None
    (entry,), (last,) = entries, exits
    if len(graph.shape(entry)) != 3 or len(graph.shape(last)) != 3:
        return None
    before = next(reader for source, reader in reads if source == entry)
    return _Place(block=block, entry=entry, exit=last, before=before)


def _adapter(graph: ModelGraph, place: _Place, entry: str) -> list[LayerSpec]:
    """The adapter up to its last norm; `entry` is the block's input, adapters before it added."""
    channels, *sides = graph.shape(place.entry)
    out_channels, *out_sides = graph.shape(place.exit)
    stride = max(1, *(round(a / b) for a, b in zip(sides, out_sides, strict=True)))
    height, width = (min(POOL, side) for side in sides)
    pooled = (sides[0] // height, sides[1] // width)
    small = tuple((side - 1) // stride + 1 for side in pooled)
    norm = graph.norm if graph.norm in OWN_NORMS else "gn"
    first, _, second, _ = _block_parts(place.block)
    pool = LayerSpec(
        name=f"{place.block}_adapter_pool",
        op="avgpool",
        inputs=() if entry == INPUT else (entry,),
        out_shape=(channels, *pooled),
        kernel=(height, width),
        block=place.block,
        role=ROLE,
    )
    conv = replace(
        pool,
        name=first,
        op="conv2d",
        inputs=(pool.name,),
        out_shape=(channels, *small),
        kernel=(KERNEL, KERNEL),
        stride=stride,
        padding=(KERNEL // 2, KERNEL // 2),
        groups=gcd(channels, GROUPS),
    )
    conv_norm = norm_behind(conv, norm)
    relu = replace(
        conv_norm, name=f"{first}_relu", op="relu", inputs=(conv_norm.name,), groups=1, role=ROLE
    )
    pointwise = replace(
        pool,
        name=second,
        op="conv2d",
        inputs=(relu.name,),
        out_shape=(out_channels, *small),
        kernel=(1, 1),
    )
    return [pool, conv, conv_norm, relu, pointwise, norm_behind(pointwise, norm)]


def _sum(place: _Place, last: LayerSpec) -> list[LayerSpec]:
    """The adapter's output at the size of the block's, and their sum."""
    upsample = LayerSpec(
        name=f"{place.block}_adapter_upsample",
        op="upsample",
        inputs=(_block_parts(place.block)[-1],),
        out_shape=last.out_shape,
        block=place.block,
        role=ROLE,
    )
    name = f"{place.block}_adapter_add"
    return [upsample, replace(upsample, name=name, op="add", inputs=(last.name, upsample.name))]
