"""Networks of the ncnn benchmark and of the Pi 5 rows, 224x224 unless said otherwise."""

from collections.abc import Callable
from functools import partial

from golden.networks.sketch import Sketch
from golden.networks.tiny import eights, inverted_residual, mobilenet_v1, mobilenet_v2

from explorer.graph import ModelGraph


def alexnet() -> ModelGraph:
    net = Sketch(3, 227, 227).conv(96, 11, 4, padding=0).pool()
    net.conv(256, 5, groups=2).pool().conv(384, 3)
    net.conv(384, 3, groups=2).conv(256, 3, groups=2).pool().flatten()
    net.linear(4096).linear(4096).linear(1000)
    return net.graph("alexnet", "Krizhevsky et al., NeurIPS 2012; Caffe form with two groups")


def vgg16() -> ModelGraph:
    net = Sketch(3, 224, 224)
    for channels, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeats):
            net.conv(channels, 3)
        net.pool(2)
    net.flatten().linear(4096).linear(4096).linear(1000)
    return net.graph("vgg16", "Simonyan and Zisserman, ICLR 2015")


def resnet18() -> ModelGraph:
    net = Sketch(3, 224, 224).conv(64, 7, 2).pool(3, 2, 1)
    for channels in (64, 128, 256, 512):
        for index in range(2):
            start, stride = net.end, 2 if channels > 64 and not index else 1
            end = net.conv(channels, 3, stride).conv(channels, 3).end
            if stride > 1:
                net.end = start
                start = net.conv(channels, 1, stride).end
                net.end = end
            net.add(start)
    return net.mean().linear(1000).graph("resnet18", "He et al., CVPR 2016")


def squeezenet() -> ModelGraph:
    """Version 1.1 at 227x227."""
    net = Sketch(3, 227, 227).conv(64, 3, 2, padding=0).pool(up=True)
    for squeezed, expanded, pooled in (
        (16, 64, False),
        (16, 64, True),
        (32, 128, False),
        (32, 128, True),
        (48, 192, False),
        (48, 192, False),
        (64, 256, False),
        (64, 256, False),
    ):
        start = net.conv(squeezed).end
        one = net.conv(expanded).end
        net.end = start
        net.concat(one, net.conv(expanded, 3).end)
        if pooled:
            net.pool(up=True)
    return net.conv(1000).mean().graph("squeezenet-1.1", "Iandola et al., arXiv 1602.07360")


def googlenet() -> ModelGraph:
    """The Caffe form, 5x5 kernels and no auxiliary heads."""
    modules = (
        (64, 96, 128, 16, 32, 32),
        (128, 128, 192, 32, 96, 64),
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
        (256, 160, 320, 32, 128, 128),
        (384, 192, 384, 48, 128, 128),
    )
    net = Sketch(3, 224, 224).conv(64, 7, 2).pool(up=True)
    net.conv(64).conv(192, 3).pool(up=True)
    for index, (one, before_three, three, before_five, five, pooled) in enumerate(modules):
        if index in (2, 7):
            net.pool(up=True)
        start = net.end
        ends = [net.conv(one).end]
        net.end = start
        ends.append(net.conv(before_three).conv(three, 3).end)
        net.end = start
        ends.append(net.conv(before_five).conv(five, 5).end)
        net.end = start
        ends.append(net.pool(3, 1, 1).conv(pooled).end)
        net.concat(*ends)
    return net.mean().linear(1000).graph("googlenet", "Szegedy et al., CVPR 2015")


def mnasnet() -> ModelGraph:
    """MnasNet-B1, no squeeze-and-excite."""
    net = Sketch(3, 224, 224).conv(32, 3, 2).depthwise().conv(16)
    for expansion, channels, kernel, repeats, stride in (
        (3, 24, 3, 3, 2),
        (3, 40, 5, 3, 2),
        (6, 80, 5, 3, 2),
        (6, 96, 3, 2, 1),
        (6, 192, 5, 4, 2),
        (6, 320, 3, 1, 1),
    ):
        for index in range(repeats):
            inside = expansion * net.channels
            inverted_residual(net, inside, channels, kernel, 1 if index else stride)
    net.conv(1280).mean().linear(1000)
    return net.graph("mnasnet-b1", "Tan et al., MnasNet, CVPR 2019")


def proxylessnas() -> ModelGraph:
    """ProxylessNAS-Mobile as published by its authors."""
    net = Sketch(3, 224, 224).conv(32, 3, 2).depthwise().conv(16)
    stages = (
        (32, 2, ((5, 3), (3, 3))),
        (40, 2, ((7, 3), (3, 3), (5, 3), (5, 3))),
        (80, 2, ((7, 6), (5, 3), (5, 3), (5, 3))),
        (96, 1, ((5, 6), (5, 3), (5, 3), (5, 3))),
        (192, 2, ((7, 6), (7, 6), (7, 3), (7, 3))),
        (320, 1, ((7, 6),)),
    )
    for channels, stride, blocks in stages:
        for index, (kernel, expansion) in enumerate(blocks):
            inside = expansion * net.channels
            inverted_residual(net, inside, channels, kernel, 1 if index else stride)
    net.conv(1280).mean().linear(1000)
    return net.graph("proxylessnas-mobile", "Cai et al., ProxylessNAS, ICLR 2019")


def mobilenet_v3() -> ModelGraph:
    """Large."""
    net = Sketch(3, 224, 224).conv(16, 3, 2)
    for kernel, inside, channels, excited, stride in (
        (3, 16, 16, False, 1),
        (3, 64, 24, False, 2),
        (3, 72, 24, False, 1),
        (5, 72, 40, True, 2),
        (5, 120, 40, True, 1),
        (5, 120, 40, True, 1),
        (3, 240, 80, False, 2),
        (3, 200, 80, False, 1),
        (3, 184, 80, False, 1),
        (3, 184, 80, False, 1),
        (3, 480, 112, True, 1),
        (3, 672, 112, True, 1),
        (5, 672, 160, True, 2),
        (5, 960, 160, True, 1),
        (5, 960, 160, True, 1),
    ):
        start, shape = net.end, net.shape
        if inside != net.channels:
            net.conv(inside)
        net.depthwise(kernel, stride)
        if excited:
            net.squeeze_excite(eights(inside / 4))
        net.conv(channels)
        if net.shape == shape:
            net.add(start)
    net.conv(960).mean().linear(1280).linear(1000)
    return net.graph("mobilenet-v3-large", "Howard et al., MobileNetV3, ICCV 2019")


def shufflenet_v2() -> ModelGraph:
    """Width 1.0."""
    net = Sketch(3, 224, 224).conv(24, 3, 2).pool(3, 2, 1)
    for channels, repeats in ((116, 4), (232, 8), (464, 4)):
        half, start = channels // 2, net.end
        left = net.depthwise(3, 2).conv(half).end
        net.end = start
        net.conv(half).depthwise(3, 2).conv(half)
        net.concat(left, net.end).shuffle()
        for _ in range(repeats - 1):
            start = net.end
            left = net.half(start).end
            net.half(start).conv(half).depthwise().conv(half)
            net.concat(left, net.end).shuffle()
    net.conv(1024).mean().linear(1000)
    return net.graph("shufflenet-v2-1.0", "Ma et al., ShuffleNet V2, ECCV 2018")


def vit(name: str, width: int) -> ModelGraph:
    """Twelve blocks, patches of 16: weighted products only, tokens as positions.

    The two products of the attention itself have no weights and are left out, as in the
    published multiply-accumulates of these rows.
    """
    tokens = 197
    net = Sketch(3 * 16 * 16, tokens, 1).conv(width)
    for _ in range(12):
        start = net.end
        net.conv(3 * width).attention(width).conv(width).add(start)
        start = net.end
        net.conv(4 * width).conv(width).add(start)
    return net.mean().linear(1000).graph(name, "Touvron et al., DeiT, ICML 2021")


IMAGENET: dict[str, Callable[[], ModelGraph]] = {
    "alexnet": alexnet,
    "vgg16": vgg16,
    "resnet18": resnet18,
    "squeezenet": squeezenet,
    "googlenet": googlenet,
    "mobilenet": partial(mobilenet_v1, 1.0, 224, 1000),
    "mobilenetv2_100": partial(mobilenet_v2, 1.0, 224, 1000),
    "mobilenet_v3": mobilenet_v3,
    "mnasnet": mnasnet,
    "proxylessnasnet": proxylessnas,
    "shufflenet_v2": shufflenet_v2,
    "vit_tiny": partial(vit, "vit-tiny", 192),
    "vit_small": partial(vit, "vit-small", 384),
}
