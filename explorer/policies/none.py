"""Nothing trains: inference, with prototypes from the support set."""

from collections.abc import Mapping

import numpy as np

from explorer.design import UpdatePolicy
from explorer.family import Option, PolicyContext

SUMMARY = "nothing trains; inference only"
OPTIONS: dict[str, Option] = {}


def reason_against(context: PolicyContext) -> str:
    """Always applicable."""
    return ""


def known(context: PolicyContext) -> list[str]:
    """The family itself."""
    return ["none"]


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """All layers frozen."""
    frozen = np.zeros(len(context.axes.names), dtype=bool)
    return UpdatePolicy.of("none", context.axes, slices=frozen * 1, update_bias=frozen)
