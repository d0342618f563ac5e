"""A share for each layer, by name: `free:LAYER=SHARE,...,bias=1`."""

from collections.abc import Mapping

import numpy as np

from explorer.design import UpdatePolicy
from explorer.family import Option, PolicyContext, number, whole_number

SUMMARY = "your own share of trained channels for each layer"
OPTIONS = {
    "bias": Option(default="0", help="1 trains the biases of trained layers", choices=("0", "1")),
    "LAYER": Option(default="", help="a layer's name = the share of its output channels, 0 to 1"),
}
ANY_OPTION = True


def reason_against(context: PolicyContext) -> str:
    """Always applicable."""
    return ""


def known(context: PolicyContext) -> list[str]:
    """Nothing to compare before a person has chosen."""
    return []


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """Named layers train their share, all others are frozen."""
    axes = context.axes
    ratios = np.zeros(len(axes.names))
    for name, text in options.items():
        if name != "bias":
            ratios[axes.index(name)] = number(f"share of {name}", text, 0.0, 1.0)
    bias = whole_number("bias", options.get("bias", OPTIONS["bias"].default), 0, 1)
    given = ",".join(f"{name}={text}" for name, text in options.items())
    return UpdatePolicy.of(
        f"free:{given}" if given else "free",
        axes,
        slices=axes.slices(ratios),
        update_bias=(ratios > 0) & bool(bias),
    )
