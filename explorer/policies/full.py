"""Everything trains: standard fine-tuning."""

from collections.abc import Mapping

from explorer.design import UpdatePolicy, everything
from explorer.family import Option, PolicyContext

SUMMARY = "every weight, bias and norm trains"
OPTIONS: dict[str, Option] = {}


def reason_against(context: PolicyContext) -> str:
    """Always applicable."""
    return ""


def known(context: PolicyContext) -> list[str]:
    """The family itself."""
    return ["full"]


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """All slices of all layers."""
    return everything(context.axes)
