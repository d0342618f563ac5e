"""MobileNet-like networks, batch norm folded, with a prototype head or a classifier.

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
VISION_OPTIONS = {
    "classes": "0 for a prototype head, or the size of a linear classifier",
    "resolution": "side of the square input in pixels",
}
RESOLUTION = "128"
RESOLUTIONS = (32, 512)
STEM_CHANNELS = 16
LARGEST_HEAD = 100_000


def inverted_residual(
    name: str,
    blocks: tuple[Block, ...],
    *,
    feature_mix_channels: int = 0,
    classes: str = "0",
    resolution: str = RESOLUTION,
) -> ModelGraph:
    """Stem, blocks, optional feature mix, average pool, optional classifier.

    `classes` 0 leaves the pooled features for a prototype head (no parameters).
    The first block has no expansion; a block that keeps shape has a residual add.
    Weights do not depend on `resolution`, the side of the input.
    """
    side = _whole("resolution", resolution, *RESOLUTIONS, "pixels")
    chain = Chain((3, side, side))
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
    allowed = "(0: prototype head) classes"
    if classes_count := _whole("classes", classes, 0, LARGEST_HEAD, allowed):
        chain.linear("classifier", classes_count)
    return chain.graph(name, SOURCE)


def _whole(option: str, text: str, low: int, high: int, unit: str) -> int:
    if not text.isdecimal() or not low <= int(text) <= high:
        raise SpecError.of(option, text, f"{low} to {high} {unit}")
    return int(text)
