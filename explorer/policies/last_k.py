"""The last k layers with weights train, wholly."""

from collections.abc import Mapping

import numpy as np

from explorer.design import UpdatePolicy
from explorer.family import Option, PolicyContext, whole_number

SUMMARY = "the last k layers train: weights, biases and norms"
OPTIONS = {"k": Option(default="4", help="layers that train, counted from the output")}
KNOWN_DEPTHS = (2, 4, 8, 16)


def reason_against(context: PolicyContext) -> str:
    """Always applicable."""
    return ""


def known(context: PolicyContext) -> list[str]:
    """A few depths below the whole network."""
    return [f"last-k:k={k}" for k in KNOWN_DEPTHS if k < len(context.axes.names)]


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """Everything in the last k layers."""
    axes = context.axes
    layer_count = len(axes.names)
    k = whole_number("k", options.get("k", OPTIONS["k"].default), 1, layer_count)
    late = np.arange(layer_count) >= layer_count - k
    return UpdatePolicy.of(
        f"last-k:k={k}",
        axes,
        slices=np.where(late, axes.out_channels, 0),
        update_bias=late,
    )
