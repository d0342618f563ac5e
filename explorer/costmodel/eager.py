"""What plain eager PyTorch keeps for backward: more than a policy needs.

Autograd saves the whole input of a convolution or a norm whenever the output needs a
gradient, also when only dX is taken or only some channels train; the input of most
activations and pools and the output of ReLU, sigmoid, tanh, softmax and roots in full; two
statistics for every one a norm needs, and the scales of an instance norm once a sample; 64-bit
indices of a maximum pool and of an embedding.
A convolution with uneven padding saves a copy of its input, padded by the difference.
Read off torch 2.13's saved-tensor hooks, which a test compares with to the byte.
A tensor saved by several operators counts once, a view as what it is a view of; parameters
and buffers do not count.
"""

from functools import lru_cache
from math import prod

import numpy as np

from explorer.costmodel.forms import FORMS
from explorer.costmodel.ops import RULES, Holds
from explorer.costmodel.tables import LayerTable, layer_table
from explorer.design import DesignBatch
from explorer.errors import UnsupportedOpError
from explorer.graph import INPUT, NORM_OPS, LayerSpec, ModelGraph
from explorer.layer import (
    CLIPPED,
    CONVOLUTIONS,
    CONVOLVE,
    CURVED,
    MAXIMA,
    RECURRENT_GATES,
    SATURATING,
    SOURCES,
    STATE_SPACES,
    WINDOWS,
)
from explorer.units import BITS_PER_BYTE, BoolArray, FloatArray

STATISTICS_KEPT = 2  # mean and reciprocal deviation
INDEX_WORDS = 2  # a 64-bit index in words of a statistic
SAVES_INPUT = (*CONVOLUTIONS, CONVOLVE, *NORM_OPS, "layernorm", "standardise", "prelu")
SAVES_PASSED_INPUT = (*CLIPPED, *CURVED, *WINDOWS, "glu")  # where it has a gradient
UNKNOWN = {*RECURRENT_GATES, *STATE_SPACES, "cfc", "dropout2d"}
SAVES_OUTPUT = ("relu", *SATURATING)


def eager_saved_bytes(graph: ModelGraph, designs: DesignBatch) -> FloatArray:
    """Bytes autograd keeps for one micro-batch of each design [P]."""
    table = layer_table(graph)
    needs, per_sample, per_pass = _saved_tensors(graph)
    sites = np.concatenate([table.active_sites(designs), designs.slices > 0], axis=1)
    kept = sites @ needs > 0
    form = FORMS[designs.setup.precision]
    elements = kept @ per_sample
    statistics = kept @ per_pass
    batch = designs.setup.micro_batch
    saved: FloatArray = (
        batch * elements[:, 0] * form.activation_bits
        + (batch * elements[:, 1] + statistics) * form.statistic_bits
    ) / BITS_PER_BYTE
    return saved


@lru_cache(maxsize=32)
def _saved_tensors(graph: ModelGraph) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Which sites make a tensor be saved [4L, K]; its elements per sample [K, 2], per pass [K].

    Sites are those of `ancestors`, then the weights alone. The two columns are activations
    and statistics.
    """
    table = layer_table(graph)
    unknown = sorted({layer.op for layer in graph.layers} & UNKNOWN)
    if unknown:
        raise UnsupportedOpError(
            f"{graph.name}: torch's own bytes are not known for {', '.join(unknown)}"
        )
    tensors = [*(layer.name for layer in graph.layers), INPUT]
    row = {name: index for index, name in enumerate(tensors)}
    for layer in graph.layers:
        if RULES[layer.op].view:
            row[layer.name] = row[layer.inputs[0]] if layer.inputs else row[INPUT]
    saved_by = np.zeros((len(tensors), 4 * len(graph.weighted)), dtype=bool)
    extra = []
    for layer in graph.layers:
        for name, sites in _saved_of(table, layer):
            saved_by[row[name]] |= sites
        extra += _beside(table, layer)
    own = {layer.name for layer in graph.layers if layer.op in SOURCES}
    sizes = [0.0 if name in own else float(np.prod(graph.shape(name))) for name in tensors]
    needs = np.concatenate([saved_by, *(sites[None] for sites, *_ in extra)]).T
    counts = np.zeros((needs.shape[1], 3))
    counts[: len(tensors), 0] = sizes
    if graph.index_count:
        counts[row[INPUT], :2] = 0.0, INDEX_WORDS * sizes[row[INPUT]]
    counts[len(tensors) :] = [count for _, *count in extra] or np.zeros((0, 3))
    return needs.astype(np.float64), counts[:, :2], counts[:, 2]


def _saved_of(table: LayerTable, layer: LayerSpec) -> list[tuple[str, BoolArray]]:
    """Tensors an operator saves, and which sites make it."""
    graph, rule = table.graph, RULES[layer.op]
    sources = graph.producers(layer)
    if len(layer.padding) == 4:  # a padded copy instead, see _beside
        return []
    if layer.op in SAVES_INPUT:
        return [(sources[0], _padded(table, layer.name))]
    if layer.op in SAVES_OUTPUT:
        return [(layer.name, _padded(table, sources[0]))]
    if layer.op in SAVES_PASSED_INPUT:
        return [(sources[0], _padded(table, sources[0]))]
    if layer.op == "div":
        return [(sources[0], _padded(table, sources[1])), (sources[1], _padded(table, layer.name))]
    if rule.holds is Holds.SHARE:
        alone = np.zeros(4 * len(graph.weighted), dtype=bool)
        alone[3 * len(graph.weighted) + graph.weighted.index(layer.name)] = True
        return [(sources[0], alone)]
    if rule.holds is Holds.OPERANDS:
        return [
            (name, _padded(table, *sources[:at], *sources[at + 1 :]))
            for at, name in enumerate(sources)
        ]
    if rule.holds is Holds.INPUTS:
        return [(name, _padded(table, layer.name)) for name in (*sources, layer.name)]
    return []


def _beside(table: LayerTable, layer: LayerSpec) -> list[tuple[BoolArray, int, int, int]]:
    """What an operator saves beside tensors: sites, and how much of three kinds.

    Elements of activations a sample, words of statistics and indices a sample, and a pass.
    """
    graph, rule = table.graph, RULES[layer.op]
    reached = _padded(table, layer.name)
    if rule.statistics:
        count = STATISTICS_KEPT * rule.statistics(graph, layer)
        count += layer.channels * (layer.op == "groupnorm" and len(layer.args) > 1)
        per_batch = rule.statistics_per_batch
        return [(reached, 0, 0 if per_batch else count, count if per_batch else 0)]
    if len(layer.padding) == 4:
        return [(reached, _uneven_elements(graph, layer), 0, 0)]
    if layer.op == "parameter" and len(layer.args) > 1:  # indices computed in every pass
        return [(reached, 0, 0, INDEX_WORDS * layer.whole(1))]
    if layer.op in MAXIMA:
        return [(reached, 0, INDEX_WORDS * layer.out_elements, 0)]
    if layer.op == "attention":
        return [(reached, 0, layer.out_elements // layer.out_shape[-1], 0)]
    return []


def _uneven_elements(graph: ModelGraph, layer: LayerSpec) -> int:
    """Of a convolution's input with the difference of its uneven padding added."""
    channels, *sides = graph.shape(graph.producers(layer)[0])
    padded = [size + abs(a - b) for size, (a, b) in zip(sides, layer.pads, strict=True)]
    return channels * prod(padded)


def _padded(table: LayerTable, *tensors: str) -> BoolArray:
    """Sites at or before any of these tensors [4L]; none of them weights alone."""
    return np.concatenate([table.before(tensors), np.zeros(len(table.axes.names), dtype=bool)])
