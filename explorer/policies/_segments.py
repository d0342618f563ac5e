"""Encoder, middle and decoder: what mu-Training and mu-Fine-Tuning tell apart.

Huang et al., "Efficient and Secure mu-Training and mu-Fine-Tuning" (2025,
10.1088/3049-477X/add26a). A segment is the layers of one `LayerSpec.block`.
"""

from collections.abc import Collection

import numpy as np

from explorer.design import UpdatePolicy
from explorer.family import PolicyContext
from explorer.phases import Distillation

ENCODER, MIDDLE, DECODER = "encoder", "middle", "decoder"
SEGMENTS = (ENCODER, MIDDLE, DECODER)


def reason_against_segments(context: PolicyContext) -> str:
    """Needs a network whose blocks are the three segments."""
    blocks = {layer.block for layer in context.graph.layers}
    missing = [name for name in SEGMENTS if name not in blocks]
    return f"the network has no {' and no '.join(missing)}" if missing else ""


def trained_segments(
    context: PolicyContext,
    family: str,
    segments: Collection[str],
    distillation: Distillation | None = None,
) -> UpdatePolicy:
    """Everything in some segments: weights, biases and norms."""
    axes = context.axes
    inside = np.array([context.graph[name].block in segments for name in axes.names])
    return UpdatePolicy.of(
        family,
        axes,
        slices=np.where(inside, axes.out_channels, 0),
        update_bias=inside,
        distillation=distillation,
    )
