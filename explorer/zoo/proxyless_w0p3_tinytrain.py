"""ProxylessNAS at width 0.3 with the feature-mix layer of TinyTrain (Kwon et al., ICML 2024)."""

from explorer.graph import ModelGraph
from explorer.zoo._inverted_residual import RESOLUTION, VISION_OPTIONS, inverted_residual
from explorer.zoo.proxyless_w0p3 import BLOCKS

SUMMARY = "ProxylessNAS at width 0.3 plus a 384-channel feature mix, as TinyTrain's tables imply"
TASK = "sign-digits"
OPTIONS = VISION_OPTIONS
EXPECTED = {"forward_macs": 19_209_728, "weight_count": 357_680, "bias_count": 5_800}


def build(classes: str = "0", resolution: str = RESOLUTION) -> ModelGraph:
    """The network with the inferred 1x1 feature mix before the pool."""
    return inverted_residual(
        "proxyless-w0.3-tinytrain",
        BLOCKS,
        feature_mix_channels=384,
        classes=classes,
        resolution=resolution,
    )
