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
    """The shares of TinyTrain's comparison that leave different adapters, and some."""
    count = len(adapter_blocks(context.graph))
    shares = {_dropped(float(share), count): share for share in reversed(KNOWN_SHARES)}
    return [f"adapter-drop:share={shares[n]}" for n in sorted(shares) if 0 < n < count]


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """All biases, and the adapters that are left."""
    text = options.get("share", OPTIONS["share"].default)
    share = number("share", text, 0.0, 1.0)
    count = len(adapter_blocks(context.graph))
    kept = count - _dropped(share, count)
    return tinytl.lite_residual(context, f"adapter-drop:share={text}", kept)


def _dropped(share: float, count: int) -> int:
    return floor(share * count + 0.5)
