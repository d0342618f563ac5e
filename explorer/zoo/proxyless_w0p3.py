"""ProxylessNAS, width 0.3 (Cai et al., ICLR 2019)."""

from explorer.graph import ModelGraph
from explorer.zoo._inverted_residual import RESOLUTION, VISION_OPTIONS, Block, inverted_residual

SUMMARY = "ProxylessNAS at width 0.3, 60 convolutions, 18.6 M MACs at 128x128"
TASK = "sign-digits"
OPTIONS = VISION_OPTIONS
EXPECTED = {"forward_macs": 18_619_904, "weight_count": 320_816, "bias_count": 5_416}
WEIGHTS_DIGEST = "fe702c021ff9"

BLOCKS: tuple[Block, ...] = (
    (16, 8, 3, 1),
    (24, 16, 5, 2),
    (48, 16, 3, 1),
    (48, 16, 7, 2),
    (48, 16, 3, 1),
    (48, 16, 5, 1),
    (48, 16, 5, 1),
    (96, 24, 7, 2),
    (72, 24, 5, 1),
    (72, 24, 5, 1),
    (72, 24, 5, 1),
    (144, 32, 5, 1),
    (96, 32, 5, 1),
    (96, 32, 5, 1),
    (96, 32, 5, 1),
    (192, 64, 7, 2),
    (384, 64, 7, 1),
    (192, 64, 7, 1),
    (192, 64, 7, 1),
    (384, 96, 7, 1),
)


def build(classes: str = "0", resolution: str = RESOLUTION) -> ModelGraph:
    """The network as shipped by tiny-training, without its ImageNet head."""
    return inverted_residual("proxyless-w0.3", BLOCKS, classes=classes, resolution=resolution)
