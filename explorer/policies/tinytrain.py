"""TinyTrain's online choice (Kwon et al., ICML 2024, section on task-adaptive update).

Layers by falling score F3 = Fisher potential / (relative size * relative MACs), each
kept if it still fits both budgets; inside a kept layer the top-K output channels by
Fisher information. Budgets, K and ties are not published: the defaults here are
assumed and visible as options.
"""

from collections.abc import Mapping

import numpy as np

from explorer.design import UpdatePolicy, everything
from explorer.errors import SpecError
from explorer.family import Option, PolicyContext, number
from explorer.units import BoolArray, FloatArray

SUMMARY = "layers and channels chosen for the task by Fisher information under budgets"
OPTIONS = {
    "memory": Option(default="device", help="peak RAM budget in bytes, or the device's own"),
    "macs": Option(default="0.15", help="backward MACs as a share of full training's"),
    "channels": Option(default="0.5", help="share of output channels kept in a chosen layer"),
}
KNOWN_MACS = ("0.15", "0.3")


def reason_against(context: PolicyContext) -> str:
    """Needs Fisher information of this network on this task."""
    if context.layer_fisher is None:
        graph = context.graph
        return (
            f"no Fisher table of {graph.name} with norm {graph.norm} for this task; "
            "`explorer fisher` makes one for the network's own norm"
        )
    return ""


def known(context: PolicyContext) -> list[str]:
    """The usual compute budget and twice as much."""
    return [f"tinytrain:macs={macs}" for macs in KNOWN_MACS]


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """Greedy choice under the budgets; layers that do not fit are passed over."""
    axes = context.axes
    memory_text = options.get("memory", OPTIONS["memory"].default)
    memory = context.usable_bytes
    if memory_text != "device":
        memory = number("memory", memory_text, 1, np.inf)
    share = number("macs", options.get("macs", OPTIONS["macs"].default), 0.0, 1.0)
    kept = number("channels", options.get("channels", OPTIONS["channels"].default), 0.0, 1.0)
    given = ",".join(f"{key}={value}" for key, value in options.items())
    family = f"tinytrain:{given}" if given else "tinytrain"
    slices_if_chosen = axes.slices(np.full(len(axes.names), kept))
    frozen = np.zeros(len(axes.names), dtype=bool)

    def policy(chosen: BoolArray) -> UpdatePolicy:
        return UpdatePolicy.of(
            family,
            axes,
            slices=np.where(chosen, slices_if_chosen, 0),
            update_bias=frozen,
            selection="fisher",
        )

    budget_macs = share * context.screen([everything(axes)])[1][0]
    chosen = frozen.copy()
    for layer in np.argsort(-_scores(context), kind="stable"):
        tried = chosen.copy()
        tried[layer] = True
        peak_bytes, backward_macs = context.screen([policy(tried)])
        if peak_bytes[0] <= memory and backward_macs[0] <= budget_macs:
            chosen = tried
    return policy(chosen)


def _scores(context: PolicyContext) -> FloatArray:
    """F3 of every layer [L]; maxima are over the whole model."""
    if context.layer_fisher is None:
        raise SpecError("policy tinytrain: no Fisher table")
    size = context.weight_counts / context.weight_counts.max()
    macs = context.forward_macs / context.forward_macs.max()
    score: FloatArray = context.layer_fisher / (size * macs)
    return score
