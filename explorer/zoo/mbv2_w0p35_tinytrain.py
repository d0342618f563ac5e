"""MobileNetV2 at width 0.35 with the feature-mix layer of TinyTrain (Kwon et al., ICML 2024)."""

from explorer.graph import ModelGraph
from explorer.zoo._inverted_residual import RESOLUTION, VISION_OPTIONS, inverted_residual
from explorer.zoo.mbv2_w0p35 import BLOCKS

SUMMARY = "MobileNetV2 at width 0.35 plus a 448-channel feature mix, as TinyTrain's tables imply"
TASK = "sign-digits"
OPTIONS = VISION_OPTIONS
EXPECTED = {"forward_macs": 17_449_728, "weight_count": 288_864, "bias_count": 6_208}


def build(classes: str = "0", resolution: str = RESOLUTION) -> ModelGraph:
    """The network with the inferred 1x1 feature mix before the pool."""
    return inverted_residual(
        "mbv2-w0.35-tinytrain",
        BLOCKS,
        feature_mix_channels=448,
        classes=classes,
        resolution=resolution,
    )
