"""Nothing trains: inference, with prototypes from the support set."""

from collections.abc import Mapping

from explorer.design import UpdatePolicy, nothing
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
    return nothing(context.axes)
