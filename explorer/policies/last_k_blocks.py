"""The last k blocks train wholly, and what lies behind the first of them in no block."""

from collections.abc import Mapping

import numpy as np

from explorer.design import UpdatePolicy
from explorer.family import Option, PolicyContext, whole_number
from explorer.policies._blocks import blocks_of, last_blocks

SUMMARY = "the last k blocks and the head train: weights, biases and norms"
OPTIONS = {"k": Option(default="1", help="blocks that train, counted from the output")}
KNOWN_DEPTHS = (1, 2, 4, 8)


def reason_against(context: PolicyContext) -> str:
    """Needs blocks."""
    return "" if blocks_of(context.graph) else f"{context.graph.name} has no blocks"


def known(context: PolicyContext) -> list[str]:
    """A few depths of a transformer; elsewhere `last-k` tells the same story."""
    graph = context.graph
    if not any(graph[name].op == "linear" and graph[name].block for name in graph.weighted):
        return []
    count = len(blocks_of(graph))
    return [f"last-k-blocks:k={k}" for k in KNOWN_DEPTHS if k < count]


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """Everything in the last k blocks and behind."""
    graph, axes = context.graph, context.axes
    text = options.get("k", OPTIONS["k"].default)
    k = whole_number("k", text, 1, len(blocks_of(graph)))
    blocks = [graph[name].block for name in axes.names]
    kept = last_blocks(graph, k)
    first = min(at for at, block in enumerate(blocks) if block in kept)
    late = [block in kept or (not block and at > first) for at, block in enumerate(blocks)]
    return UpdatePolicy.of(
        f"last-k-blocks:k={k}",
        axes,
        slices=np.where(late, axes.out_channels, 0),
        update_bias=np.array(late),
    )
