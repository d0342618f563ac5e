"""mu-Training: only the middle of the network trains (Huang et al., 2025)."""

from collections.abc import Mapping

from explorer.design import UpdatePolicy
from explorer.family import Option, PolicyContext
from explorer.policies._segments import MIDDLE, reason_against_segments, trained_segments

SUMMARY = "only the middle segment trains; encoder and decoder are frozen"
OPTIONS: dict[str, Option] = {}


def reason_against(context: PolicyContext) -> str:
    """Needs the three segments."""
    return reason_against_segments(context)


def known(context: PolicyContext) -> list[str]:
    """The family itself."""
    return ["mu-train"]


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """Everything in the middle."""
    return trained_segments(context, "mu-train", (MIDDLE,))
