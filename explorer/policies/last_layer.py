"""Only the last layer with weights trains."""

from collections.abc import Mapping

import numpy as np

from explorer.design import UpdatePolicy
from explorer.family import Option, PolicyContext

SUMMARY = "only the last layer trains: weights, bias and norm"
OPTIONS: dict[str, Option] = {}


def reason_against(context: PolicyContext) -> str:
    """Always applicable."""
    return ""


def known(context: PolicyContext) -> list[str]:
    """The family itself."""
    return ["last-layer"]


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """Everything in the last layer."""
    axes = context.axes
    last = np.arange(len(axes.names)) == len(axes.names) - 1
    return UpdatePolicy.of(
        "last-layer", axes, slices=np.where(last, axes.out_channels, 0), update_bias=last
    )
