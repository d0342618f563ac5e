"""Networks measured on microcontrollers, by the workload names of device_measurements.csv."""

from collections.abc import Callable, Iterable
from functools import partial

from golden.networks.sketch import Sketch

from explorer.graph import ModelGraph
from explorer.zoo.mbv2_w0p35 import BLOCKS as MBV2_BLOCKS
from explorer.zoo.mcunet_5fps import BLOCKS as MCUNET_5FPS_BLOCKS
from explorer.zoo.proxyless_w0p3 import BLOCKS as PROXYLESS_BLOCKS

MLPERF = "Banbury et al., MLPerf Tiny Benchmark, NeurIPS Datasets 2021, reference models"
MOBILENET_V1 = "Howard et al., MobileNets, arXiv 1704.04861"
MOBILENET_V2 = "Sandler et al., MobileNetV2, CVPR 2018"
MCUNET = "Lin et al., MCUNet, NeurIPS 2020; configurations of mit-han-lab/mcunet"

# (kernel, expansion, channels, stride), repeats written out; the first block has no expansion.
Searched = tuple[int, int, int, int]
MCUNET_10FPS: tuple[Searched, ...] = (
    (3, 1, 16, 1),
    (5, 4, 16, 2),
    (3, 3, 16, 1),
    (3, 4, 16, 1),
    (7, 5, 24, 2),
    (5, 4, 24, 1),
    (5, 5, 24, 1),
    (7, 5, 48, 2),
    (5, 4, 48, 1),
    (3, 5, 56, 1),
    (5, 4, 56, 1),
    (3, 5, 56, 1),
    (3, 6, 112, 2),
    (5, 4, 112, 1),
    (3, 6, 192, 1),
)
MCUNET_320KB: tuple[Searched, ...] = (
    (3, 1, 8, 1),
    (7, 3, 16, 2),
    (3, 5, 16, 1),
    (7, 5, 16, 1),
    (5, 4, 16, 1),
    (5, 5, 24, 2),
    (5, 5, 24, 1),
    (5, 5, 24, 1),
    (3, 5, 40, 2),
    (7, 6, 40, 1),
    (5, 4, 40, 1),
    (5, 5, 48, 1),
    (7, 5, 48, 1),
    (3, 5, 48, 1),
    (3, 6, 96, 2),
    (7, 5, 96, 1),
    (3, 4, 96, 1),
    (7, 5, 160, 1),
)


def autoencoder() -> ModelGraph:
    net = Sketch(640)
    for features in (128, 128, 128, 128, 8, 128, 128, 128, 128, 640):
        net.linear(features)
    return net.graph("mlperf-ad", MLPERF)


def resnet8() -> ModelGraph:
    net = Sketch(3, 32, 32).conv(16, 3)
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        start = net.end
        end = net.conv(channels, 3, stride).conv(channels, 3).end
        if stride > 1:
            net.end = start
            start = net.conv(channels, 1, stride).end
            net.end = end
        net.add(start)
    return net.mean().linear(10).graph("mlperf-ic", MLPERF)


def ds_cnn() -> ModelGraph:
    net = Sketch(1, 49, 10).conv(64, (10, 4), 2, padding=(5, 1))
    for _ in range(4):
        net.depthwise().conv(64)
    return net.mean().linear(12).graph("mlperf-kws", MLPERF)


def mobilenet_v1(width: float, side: int, classes: int) -> ModelGraph:
    net = Sketch(3, side, side).conv(int(32 * width), 3, 2)
    strides = {128: 2, 256: 2, 512: 2, 1024: 2}
    before = 32
    for channels in (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024):
        stride = strides.get(channels, 1) if channels != before else 1
        net.depthwise(3, stride).conv(int(channels * width))
        before = channels
    return net.mean().linear(classes).graph(f"mobilenet-v1-{width}-{side}", MOBILENET_V1)


def mobilenet_v2(width: float, side: int, classes: int) -> ModelGraph:
    """Channels rounded to eights, as in Keras; the last layer is not narrowed."""
    net = Sketch(3, side, side).conv(eights(32 * width), 3, 2)
    stages = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    for expansion, channels, repeats, stride in stages:
        for index in range(repeats):
            inside = net.channels * expansion
            inverted_residual(net, inside, eights(channels * width), 3, stride if not index else 1)
    net.conv(eights(1280 * max(width, 1.0))).mean().linear(classes)
    return net.graph(f"mobilenet-v2-{width}-{side}", MOBILENET_V2)


def searched(name: str, stem: int, blocks: Iterable[Searched], side: int) -> ModelGraph:
    net = Sketch(3, side, side).conv(stem, 3, 2)
    for kernel, expansion, channels, stride in blocks:
        inverted_residual(net, net.channels * expansion, channels, kernel, stride)
    return net.mean().linear(1000).graph(name, MCUNET)


def of_zoo(name: str, blocks: Iterable[tuple[int, int, int, int]], side: int, mix: int = 0):
    """A network of our zoo at another size, with the ImageNet head of its publication."""
    net = Sketch(3, side, side).conv(16, 3, 2)
    for inside, channels, kernel, stride in blocks:
        inverted_residual(net, inside, channels, kernel, stride)
    if mix:
        net.conv(mix)
    return net.mean().linear(1000).graph(name, MCUNET)


def inverted_residual(net: Sketch, inside: int, channels: int, kernel: int, stride: int) -> None:
    """Expand (unless the width stays), filter, project; a residual where the shape stays."""
    start, shape = net.end, net.shape
    if inside != net.channels:
        net.conv(inside)
    net.depthwise(kernel, stride).conv(channels)
    if net.shape == shape and inside != shape[0]:
        net.add(start)


def eights(channels: float) -> int:
    """The nearest multiple of eight that loses at most a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


V1, V2 = mobilenet_v1, mobilenet_v2
TINY: dict[str, Callable[[], ModelGraph]] = {
    "MLPerfTiny AD deep autoencoder": autoencoder,
    "MLPerfTiny IC ResNet8 32x32": resnet8,
    "ResNet8 32": resnet8,
    "MLPerfTiny KWS DS-CNN 49x10": ds_cnn,
    "MLPerfTiny VWW MobileNetV1-0.25 96x96": partial(V1, 0.25, 96, 2),
    "MobileNetV1-0.25 96": partial(V1, 0.25, 96, 5),
    "MobileNetV1-0.25 224": partial(V1, 0.25, 224, 5),
    "MobileNetV1-0.25 224 food101": partial(V1, 0.25, 224, 101),
    "MobileNetV1-0.25 224 ImageNet": partial(V1, 0.25, 224, 1000),
    "MobileNetV1-0.25 224 ImageNet head": partial(V1, 0.25, 224, 1000),
    "MobileNetV1-1.0 224 food101": partial(V1, 1.0, 224, 101),
    "MobileNetV1-1.0 224 ImageNet": partial(V1, 1.0, 224, 1000),
    "MobileNetV1-1.0 224 ImageNet head (external memory)": partial(V1, 1.0, 224, 1000),
    "MobileNetV2-0.35 128": partial(V2, 0.35, 128, 5),
    "MobileNetV2-0.35 128 food101": partial(V2, 0.35, 128, 101),
    "MobileNetV2-0.35 128 ImageNet": partial(V2, 0.35, 128, 1000),
    "MobileNetV2-0.35 128 ImageNet head": partial(V2, 0.35, 128, 1000),
    "MobileNetV2-0.35 224 food101": partial(V2, 0.35, 224, 101),
    "MobileNetV2-1.0 224 ImageNet head (external memory)": partial(V2, 1.0, 224, 1000),
    "MobileNetV2-1.4 224 ImageNet": partial(V2, 1.4, 224, 1000),
    "mcunet-in0": partial(searched, "mcunet-in0", 24, MCUNET_10FPS, 48),
    "mcunet-in1": partial(of_zoo, "mcunet-in1", MCUNET_5FPS_BLOCKS, 96),
    "mcunet-5fps": partial(of_zoo, "mcunet-in1", MCUNET_5FPS_BLOCKS, 96),
    "mcunet-in3": partial(searched, "mcunet-in3", 16, MCUNET_320KB, 176),
    "mbv2-320kB": partial(of_zoo, "mbv2-w0.35-r144", MBV2_BLOCKS, 144, 448),
    "proxyless-w0.3-r176": partial(of_zoo, "proxyless-w0.3-r176", PROXYLESS_BLOCKS, 176, 384),
}
