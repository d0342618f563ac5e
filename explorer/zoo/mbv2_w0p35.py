"""MobileNetV2, width 0.35 (Sandler et al., CVPR 2018)."""

from explorer.graph import ModelGraph
from explorer.zoo._inverted_residual import RESOLUTION, VISION_OPTIONS, Block, inverted_residual

SUMMARY = "MobileNetV2 at width 0.35, 51 convolutions, 16.6 M MACs at 128x128"
TASK = "sign-digits"
OPTIONS = VISION_OPTIONS
EXPECTED = {"forward_macs": 16_646_912, "weight_count": 238_688, "bias_count": 5_760}
WEIGHTS_DIGEST = "98d98774aa5c"

BLOCKS: tuple[Block, ...] = (
    (16, 8, 3, 1),
    (48, 8, 3, 2),
    (48, 8, 3, 1),
    (48, 16, 3, 2),
    (96, 16, 3, 1),
    (96, 16, 3, 1),
    (96, 24, 3, 2),
    (144, 24, 3, 1),
    (144, 24, 3, 1),
    (144, 24, 3, 1),
    (144, 32, 3, 1),
    (192, 32, 3, 1),
    (192, 32, 3, 1),
    (192, 56, 3, 2),
    (336, 56, 3, 1),
    (336, 56, 3, 1),
    (336, 112, 3, 1),
)


def build(classes: str = "0", resolution: str = RESOLUTION) -> ModelGraph:
    """The network as shipped by tiny-training, without its ImageNet head."""
    return inverted_residual("mbv2-w0.35", BLOCKS, classes=classes, resolution=resolution)
