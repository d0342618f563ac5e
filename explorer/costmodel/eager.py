"""What plain eager PyTorch keeps for backward: more than a policy needs.

Autograd saves the whole input of a convolution or a norm whenever the output needs a
gradient, also when only dX is taken or only some channels train; the input of ReLU6 and
of a pool over windows and the output of ReLU in full; two statistics for every one a norm
needs. A convolution with uneven padding saves a copy of its input, padded by the difference;
a maximum pool 64-bit positions, too.
Read off torch 2.13's saved-tensor hooks, which a test compares with to the byte.
A tensor saved by several operators counts once; parameters and buffers do not count.
"""

from functools import lru_cache
from math import prod

import numpy as np

from explorer.costmodel.forms import FORMS
from explorer.costmodel.ops import RULES
from explorer.costmodel.tables import LayerTable, layer_table
from explorer.design import DesignBatch
from explorer.graph import INPUT, NORM_OPS, LayerSpec, ModelGraph
from explorer.units import BITS_PER_BYTE, BoolArray, FloatArray

STATISTICS_KEPT = 2  # mean and reciprocal deviation
POSITION_WORDS = 2  # of 32 bits each
SAVES_INPUT = ("conv2d", *NORM_OPS)
SAVES_PASSED_INPUT = ("relu6", "avgpool", "window_max")  # only where its input needs a gradient
SAVES_OUTPUT = ("relu",)


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
    layer_count = len(graph.weighted)
    tensors = [*(layer.name for layer in graph.layers), INPUT]
    row = {name: index for index, name in enumerate(tensors)}
    for layer in graph.layers:
        if layer.op == "reshape":  # the same memory
            row[layer.name] = row[graph.producers(layer)[0]]
    saved_by = np.zeros((len(tensors), 4 * layer_count), dtype=bool)
    extra = []  # sites, elements of activations and of statistics a sample, of statistics a pass
    for op, layer in enumerate(graph.layers):
        source = row[graph.producers(layer)[0]]
        output = _padded(table, op)
        if len(layer.padding) == 4:
            extra.append((output, _uneven_elements(graph, layer), 0, 0))
        elif layer.op in SAVES_INPUT:
            saved_by[source] |= output
        elif layer.op in SAVES_PASSED_INPUT:
            saved_by[source] |= _padded(table, source)
            if layer.op == "window_max":
                extra.append((_padded(table, source), 0, POSITION_WORDS * layer.out_elements, 0))
        elif layer.op in SAVES_OUTPUT:
            saved_by[row[layer.name]] |= _padded(table, source)
        elif layer.op == "linear":
            saved_by[source, 3 * layer_count + graph.weighted.index(layer.name)] = True
        rule = RULES[layer.op]
        if rule.statistics:
            count = STATISTICS_KEPT * rule.statistics(layer)
            per_batch = rule.statistics_per_batch
            extra.append((output, 0, 0 if per_batch else count, count if per_batch else 0))
    sizes = [float(np.prod(graph.shape(name))) for name in tensors]
    needs = np.concatenate([saved_by, *(one[0][None] for one in extra)]).T
    counts = np.zeros((needs.shape[1], 3))
    counts[: len(tensors), 0] = sizes
    counts[len(tensors) :] = [one[1:] for one in extra] or np.zeros((0, 3))
    return needs.astype(np.float64), counts[:, :2], counts[:, 2]


def _uneven_elements(graph: ModelGraph, layer: LayerSpec) -> int:
    """Of a convolution's input with the difference of its uneven padding added."""
    channels, *sides = graph.shape(graph.producers(layer)[0])
    padded = [size + abs(a - b) for size, (a, b) in zip(sides, layer.pads, strict=True)]
    return channels * prod(padded)


def _padded(table: LayerTable, row: int) -> BoolArray:
    layer_count = len(table.axes.names)
    return np.concatenate([table.ancestors[row], np.zeros(layer_count, dtype=bool)])
