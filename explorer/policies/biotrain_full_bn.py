"""BioTrain's baseline Full-FT: the whole network with batch norm.

Its statistics are of the batch, so all eight samples' activations are kept at once.
"""

from collections.abc import Mapping

from explorer.design import UpdatePolicy
from explorer.family import PolicyContext
from explorer.policies import _biotrain

SUMMARY = "BioTrain Full-FT: every weight, batch norm, the whole batch of 8 in memory"
OPTIONS = _biotrain.OPTIONS
SETUP = {**_biotrain.UPDATE, "micro_batch": 8, "norm": "bn"}


def reason_against(context: PolicyContext) -> str:
    """Always applicable."""
    return ""


def known(context: PolicyContext) -> list[str]:
    """The family itself, for networks over signals that have such a norm."""
    fits = _biotrain.is_published_for(context) and context.graph.norm == "bn"
    return ["biotrain-full-bn"] if fits else []


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """Every weight and scale, with or without the offsets of norms."""
    return _biotrain.whole_network("biotrain-full-bn", context, options)
