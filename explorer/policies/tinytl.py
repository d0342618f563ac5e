"""TinyTL: lite-residual adapters and all biases train (Cai et al., NeurIPS 2020).

The adapters are those of the TinyTL paper with its defaults (`explorer.adapters`). Which
layout TinyTrain compared with is not published, so costs of this family are our own.
"""

from collections.abc import Mapping

import numpy as np

from explorer.adapters import adapter_blocks
from explorer.design import UpdatePolicy
from explorer.family import Option, PolicyContext, whole_number

SUMMARY = "all biases and a small adapter on each block train; no weight of the network does"
OPTIONS = {"blocks": Option(default="all", help="adapters counted from the output, or all")}


def reason_against(context: PolicyContext) -> str:
    """Needs blocks behind a first one."""
    if adapter_blocks(context.graph):
        return ""
    return f"{context.graph.name} has no block behind its first that could take an adapter"


def known(context: PolicyContext) -> list[str]:
    """An adapter on every block but the first."""
    return ["tinytl"]


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """All biases, and the adapters of the last blocks."""
    count = len(adapter_blocks(context.graph))
    text = options.get("blocks", OPTIONS["blocks"].default)
    kept = count if text == "all" else whole_number("blocks", text, 1, count)
    return lite_residual(context, "tinytl" if text == "all" else f"tinytl:blocks={text}", kept)


def lite_residual(context: PolicyContext, family: str, kept: int) -> UpdatePolicy:
    """All biases, and the last `kept` adapters."""
    blocks = adapter_blocks(context.graph)
    layer_count = len(context.axes.names)
    return UpdatePolicy.of(
        family,
        context.axes,
        slices=np.zeros(layer_count, dtype=np.int64),
        update_bias=np.ones(layer_count, dtype=bool),
        adapters=blocks[len(blocks) - kept :],
    )
