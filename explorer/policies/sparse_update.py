"""SparseUpdate: the schemes published with mit-han-lab/tiny-training.

Lin et al., "On-Device Training Under 256KB Memory" (NeurIPS 2022). A scheme trains
the biases of the last n convolutions and, in listed convolutions (0-based from the
input), the input channels of largest weight norm. Labels are KB in their own
accounting.
"""

from collections.abc import Mapping

import numpy as np

from explorer.design import UpdatePolicy
from explorer.errors import SpecError
from explorer.family import Option, PolicyContext

SUMMARY = "published fixed schemes: chosen input channels and late biases"
OPTIONS = {"scheme": Option(default="", help="label of a published scheme, such as 99kb")}
TINYTRAIN_SUFFIX = "-tinytrain"

# model -> label -> (biases of the last n, convolution indices, share of input channels)
SCHEMES: dict[str, dict[str, tuple[int, str, str]]] = {
    "mcunet-5fps": {
        "49kb": (20, "23-24-27-30-33-39", "0-0.25-0.5-0.5-0-0"),
        "74kb": (21, "21-23-24-26-27-30", "1-0-1-0-0.5-1"),
        "99kb": (22, "21-24-27-30-36-39", "1-1-1-1-0.125-0.25"),
        "124kb": (24, "21-24-27-30-33-39", "0.25-1-1-1-0.5-0.5"),
        "148kb": (23, "21-24-27-30-36-39", "1-1-1-1-1-0.5"),
    },
    "mbv2-w0.35": {
        "49kb": (16, "36-39-40-41-42-45-48-49", "1-1-0-0.25-0.125-0.125-0.125-0.125"),
        "73kb": (20, "32-33-36-39-41-42-45-48", "0.125-0.5-0.5-1-0.25-0.125-0.125-1"),
        "99kb": (25, "27-30-33-36-39-42-45-48", "1-1-1-1-1-0.125-0.5-1"),
        "123kb": (31, "27-30-33-36-39-42-45-48", "1-1-1-1-1-0.5-1-1"),
        "138kb": (34, "27-30-33-36-39-42-45-48", "1-1-1-1-1-1-1-1"),
    },
    "proxyless-w0.3": {
        "49kb": (21, "39-42-44-45-50-51-54-57", "0.25-1-0-1-0-0.125-0.25-0.25"),
        "74kb": (28, "33-36-39-42-45-51-54-57", "0.5-0.25-1-1-1-0.5-0.25-0.5"),
        "98kb": (25, "36-39-42-45-48-51-54-57", "1-0.5-1-1-0.25-0.5-1-1"),
        "120kb": (32, "36-39-42-45-48-51-54-57", "1-1-1-1-0.5-1-1-1"),
        "148kb": (45, "36-39-42-45-48-51-54-57", "1-1-1-1-1-1-1-1"),
    },
}
# Convolutions of the networks as published; a feature mix behind them stays frozen.
CONVOLUTION_COUNTS = {"mcunet-5fps": 42, "mbv2-w0.35": 51, "proxyless-w0.3": 60}


def reason_against(context: PolicyContext) -> str:
    """Schemes exist for three networks only."""
    if _published_name(context) in SCHEMES:
        return ""
    return f"no scheme is published for {context.graph.name}; there are for {', '.join(SCHEMES)}"


def known(context: PolicyContext) -> list[str]:
    """A small, a middle and a large scheme."""
    labels = list(SCHEMES[_published_name(context)])
    return [f"sparse-update:scheme={label}" for label in labels[:: len(labels) // 2]]


def build(context: PolicyContext, options: Mapping[str, str]) -> UpdatePolicy:
    """The scheme as published: floor(share * input channels) of each listed convolution."""
    name = _published_name(context)
    label = options.get("scheme") or next(iter(SCHEMES[name]))
    if label not in SCHEMES[name]:
        raise SpecError.of(f"scheme for {name}", label, ", ".join(SCHEMES[name]))
    bias_count, indices, shares = SCHEMES[name][label]
    axes = context.axes
    end = CONVOLUTION_COUNTS[name]
    ratios = np.zeros(len(axes.names))
    ratios[[int(index) for index in indices.split("-")]] = [float(s) for s in shares.split("-")]
    position = np.arange(len(axes.names))
    return UpdatePolicy.of(
        f"sparse-update:scheme={label}",
        axes,
        slices=axes.slices(ratios, "in"),
        update_bias=(position >= end - bias_count) & (position < end),
        channel_axis="in",
        selection="magnitude",
    )


def _published_name(context: PolicyContext) -> str:
    return context.graph.name.removesuffix(TINYTRAIN_SUFFIX)
