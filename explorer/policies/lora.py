"""LoRA: low-rank adapters train, all else but a classifier is frozen (Hu et al., ICLR 2022).

The paper adapts the matrices of attention; which layers to adapt, and 1x1 convolutions among
them, is a choice here. A rank of 4 is that of its GPT-2; its alpha is a constant to tune once.
"""

from collections.abc import Mapping

import numpy as np

from explorer.design import UpdatePolicy
from explorer.errors import SpecError
from explorer.family import Option, PolicyContext, number, whole_number
from explorer.graph import ModelGraph
from explorer.low_rank import LowRank, largest_rank
from explorer.policies._blocks import blocks_of, last_blocks

SUMMARY = "low-rank adapters on linear layers and 1x1 convolutions train, and a classifier"
KINDS = {"all": ("linear", "conv2d"), "linear": ("linear",), "pointwise": ("conv2d",)}
OPTIONS = {
    "rank": Option(default="4", help="features between the two matrices of an adapter"),
    "alpha": Option(default="rank", help="what an adapter adds is times alpha / rank"),
    "targets": Option(
        default="all", help=f"{', '.join(KINDS)}, or ends of layer names, as in q_lin/v_lin"
    ),
    "blocks": Option(default="all", help="blocks counted from the output, or all and the rest"),
    "head": Option(
        default="trains", help="a linear last layer, for new classes", choices=("trains", "frozen")
    ),
}
LARGEST_ALPHA = 1e6


def reason_against(context: PolicyContext) -> str:
    """Needs a layer that can have an adapter before a classifier."""
    if _candidates(context.graph, 1):
        return ""
    return f"{context.graph.name} has no linear layer or 1x1 convolution before its last"


def known(context: PolicyContext) -> list[str]:
    """Where linear layers do the work; elsewhere TinyTL is the adapter to compare with."""
    graph = context.graph
    return ["lora"] if any(graph[n].op == "linear" for n in _candidates(graph, 1)) else []


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """Adapters on the targets, and a classifier."""
    chosen = {name: options.get(name, option.default) for name, option in OPTIONS.items()}
    graph, axes = context.graph, context.axes
    names = _targets(graph, chosen["targets"])
    if chosen["blocks"] != "all":
        count = whole_number("blocks", chosen["blocks"], 1, len(blocks_of(graph)))
        late = last_blocks(graph, count)
        names = [name for name in names if graph[name].block in late]
        if not names:
            raise SpecError.of("blocks", chosen["blocks"], "more, the last ones have no target")
    full = max(largest_rank(graph, name) for name in names)
    rank = whole_number("rank", chosen["rank"], 1, full)
    alpha = rank if chosen["alpha"] == "rank" else _alpha(chosen["alpha"])
    head = np.array([name == _classifier(graph) for name in axes.names])
    head &= chosen["head"] == "trains"
    given = ",".join(f"{name}={options[name]}" for name in OPTIONS if name in options)
    return UpdatePolicy.of(
        f"lora:{given}" if given else "lora",
        axes,
        slices=np.where(head, axes.out_channels, 0),
        update_bias=head,
        adapters=tuple(
            LowRank(layer=name, rank=rank, alpha=alpha)
            for name in names
            if largest_rank(graph, name) >= rank
        ),
    )


def _alpha(text: str) -> float:
    alpha = number("alpha", text, 0.0, LARGEST_ALPHA)
    if alpha == 0:
        raise SpecError.of("alpha", text, "rank, or a number above 0")
    return alpha


def _classifier(graph: ModelGraph) -> str:
    """The last layer, if it is a linear one; else no name."""
    last = graph.weighted[-1]
    return last if graph[last].op == "linear" else ""


def _candidates(graph: ModelGraph, rank: int) -> list[str]:
    """Layers before a classifier that can have an adapter of a rank."""
    names = [name for name in graph.weighted if name != _classifier(graph)]
    return [name for name in names if largest_rank(graph, name) >= rank]


def _targets(graph: ModelGraph, text: str) -> list[str]:
    candidates = _candidates(graph, 1)
    if text in KINDS:
        found = [name for name in candidates if graph[name].op in KINDS[text]]
        wanted = {text} if not found else set()
    else:
        ends = text.split("/")
        found = [name for name in candidates if any(_ends_in(name, end) for end in ends)]
        wanted = {end for end in ends if not any(_ends_in(name, end) for name in candidates)}
    if wanted:
        listed = ", ".join(candidates)
        raise SpecError.of("targets", min(wanted), f"{', '.join(KINDS)}, or ends of {listed}")
    return found


def _ends_in(name: str, end: str) -> bool:
    """Whether a layer's name ends in whole parts of a path."""
    return f".{name}".endswith(f".{end}")
