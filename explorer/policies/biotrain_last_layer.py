"""BioTrain's LP: only the last layer trains, one sample at a time."""

from collections.abc import Mapping
from dataclasses import replace

from explorer.design import UpdatePolicy
from explorer.family import Option, PolicyContext
from explorer.policies import _biotrain, last_layer

SUMMARY = "BioTrain LP: only the last layer, a batch of 8 one sample at a time"
OPTIONS: dict[str, Option] = {}
SETUP = {**_biotrain.UPDATE, "micro_batch": 1}


def reason_against(context: PolicyContext) -> str:
    """Always applicable."""
    return ""


def known(context: PolicyContext) -> list[str]:
    """Nothing: under one setup it is last-layer."""
    return []


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """Everything in the last layer."""
    return replace(last_layer.build(context, options), family="biotrain-last-layer")
