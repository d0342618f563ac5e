"""Other people's accountings, to reproduce their figures; `device` is our own.

`tinytrain` is the convention behind the memory and compute table of Kwon et al. (ICML
2024), inferred from its cells: 32-bit numbers, four words per updated weight (weight,
gradient, two Adam moments), plus the peak of inference at batch 1 (a depthwise output
divided by its groups) when training is partial, or batch times everything autograd
keeps when all weights train. Biases, norms and heads do not count, and a layer that
trains only its bias does not extend the chain of input gradients. Networks with adapters
count as the second kind (their published size says so): inputs of trained convolutions,
and inputs of every norm and ReLU. Their published layout is unknown, the figures ours.

`tiny-training` is that of the sparse-update schemes (Lin et al., NeurIPS 2022): int8
inputs and weights touched, a bit per output of each layer whose bias trains.

`torch-eager` is plain PyTorch: everything autograd keeps, every gradient until the update,
and weight gradients computed in full and then masked; the peak is their sum with weights
and optimizer state, without the temporaries of operators.

`biotrain` runs operator by operator, each into a tensor of its own (Wang et al., arXiv
2604.13359; op_by_op.py): every weight, an accumulator for each that trains, and the peak of
activations and their gradients. Absolute figures of that paper follow from no convention
found, only their ratios do. `biotrain-relu-in-place` lets a ReLU overwrite its input.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from explorer.adapters import by_adapters
from explorer.costmodel.eager import eager_saved_bytes
from explorer.costmodel.lifetimes import parameter_bytes, trained_counts
from explorer.costmodel.op_by_op import op_by_op_bytes
from explorer.costmodel.report import CostReport
from explorer.costmodel.tables import LayerTable, layer_table
from explorer.costmodel.work import plain_work
from explorer.design import DesignBatch
from explorer.errors import SpecError
from explorer.graph import ModelGraph
from explorer.layer import CONVOLUTIONS
from explorer.low_rank import ROLE
from explorer.units import BITS_PER_BYTE, BoolArray, FloatArray

DEVICE = "device"
WORD_BYTES = 4
ADAM_STATES = 2

Columns = dict[str, FloatArray]
Convention = Callable[[LayerTable, DesignBatch], Columns]


def recount(graph: ModelGraph, costs: CostReport, accounting: str) -> CostReport:
    """The same designs under one of CONVENTIONS; time and energy stay the device's.

    Bytes above inference are unknown (nan) where a convention does not define inference.
    """
    if accounting not in CONVENTIONS:
        raise SpecError.of("accounting", accounting, ", ".join(CONVENTIONS))
    unknown = np.full(len(costs), np.nan)
    columns = dict.fromkeys(_RECOUNTED, np.zeros(len(costs)))
    columns |= {"training_extra_bytes": unknown, "arena_bytes": unknown}
    count = CONVENTIONS[accounting]
    columns |= by_adapters(graph, costs.designs, lambda own, rows: count(layer_table(own), rows))
    columns["peak_live_bytes"] = np.sum([columns[name] for name in _PARTS], axis=0)
    kept = {name: getattr(costs, name) for name in CostReport.columns() if name not in columns}
    return CostReport(designs=costs.designs, **kept, **columns)


def _tinytrain(table: LayerTable, designs: DesignBatch) -> Columns:
    sizes = _conv_sizes(table)
    weights = trained_counts(table, designs)[:, : len(sizes["macs"])]
    share = weights / table.weight_count
    complete = np.all(np.where(sizes["is_conv"], share, 1.0) == 1.0, axis=1)
    trains = (weights > 0) & (sizes["is_conv"] > 0)
    input_grad = (_behind_first(trains) | complete[:, None]) @ sizes["macs"]
    updated = (weights * sizes["is_conv"]).sum(axis=1)
    whole_batch = complete | bool(sizes["is_adapter"].any())
    batch = designs.setup.effective_batch
    inference = np.max(sizes["inputs"] + sizes["outputs"] // sizes["groups"])
    kept = trains @ sizes["inputs"] + sizes["outputs"].sum() + sizes["activated"].sum()
    saved_bytes = np.where(whole_batch, kept * batch * WORD_BYTES, 0.0)
    words = 2 + ADAM_STATES
    return {
        "input_grad_macs": input_grad,
        "weight_grad_macs": share @ sizes["macs"],
        "weight_bytes": updated * WORD_BYTES,
        "gradient_bytes": updated * WORD_BYTES,
        "optimizer_bytes": updated * WORD_BYTES * ADAM_STATES,
        "saved_activation_bytes": saved_bytes,
        "training_extra_bytes": updated * WORD_BYTES * words + saved_bytes,
        "workspace_bytes": np.where(whole_batch, 0.0, inference * WORD_BYTES),
    }


def _tiny_training(table: LayerTable, designs: DesignBatch) -> Columns:
    sizes = _conv_sizes(table)
    weights = trained_counts(table, designs)[:, : len(sizes["macs"])]
    share = weights / table.weight_count
    trains = weights > 0
    by_input = designs.axis_in[:, None] | table.depthwise
    inputs = np.where(by_input, share, trains) * sizes["inputs"]
    bias = designs.update_bias & table.axes.has_bias
    head_inputs = float(table.axes.out_channels[-1])
    return {
        "input_grad_macs": _behind_first(trains | bias) @ sizes["macs"],
        "weight_grad_macs": share @ sizes["macs"],
        "weight_bytes": weights.sum(axis=1) + bias @ (WORD_BYTES * table.bias_count),
        "saved_activation_bytes": inputs.sum(axis=1)
        + bias @ (sizes["outputs"] / BITS_PER_BYTE)
        + head_inputs,
    }


def _torch_eager(table: LayerTable, designs: DesignBatch) -> Columns:
    trained = trained_counts(table, designs)
    setup = designs.setup
    fixed = parameter_bytes(
        table, trained, replace(setup, update_timing="deferred"), weights_in_flash=False
    )
    layer_count = len(table.axes.names)
    complete = trained[:, :layer_count] > 0
    return fixed | {
        "input_grad_macs": plain_work(table, designs, trained).macs(table)["input_grad_macs"],
        "weight_grad_macs": complete @ table.weight_macs,
        "saved_activation_bytes": eager_saved_bytes(table.graph, designs),
    }


def _biotrain(table: LayerTable, designs: DesignBatch, *, relu_in_place: bool) -> Columns:
    trained = trained_counts(table, designs)
    saved, peak, _ = op_by_op_bytes(table.graph, designs, relu_in_place=relu_in_place)
    macs = plain_work(table, designs, trained).macs(table)
    return parameter_bytes(table, trained, designs.setup, weights_in_flash=False) | {
        "input_grad_macs": macs["input_grad_macs"],
        "weight_grad_macs": macs["weight_grad_macs"],
        "saved_activation_bytes": saved,
        "workspace_bytes": peak - saved,
    }


def _behind_first(trains: BoolArray) -> BoolArray:
    """Layers behind the first that trains [P, L]."""
    behind: BoolArray = np.greater(np.cumsum(trains, axis=1), trains)
    return behind


def _conv_sizes(table: LayerTable) -> Columns:
    """Per weighted layer [L]: MACs (0 for a linear head), elements in and out, groups.

    `activated` are the outputs that a ReLU reads, perhaps through a norm.
    """
    graph = table.graph
    layers = [graph[name] for name in graph.weighted]
    is_conv = np.array([float(layer.op in CONVOLUTIONS) for layer in layers])
    activated = {
        name for layer in graph.layers if layer.op.startswith("relu") for name in layer.inputs
    }
    outputs = np.array([layer.out_elements for layer in layers], dtype=np.float64)
    return {
        "is_conv": is_conv,
        "macs": table.forward_macs * is_conv,
        "inputs": np.array(
            [
                float(sum(np.prod(graph.shape(name)) for name in graph.producers(layer)))
                for layer in layers
            ]
        )
        * is_conv,
        "outputs": outputs * is_conv,
        "groups": np.array([float(layer.groups) for layer in layers]),
        "activated": outputs
        * [(graph.norm_of(layer.name) or layer.name) in activated for layer in layers],
        "is_adapter": np.array([float(layer.role == ROLE) for layer in layers]),
    }


CONVENTIONS: Mapping[str, Convention] = {
    "tinytrain": _tinytrain,
    "tiny-training": _tiny_training,
    "torch-eager": _torch_eager,
    "biotrain": partial(_biotrain, relu_in_place=False),
    "biotrain-relu-in-place": partial(_biotrain, relu_in_place=True),
}
ACCOUNTINGS = (DEVICE, *CONVENTIONS)
_PARTS = (
    "weight_bytes",
    "gradient_bytes",
    "optimizer_bytes",
    "saved_activation_bytes",
    "workspace_bytes",
)
_RECOUNTED = (
    *_PARTS,
    "input_grad_macs",
    "weight_grad_macs",
    "recompute_macs",
    "per_pass_macs",
    "flash_bytes",
)
