"""BioTrain's Edge-FT: the whole network with group norm, one sample at a time.

A group norm's statistics are of one sample, so the gradients of eight micro-batches of one
sum to that of a batch of eight, with the activations of one.
"""

from collections.abc import Mapping

from explorer.design import UpdatePolicy
from explorer.family import PolicyContext
from explorer.policies import _biotrain

SUMMARY = "BioTrain Edge-FT: every weight, group norm, a batch of 8 one sample at a time"
OPTIONS = _biotrain.OPTIONS
SETUP = {**_biotrain.UPDATE, "micro_batch": 1, "norm": "gn"}


def reason_against(context: PolicyContext) -> str:
    """Always applicable."""
    return ""


def known(context: PolicyContext) -> list[str]:
    """The family itself, for networks over signals that have such a norm."""
    fits = _biotrain.is_published_for(context) and context.graph.norm == "gn"
    return ["biotrain-edge"] if fits else []


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """Every weight and scale, with or without the offsets of norms."""
    return _biotrain.whole_network("biotrain-edge", context, options)
