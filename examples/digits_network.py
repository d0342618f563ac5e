"""A network and a batch for train_from_json.py: the layers of digits-cnn in plain torch."""

import torch
from torch import nn


def convs(chain: nn.Sequential, *rows: tuple[str, int, int, int, int]) -> nn.Sequential:
    """Convolutions with a norm each, named as a policy document names them."""
    for name, inside, out, size, groups in rows:
        conv = nn.Conv2d(inside, out, size, padding=size // 2, groups=groups, bias=False)
        chain.add_module(name, conv)
        chain.add_module(f"{name}_norm", nn.GroupNorm(out // 8, out))
        chain.append(nn.LeakyReLU())
    return chain


def block(inside: int, wide: int, out: int) -> nn.Sequential:
    """Pointwise, depthwise, pointwise."""
    return convs(
        nn.Sequential(),
        ("pointwise1", inside, wide, 1, 1),
        ("depthwise", wide, wide, 3, wide),
        ("pointwise2", wide, out, 1, 1),
    )


torch.manual_seed(0)
network = convs(nn.Sequential(), ("first_conv", 1, 16, 3, 1))
network.add_module("blocks", nn.Sequential(block(16, 48, 16), block(16, 64, 24), block(24, 96, 24)))
network = convs(network, ("feature_mix", 24, 64, 1, 1))
batch = torch.randn(8, 1, 8, 8)
