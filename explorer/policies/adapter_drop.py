"""AdapterDrop: TinyTL without a share of its adapters.

TinyTrain compares with 25, 50 and 75 % (Kwon et al., ICML 2024). That the early adapters
go, and that their number is rounded to the nearest, is assumed: neither is published.
"""

from collections.abc import Mapping
from math import floor

from explorer.adapters import adapter_blocks
from explorer.design import UpdatePolicy
from explorer.family import Option, PolicyContext, number
from explorer.policies import tinytl

SUMMARY = "TinyTL without the early share of its adapters"
OPTIONS = {"share": Option(default="0.5", help="adapters left out, from the input, 0 to 1")}
KNOWN_SHARES = ("0.25", "0.5", "0.75")


def reason_against(context: PolicyContext) -> str:
    """As TinyTL."""
    return tinytl.reason_against(context)


def known(context: PolicyContext) -> list[str]:
    """The three shares of TinyTrain's comparison."""
    return [f"adapter-drop:share={share}" for share in KNOWN_SHARES]


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """All biases, and the adapters that are left."""
    text = options.get("share", OPTIONS["share"].default)
    share = number("share", text, 0.0, 1.0)
    count = len(adapter_blocks(context.graph))
    dropped = floor(share * count + 0.5)
    return tinytl.lite_residual(context, f"adapter-drop:share={text}", count - dropped)
