"""SparseUpdate: fixed schemes in the terms of mit-han-lab/tiny-training.

Lin et al., "On-Device Training Under 256KB Memory" (NeurIPS 2022). A scheme trains
the biases of the last n convolutions and, in listed convolutions (0-based from the
input), the input channels of largest weight norm. Labels of the published ones are KB in
their own accounting; a scheme of one's own is given by its parts.
"""

from collections.abc import Mapping

from explorer.design import UpdatePolicy
from explorer.errors import SpecError
from explorer.family import Option, PolicyContext
from explorer.tiny_training import (
    CRITERIA,
    FAMILY,
    SCHEMES,
    config_from,
    policy_from,
    published_name,
)

SUMMARY = "published fixed schemes: chosen input channels and late biases"
OPTIONS = {
    "scheme": Option(default="", help="label of a published scheme, such as 99kb"),
    "biases": Option(default="", help="of one's own scheme: biases of the last n train"),
    "layers": Option(default="", help="convolutions whose weights train, such as 21-24-27"),
    "shares": Option(default="", help="their shares of input channels, such as 1-0.5-0.125"),
    "criterion": Option(
        default="magnitude", help="which channels a share takes", choices=tuple(CRITERIA)
    ),
}

_WORDS = {  # what that repository calls them: here nobody wrote that
    "manual_weight_idx": "layers",
    "weight_update_ratio": "shares",
    "n_bias_update": "biases",
}


def reason_against(context: PolicyContext) -> str:
    """Applies to every network."""
    return ""


def known(context: PolicyContext) -> list[str]:
    """A small, a middle and a large scheme, of the networks that have published ones."""
    labels = list(SCHEMES.get(published_name(context.graph), ()))
    return [f"{FAMILY}:scheme={label}" for label in labels[:: len(labels) // 2 or 1]]


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """The scheme as that repository reads it; without options the first, or every bias."""
    given = {key: value for key, value in options.items() if value}
    if "scheme" in given and len(given) > 1:
        raise SpecError.of(f"options of {FAMILY}", ", ".join(given), "a scheme, or its parts")
    if not given:
        published = SCHEMES.get(published_name(context.graph))
        given = {"scheme": next(iter(published))} if published else {"biases": "all"}
    family = f"{FAMILY}:{','.join(f'{key}={value}' for key, value in given.items())}"
    try:
        return policy_from(config_from(given, context.graph), context.graph, family)
    except SpecError as error:
        sentence = str(error)
        for theirs, ours in _WORDS.items():
            sentence = sentence.replace(theirs, ours)
        raise SpecError(sentence) from None
