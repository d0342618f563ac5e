"""Future-guided self-distillation (Huang et al., 2025, Algorithm 2).

Before each step of the segment that trains, the other segments take a step in a copy on the
true labels; what that network answers are soft labels with the share alpha of the loss. It
costs about two steps. In the authors' integrated procedure the roles are swapped later.
"""

from collections.abc import Mapping

from explorer.design import UpdatePolicy
from explorer.family import Option, PolicyContext, number
from explorer.phases import Distillation
from explorer.policies._segments import (
    DECODER,
    ENCODER,
    MIDDLE,
    reason_against_segments,
    trained_segments,
)

SUMMARY = "one segment trains on labels and on soft labels of a look-ahead step of the others"
TRAINED = {"middle": (MIDDLE,), "ends": (ENCODER, DECODER)}
OPTIONS = {
    "alpha": Option(default="0.8", help="share of the soft labels in the loss, 0 to 1"),
    "trains": Option(
        default="middle", help="the middle, or encoder and decoder", choices=tuple(TRAINED)
    ),
    "reuse": Option(
        default="0", help="1 runs the network once for both backward passes", choices=("0", "1")
    ),
}


def reason_against(context: PolicyContext) -> str:
    """Needs the three segments."""
    return reason_against_segments(context)


def known(context: PolicyContext) -> list[str]:
    """With the authors' defaults."""
    return ["mu-distilled"]


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """One segment trains, with the look-ahead before each step."""
    chosen = {name: options.get(name, option.default) for name, option in OPTIONS.items()}
    given = ",".join(f"{name}={text}" for name, text in options.items())
    distillation = Distillation(
        soft_label_ratio=number("alpha", chosen["alpha"], 0.0, 1.0),
        reuse_forward=chosen["reuse"] == "1",
    )
    family = f"mu-distilled:{given}" if given else "mu-distilled"
    return trained_segments(context, family, TRAINED[chosen["trains"]], distillation)
