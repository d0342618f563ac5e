"""mu-Fine-Tuning: encoder and decoder train on the device (Huang et al., 2025)."""

from collections.abc import Mapping

from explorer.design import UpdatePolicy
from explorer.family import Option, PolicyContext
from explorer.policies._segments import DECODER, ENCODER, reason_against_segments, trained_segments

SUMMARY = "only encoder and decoder train; the middle is frozen"
OPTIONS: dict[str, Option] = {}


def reason_against(context: PolicyContext) -> str:
    """Needs the three segments."""
    return reason_against_segments(context)


def known(context: PolicyContext) -> list[str]:
    """The family itself."""
    return ["mu-finetune"]


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """Everything in the encoder and the decoder."""
    return trained_segments(
        context,
        "mu-finetune",
        (
            ENCODER,
            DECODER,
        ),
    )
