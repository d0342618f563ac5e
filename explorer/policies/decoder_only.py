"""The decoder alone trains: the cheapest segment of mu-Fine-Tuning."""

from collections.abc import Mapping

from explorer.design import UpdatePolicy
from explorer.family import Option, PolicyContext
from explorer.policies._segments import DECODER, reason_against_segments, trained_segments

SUMMARY = "only the decoder trains; the features it reads could be kept"
OPTIONS: dict[str, Option] = {}


def reason_against(context: PolicyContext) -> str:
    """Needs the three segments."""
    return reason_against_segments(context)


def known(context: PolicyContext) -> list[str]:
    """The family itself."""
    return ["decoder-only"]


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """Everything in the decoder."""
    return trained_segments(context, "decoder-only", (DECODER,))
