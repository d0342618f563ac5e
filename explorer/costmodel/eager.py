"""What plain eager PyTorch keeps for backward: more than a policy needs.

Autograd saves the whole input of a convolution or a norm whenever the output needs a
gradient, also when only dX is taken or only some channels train; the input of ReLU6 and
of an average pool and the output of ReLU in full; two statistics for every one a norm needs.
Read off torch 2.13's saved-tensor hooks, which a test compares with to the byte.
A tensor saved by several operators counts once; parameters and buffers do not count.
"""

from functools import lru_cache

import numpy as np

from explorer.costmodel.forms import FORMS
from explorer.costmodel.ops import RULES
from explorer.costmodel.tables import LayerTable, layer_table
from explorer.design import DesignBatch
from explorer.graph import INPUT, NORM_OPS, ModelGraph
from explorer.units import BITS_PER_BYTE, BoolArray, FloatArray

STATISTICS_KEPT = 2  # mean and reciprocal deviation
SAVES_INPUT = ("conv2d", *NORM_OPS)
SAVES_PASSED_INPUT = ("relu6", "avgpool")  # only where its input needs a gradient
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
    saved_by = np.zeros((len(tensors), 4 * layer_count), dtype=bool)
    extra = []
    for op, layer in enumerate(graph.layers):
        source = row[graph.producers(layer)[0]]
        output = _padded(table, op)
        if layer.op in SAVES_INPUT:
            saved_by[source] |= output
        elif layer.op in SAVES_PASSED_INPUT:
            saved_by[source] |= _padded(table, source)
        elif layer.op in SAVES_OUTPUT:
            saved_by[op] |= _padded(table, source)
        elif layer.op == "linear":
            saved_by[source, 3 * layer_count + graph.weighted.index(layer.name)] = True
        rule = RULES[layer.op]
        if rule.statistics:
            count = STATISTICS_KEPT * rule.statistics(layer)
            extra.append((output, count, rule.statistics_per_batch))
    sizes = [float(np.prod(graph.shape(name))) for name in tensors]
    needs = np.concatenate([saved_by, *(sites[None] for sites, _, _ in extra)]).T
    per_sample = np.zeros((needs.shape[1], 2))
    per_pass = np.zeros(needs.shape[1])
    per_sample[: len(tensors), 0] = sizes
    for column, (_, count, whole_batch) in enumerate(extra, start=len(tensors)):
        if whole_batch:
            per_pass[column] = count
        else:
            per_sample[column, 1] = count
    return needs.astype(np.float64), per_sample, per_pass


def _padded(table: LayerTable, row: int) -> BoolArray:
    layer_count = len(table.axes.names)
    return np.concatenate([table.ancestors[row], np.zeros(layer_count, dtype=bool)])
