"""Scratch that a layer's kernels need beside their tensors, by engine.

`tiny-engine`: int8 kernels of TinyEngine on a Cortex-M with their floating-point backward
(mit-han-lab/tinyengine, code_generator/operators/: get_sbuf_size and get_kbuf_size of
conv2d.py, depthwiseConv2d.py, group_conv2d.py, transpose_conv2d.py). CMSIS-NN takes the
same two 16-bit im2col columns for a convolution (arm_convolve_get_buffer_sizes_s8.c).
`none`: kernels that need none, or whose tiles lie in a memory that is no level of the device.

Scratch is of one sample at a time, whatever the micro-batch, and alive only in its own
step, as in one shared arena; TinyEngine itself reserves the largest for the whole step.
"""

from dataclasses import dataclass
from math import prod

from explorer.costmodel.ops import kernel_kind
from explorer.device import TINY_ENGINE
from explorer.graph import LayerSpec, ModelGraph
from explorer.layer import CONVOLVE

COLUMNS = 2  # im2col columns at once
WIDENED_BYTES = 2  # int8 values widened to 16 bits
FLOAT_BYTES = 4
GRADIENT_LANES = 4 + 16  # rows and columns of a weight gradient worked on at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """Bytes in each step of one layer."""

    forward_bytes: int = 0
    weight_grad_bytes: int = 0
    input_grad_bytes: int = 0


def scratch_of(graph: ModelGraph, layer: LayerSpec, workspace: str) -> Scratch:
    """Scratch of a layer under a device.Workspace."""
    if workspace != TINY_ENGINE or layer.op not in ("conv2d", CONVOLVE):
        return Scratch()
    kind = kernel_kind(layer)
    channels, *sides = graph.shape(graph.producers(layer)[0])
    height, width = sides
    taps = prod(layer.kernel)
    positions = prod(layer.out_shape[1:])
    if kind == "depthwise":
        above, beside = layer.pads
        padded = (height + sum(above)) * (width + sum(beside))
        reach = (height + layer.kernel[0] - 1) * (width + layer.kernel[1] - 1)
        return Scratch(
            forward_bytes=2 * padded,
            weight_grad_bytes=FLOAT_BYTES * (padded + layer.out_elements),
            input_grad_bytes=FLOAT_BYTES * reach,
        )
    columns = COLUMNS * WIDENED_BYTES * taps * channels
    kernel = layer.channels * (channels // layer.groups) * taps
    widened_kernel = WIDENED_BYTES * kernel if taps > 1 else 0
    return Scratch(
        forward_bytes=columns + widened_kernel,
        weight_grad_bytes=FLOAT_BYTES * GRADIENT_LANES * positions,
    )
