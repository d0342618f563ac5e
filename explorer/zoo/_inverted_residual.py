"""MobileNet-like networks at 128x128, batch norm folded, prototype head or classifier.

Geometry read from the int8 model files of mit-han-lab/tiny-training (Lin et al.,
NeurIPS 2022, MIT licence); the feature mix of the TinyTrain forms is inferred
from four independent matches with the published tables.
"""

from explorer.errors import SpecError
from explorer.graph import ModelGraph
from explorer.provenance import Kind, Source
from explorer.zoo._chain import Chain

# One row a block: channels inside, channels out, depthwise kernel, stride.
Block = tuple[int, int, int, int]

SOURCE = Source(
    kind=Kind.PUBLISHED,
    cite="mit-han-lab/tiny-training @ 7bf8e05, assets/mcu_models (Lin et al., NeurIPS 2022)",
)
INPUT_SHAPE = (3, 128, 128)
STEM_CHANNELS = 16
LARGEST_HEAD = 100_000


def inverted_residual(
    name: str, blocks: tuple[Block, ...], *, feature_mix_channels: int = 0, classes: str = "0"
) -> ModelGraph:
    """Stem, blocks, optional feature mix, average pool, optional classifier.

    `classes` 0 leaves the pooled features for a prototype head (no parameters).
    The first block has no expansion; a block that keeps shape has a residual add.
    """
    chain = Chain(INPUT_SHAPE)
    chain.conv("first_conv", STEM_CHANNELS, kernel=3, stride=2, role="first_conv")
    for index, (inside, out, kernel, stride) in enumerate(blocks):
        block, start, start_shape = f"blocks.{index}", chain.end, chain.shape
        if index:
            chain.conv(f"{block}.pointwise1", inside, block=block, role="pointwise1")
        chain.conv(
            f"{block}.depthwise",
            inside,
            kernel=kernel,
            stride=stride,
            groups=inside,
            block=block,
            role="depthwise",
        )
        chain.conv(f"{block}.pointwise2", out, block=block, role="pointwise2", act=None)
        if index and chain.shape == start_shape:
            chain.add(f"{block}.add", start, block=block)
    if feature_mix_channels:
        chain.conv("feature_mix", feature_mix_channels, role="feature_mix")
    chain.average_pool("pool")
    if classes_count := _classes(classes):
        chain.linear("classifier", classes_count)
    return chain.graph(name, SOURCE)


def _classes(text: str) -> int:
    if not text.isdecimal() or int(text) > LARGEST_HEAD:
        allowed = f"0 (prototype head) or the number of classes up to {LARGEST_HEAD}"
        raise SpecError.of("classes", text, allowed)
    return int(text)
