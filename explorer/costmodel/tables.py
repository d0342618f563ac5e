"""A graph as columns: built once per graph and kept.

`LayerTable` holds one row per weighted layer [L] and one per operator [O].
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from explorer.costmodel.ops import (
    RULES,
    check_supported,
    input_grad_macs,
    kernel_kind,
    pass_macs,
    products_of,
    special_kernel,
    weight_grad_macs,
)
from explorer.design import DesignBatch, LayerAxes
from explorer.graph import INPUT, NORM_OPS, WEIGHTED_OPS, LayerSpec, ModelGraph
from explorer.layer import SLICED_OPS
from explorer.units import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerTable:
    """Sizes of every layer of one graph, per sample.

    Weighted layers [L]: `op_index` (position among operators), `norm_index` (position of
    the norm behind it, -1 without), `forward_macs`, `weight_count`, `bias_count` (bias,
    or offset of the norm), `norm_count` (scales), `kind` (kernel), `depthwise`,
    `special` (kernel with a rate of its own, or empty), `weight_macs` of dW, `pass_macs` once
    a micro-batch while the weights train.
    Operators [O]: `element_count` of the output, `op_macs` of those without weights; of those
    that have any MACs `product_kind` is the kernel.
    Backward of those and of recurrent layers [K]: `operand_macs`, taken by `operand_op` where
    any of the sites `operand_sites` [3L, K] trains; `input_macs` [L] of dX of the others.
    `ancestors` [O + 1, 3L]: which sites that
    can train lie at or before a tensor (row O is the network input); columns are L sites of
    weights and own biases, L of norm scales, L of norm offsets. `own_bias` [L] says whether
    a bias is the layer's own rather than its norm's offset.
    """

    graph: ModelGraph
    axes: LayerAxes
    op_index: IntArray
    norm_index: IntArray
    forward_macs: FloatArray
    weight_count: FloatArray
    bias_count: FloatArray
    norm_count: FloatArray
    kind: tuple[str, ...]
    depthwise: BoolArray
    special: tuple[str, ...]
    own_bias: BoolArray
    weight_macs: FloatArray
    pass_macs: FloatArray
    element_count: FloatArray
    op_macs: FloatArray
    product_kind: tuple[str, ...]
    input_macs: FloatArray
    operand_op: IntArray
    operand_sites: FloatArray
    operand_macs: FloatArray
    ancestors: BoolArray
    passes: FloatArray
    pass_column: IntArray

    def gradient_passes(self, active: BoolArray) -> BoolArray:
        """Through which operators a gradient passes to their input [P, O].

        `active` [P, 3L] are the sites that train.
        """
        reached: BoolArray = (active @ self.passes > 0)[:, self.pass_column]
        return reached

    @cached_property
    def macs_per_weight(self) -> FloatArray:
        """MACs of dW for each weight of a sample [L]."""
        macs: FloatArray = self.weight_macs / self.weight_count
        return macs

    @cached_property
    def sample_macs(self) -> FloatArray:
        """MACs of each operator's forward pass of a sample [O]."""
        macs = self.op_macs.copy()
        macs[self.op_index] = self.forward_macs
        return macs

    def before(self, tensors: tuple[str, ...]) -> BoolArray:
        """Sites at or before any of these tensors [3L]."""
        return _joined(self.graph, self.ancestors, tensors)

    def active_sites(self, designs: DesignBatch) -> BoolArray:
        """Which sites train [P, 3L], columns as in `ancestors`."""
        weights = (designs.slices > 0) | (designs.update_bias & self.own_bias)
        offsets = designs.update_bias & ~self.own_bias
        return np.concatenate([weights, designs.update_norm, offsets], axis=1)


@lru_cache(maxsize=32)
def layer_table(graph: ModelGraph) -> LayerTable:
    """The table of a graph; raises UnsupportedOpError for operators without a rule."""
    check_supported(graph)
    axes = LayerAxes.of(graph)
    position = {layer.name: index for index, layer in enumerate(graph.layers)}
    weighted = [graph[name] for name in graph.weighted]
    norms = [graph.norm_of(name) for name in graph.weighted]
    channels = np.array([layer.channels for layer in weighted], np.float64)
    ancestors = _ancestors(graph, norms)
    before = [_joined(graph, ancestors, graph.producers(layer)) for layer in graph.layers]
    operands = _operands(graph)
    passes, pass_column = np.unique(before, axis=0, return_inverse=True)
    return LayerTable(
        graph=graph,
        axes=axes,
        op_index=np.array([position[name] for name in graph.weighted]),
        norm_index=np.array([-1 if norm is None else position[norm] for norm in norms]),
        forward_macs=np.array([_macs(graph, layer.name) for layer in weighted], dtype=np.float64),
        weight_count=np.array([graph.weight_elements(layer) for layer in weighted], np.float64),
        bias_count=np.where(axes.has_bias, channels, 0.0),
        norm_count=np.where(axes.has_norm, channels, 0.0),
        kind=tuple(_weight_kind(graph, layer) for layer in weighted),
        depthwise=np.array([kernel_kind(layer) == "depthwise" for layer in weighted]),
        special=tuple(special_kernel(graph, layer) for layer in weighted),
        own_bias=np.array([layer.has_bias for layer in weighted]),
        weight_macs=np.array([weight_grad_macs(graph, layer) for layer in weighted], np.float64),
        pass_macs=np.array([pass_macs(graph, layer) for layer in weighted], np.float64),
        element_count=np.array([layer.out_elements for layer in graph.layers], np.float64),
        op_macs=np.array(
            [0 if layer.op in WEIGHTED_OPS else _macs(graph, layer.name) for layer in graph.layers],
            np.float64,
        ),
        product_kind=tuple(
            kernel_kind(layer)
            for layer in graph.layers
            if layer.op not in WEIGHTED_OPS and _macs(graph, layer.name)
        ),
        input_macs=np.array(
            [_macs(graph, layer.name) * (layer.op in SLICED_OPS) for layer in weighted], np.float64
        ),
        operand_op=np.array([position[name] for name, _, _ in operands], np.int64),
        operand_sites=np.array(
            [_joined(graph, ancestors, read) for _, read, _ in operands], np.float64
        )
        .reshape(len(operands), ancestors.shape[1])
        .T,
        operand_macs=np.array([macs for _, _, macs in operands], np.float64),
        ancestors=ancestors,
        passes=passes.T.astype(np.float64),
        pass_column=pass_column,
    )


def _weight_kind(graph: ModelGraph, layer: LayerSpec) -> str:
    """The kernel of a layer, of a parameter that of the products it is in."""
    products = products_of(graph, layer) if layer.op == "parameter" else []
    return kernel_kind(products[0] if products else layer)


def _macs(graph: ModelGraph, name: str) -> int:
    rule = RULES[graph[name].op].macs
    return 0 if rule is None else rule(graph, graph[name])


def _operands(graph: ModelGraph) -> list[tuple[str, tuple[str, ...], int]]:
    """Products and recurrent layers: name, tensors whose gradient is taken, its MACs."""
    return [
        (layer.name, tensors, macs)
        for layer in graph.layers
        if layer.op not in SLICED_OPS
        for tensors, macs in input_grad_macs(graph, layer)
    ]


def _joined(graph: ModelGraph, ancestors: BoolArray, tensors: tuple[str, ...]) -> BoolArray:
    """Sites at or before any of these tensors [3L]."""
    rows = [graph.position(name) for name in tensors]
    return np.asarray(ancestors[rows].any(axis=0))


def _ancestors(graph: ModelGraph, norms: list[str | None]) -> BoolArray:
    layer_count = len(graph.weighted)
    row = {layer.name: index for index, layer in enumerate(graph.layers)} | {
        INPUT: len(graph.layers)
    }
    reach = np.zeros((len(row), 3 * layer_count), dtype=bool)
    weight_site = {name: index for index, name in enumerate(graph.weighted)}
    norm_site = {norm: layer_count + index for index, norm in enumerate(norms) if norm}
    for layer in graph.layers:
        here = row[layer.name]
        for producer in graph.producers(layer):
            reach[here] |= reach[row[producer]]
        if layer.name in weight_site:
            reach[here, weight_site[layer.name]] = True
        if layer.op in NORM_OPS and layer.name in norm_site:
            reach[here, norm_site[layer.name]] = True
            reach[here, norm_site[layer.name] + layer_count] = True
    return reach
