"""MCUNet for 5 frames a second on an STM32F746 (Lin et al., NeurIPS 2020)."""

from explorer.graph import ModelGraph
from explorer.zoo._inverted_residual import RESOLUTION, VISION_OPTIONS, Block, inverted_residual

SUMMARY = "MCUNet, 42 convolutions, 22.5 M MACs at 128x128"
TASK = "sign-digits"
OPTIONS = VISION_OPTIONS
EXPECTED = {"forward_macs": 22_453_504, "weight_count": 463_216, "bias_count": 6_008}
WEIGHTS_DIGEST = "8a398f314155"

BLOCKS: tuple[Block, ...] = (
    (16, 8, 3, 1),
    (32, 16, 3, 2),
    (48, 16, 3, 1),
    (48, 24, 7, 2),
    (120, 24, 3, 1),
    (120, 40, 3, 2),
    (160, 40, 7, 1),
    (160, 48, 5, 1),
    (144, 48, 3, 1),
    (192, 48, 3, 1),
    (240, 96, 7, 2),
    (384, 96, 5, 1),
    (384, 96, 5, 1),
    (576, 160, 3, 1),
)


def build(classes: str = "0", resolution: str = RESOLUTION) -> ModelGraph:
    """The network as shipped by tiny-training, without its ImageNet head."""
    return inverted_residual("mcunet-5fps", BLOCKS, classes=classes, resolution=resolution)
