"""A small residual CNN for scikit-learn's 8x8 digits: the task with no download.

Ours: group norm, so a micro-batch of one trains as a larger one does. Weights
trained by us on digits 0-4 are in `data_cache/models/digits-cnn.safetensors`.
"""

from explorer.graph import ModelGraph
from explorer.provenance import Kind, Source
from explorer.zoo._chain import Chain

SUMMARY = "our 11-convolution network for 8x8 digits, group norm, prototype head"
TASK = "digits"
OPTIONS: dict[str, str] = {}
EXPECTED: dict[str, int] = {}
WEIGHTS_DIGEST = "f459a42ff510"
SOURCE = Source(kind=Kind.MEASURED, cite="this project, trained on scikit-learn's digits")
CHANNELS_PER_GROUP = 8

# One row a block: channels inside, channels out, stride.
BLOCKS = ((48, 16, 1), (64, 24, 2), (96, 24, 1))


def build() -> ModelGraph:
    """Stem, three inverted residual blocks, feature mix, average pool."""
    chain = Chain((1, 8, 8))
    _conv(chain, "first_conv", 16, kernel=3)
    for index, (inside, out, stride) in enumerate(BLOCKS):
        block, start, start_shape = f"blocks.{index}", chain.end, chain.shape
        _conv(chain, f"{block}.pointwise1", inside, block=block, role="pointwise1")
        _conv(
            chain,
            f"{block}.depthwise",
            inside,
            kernel=3,
            stride=stride,
            groups=inside,
            block=block,
            role="depthwise",
        )
        _conv(chain, f"{block}.pointwise2", out, block=block, role="pointwise2", act=None)
        if chain.shape == start_shape:
            chain.add(f"{block}.add", start, block=block)
    _conv(chain, "feature_mix", 64)
    chain.average_pool("pool")
    return chain.graph("digits-cnn", SOURCE)


def _conv(
    chain: Chain,
    name: str,
    channels: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    block: str = "",
    role: str = "",
    act: str | None = "relu6",
) -> None:
    chain.conv(
        name,
        channels,
        kernel=kernel,
        stride=stride,
        groups=groups,
        block=block,
        role=role or name,
        has_bias=False,
        norm="gn",
        norm_groups=channels // CHANNELS_PER_GROUP,
        act=act,
    )
