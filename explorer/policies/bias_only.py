"""Biases train (or the offsets of norms), weights do not (Cai et al., NeurIPS 2020)."""

from collections.abc import Mapping

import numpy as np

from explorer.design import UpdatePolicy
from explorer.family import Option, PolicyContext, whole_number

SUMMARY = "biases of the last layers train; no weight does"
OPTIONS = {"last": Option(default="all", help="layers counted from the output, or all")}
KNOWN_DEPTHS = ("12", "all")


def reason_against(context: PolicyContext) -> str:
    """Needs biases or norm offsets."""
    return "" if context.axes.has_bias.any() else "the network has no biases"


def known(context: PolicyContext) -> list[str]:
    """All biases, and the last twelve in a deeper network."""
    shallow = len(context.axes.names) <= int(KNOWN_DEPTHS[0])
    return [f"bias-only:last={last}" for last in KNOWN_DEPTHS[shallow:]]


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """Biases of the last layers."""
    layer_count = len(context.axes.names)
    text = options.get("last", OPTIONS["last"].default)
    last = layer_count if text == "all" else whole_number("last", text, 1, layer_count)
    late = np.arange(layer_count) >= layer_count - last
    return UpdatePolicy.of(
        f"bias-only:last={text}",
        context.axes,
        slices=np.zeros(layer_count, dtype=np.int64),
        update_bias=late,
    )
