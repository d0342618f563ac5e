"""TinyTrain's online choice (Kwon et al., ICML 2024, section on task-adaptive update).

Layers by falling score F3 = Fisher potential / (relative size * relative MACs), each
kept if it still fits both budgets; inside a kept layer the top-K output channels by
Fisher information. Budgets, K and ties are not published: the defaults here are
assumed and visible as options. Other criteria, the channel baselines of the paper's
ablation (weight norm, random) and a refill of what the greedy choice leaves, which is our
own, are options too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from explorer.design import UpdatePolicy, everything
from explorer.errors import SpecError
from explorer.family import Option, PolicyContext, f3_divisor, number
from explorer.units import BoolArray, FloatArray, IntArray

SUMMARY = "layers and channels chosen for the task by Fisher information under budgets"
OPTIONS = {
    "memory": Option(default="device", help="peak RAM budget in bytes, or the device's own"),
    "macs": Option(default="0.15", help="backward MACs as a share of full training's"),
    "channels": Option(default="0.5", help="share of output channels kept in a chosen layer"),
    "criterion": Option(
        default="f3",
        help="layers by F3, by plain Fisher potential, or by gradient norm",
        choices=("f3", "fisher", "gradient"),
    ),
    "selection": Option(
        default="fisher",
        help="channels by Fisher information, weight norm, at random, or by gradient norm",
        choices=("fisher", "magnitude", "random", "gradient"),
    ),
    "refill": Option(
        default="0",
        help="1 spends what the greedy choice leaves on fewer channels of other layers (ours)",
        choices=("0", "1"),
    ),
}
KNOWN_MACS = ("0.15", "0.3")
REFILL_RATIOS = (0.5, 0.25, 0.125)
FEWEST_ELIGIBLE = 8


def reason_against(context: PolicyContext) -> str:
    """Needs Fisher information of this network on this task."""
    if context.layer_fisher is None:
        graph = context.graph
        return (
            f"no Fisher table of {graph.name} with norm {graph.norm} for this task; "
            "`explorer fisher MODEL TASK` makes one for the network's own norm"
        )
    return ""


def known(context: PolicyContext) -> list[str]:
    """The usual compute budget and twice as much."""
    return [f"tinytrain:macs={macs}" for macs in KNOWN_MACS]


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """Greedy choice under the budgets; layers that do not fit are passed over.

    What does not fit beside some layers does not fit beside more, and is not tried again.
    """
    rules = _Rules.of(context, options)
    order = np.argsort(-rules.layer_scores(), kind="stable")
    slices, kept = np.zeros(len(order), dtype=np.int64), rules.slices_at(rules.kept_ratio)
    left = order[rules.fit_beside(slices, order)]
    while len(left):
        slices[left[0]] = kept[left[0]]
        left = left[1:][rules.fit_beside(slices, left[1:])]
    if rules.words["refill"] == "1":
        fewer = tuple(rules.kept_ratio * ratio for ratio in REFILL_RATIOS)
        for layer in order[slices[order] == 0]:
            slices = rules.with_layer(slices, layer, fewer)
    return rules.policy(slices)


def procedure(context: PolicyContext, options: Mapping[str, str]) -> str:
    """The spec with every option, the device's RAM as a number."""
    rules = _Rules.of(context, options)
    memory = rules.words["memory"]
    if memory == OPTIONS["memory"].default:
        memory = f"{rules.memory_bytes:.0f}"
    words = {**rules.words, "memory": memory}
    return f"tinytrain:{','.join(f'{name}={word}' for name, word in words.items())}"


def warnings(context: PolicyContext, options: Mapping[str, str]) -> list[str]:
    """When the budgets leave so few layers that every criterion picks the same ones."""
    rules = _Rules.of(context, options)
    every = np.arange(len(context.axes.names))
    alone = rules.fit_beside(np.zeros_like(every), every)
    eligible = int(alone.sum())
    if eligible >= FEWEST_ELIGIBLE:
        return []
    return [
        f"tinytrain: only {eligible} of {len(alone)} layers fit the budgets on their own; below "
        f"{FEWEST_ELIGIBLE} the budgets decide which layers train, not the task"
    ]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Rules:
    """Options as numbers: budgets, and the share of channels kept in a chosen layer."""

    context: PolicyContext
    family: str
    words: Mapping[str, str]
    memory_bytes: float
    backward_macs: float
    kept_ratio: float

    @classmethod
    def of(cls, context: PolicyContext, options: Mapping[str, str]) -> "_Rules":
        words = {name: option.default for name, option in OPTIONS.items()} | dict(options)
        device = words["memory"] == "device"
        memory = context.usable_bytes if device else number("memory", words["memory"], 1, np.inf)
        share = number("macs", words["macs"], 0.0, 1.0)
        given = ",".join(f"{key}={value}" for key, value in options.items())
        return cls(
            context=context,
            family=f"tinytrain:{given}" if given else "tinytrain",
            words=words,
            memory_bytes=memory,
            backward_macs=share * context.screen([everything(context.axes)])[1][0],
            kept_ratio=number("channels", words["channels"], 0.0, 1.0),
        )

    def layer_scores(self) -> FloatArray:
        """Score of every layer [L]; the maxima of F3 are over the whole model."""
        context, criterion = self.context, self.words["criterion"]
        scores = context.layer_gradient if criterion == "gradient" else context.layer_fisher
        if scores is None:
            raise SpecError("policy tinytrain: no Fisher table")
        if criterion == "f3":
            scores = scores / f3_divisor(context.weight_counts, context.forward_macs)
        return scores

    def slices_at(self, ratio: float) -> IntArray:
        """Trained channels of each layer at a share [L]."""
        axes = self.context.axes
        return axes.slices(np.full(len(axes.names), ratio))

    def policy(self, slices: IntArray) -> UpdatePolicy:
        """Weights alone, output channels by the chosen selection."""
        return UpdatePolicy.of(
            self.family,
            self.context.axes,
            slices=slices,
            update_bias=np.zeros(len(slices), dtype=bool),
            selection=self.words["selection"],
        )

    def fits(self, rows: IntArray) -> BoolArray:
        """Which rows of slices [P, L] fit both budgets [P]."""
        peak_bytes, backward_macs = self.context.screen([self.policy(row) for row in rows])
        fits: BoolArray = (peak_bytes <= self.memory_bytes) & (backward_macs <= self.backward_macs)
        return fits

    def fit_beside(self, slices: IntArray, layers: IntArray) -> BoolArray:
        """Which of some layers fit both budgets, each alone beside what trains already."""
        tried = np.repeat(slices[None], len(layers), axis=0)
        tried[np.arange(len(layers)), layers] = self.slices_at(self.kept_ratio)[layers]
        return self.fits(tried)

    def with_layer(self, slices: IntArray, layer: int, ratios: Sequence[float]) -> IntArray:
        """The slices with a layer added at the first share that fits, or as they were."""
        tried = np.repeat(slices[None], len(ratios), axis=0)
        tried[:, layer] = [self.slices_at(ratio)[layer] for ratio in ratios]
        fits = self.fits(tried)
        taken: IntArray = tried[fits.argmax()] if fits.any() else slices
        return taken
