"""Operators of torch one by one, each between a first and a last layer."""

import torch
from torch import nn
from torch.nn import functional

IMAGE, SIGNAL, ROWS = (3, 12, 13), (2, 20), (6, 8)


class Between(nn.Module):
    """A layer, an operator on its output, then a layer behind the mean over positions."""

    def __init__(self, first, operator, channels=8, axis=1):
        super().__init__()
        self.first, self.axis = first, axis
        self.op = operator if isinstance(operator, nn.Module) else None
        self.function = operator
        self.head = nn.Linear(channels, 3)

    def forward(self, batch):
        values = (self.op or self.function)(self.first(batch))
        axes = [at for at in range(1, values.ndim) if at != self.axis % values.ndim]
        return self.head(values.mean(axes))


def image(operator, channels=8):
    return lambda: Between(nn.Conv2d(3, 8, 3, padding=1), operator(), channels), IMAGE


def signal(operator, channels=8):
    return lambda: Between(nn.Conv1d(2, 8, 3, padding=1), operator(), channels), SIGNAL


def rows(operator, channels=8):
    return lambda: Between(nn.Linear(8, 8), operator(), channels, axis=-1), ROWS


class States(nn.Module):
    """What a recurrent layer gives: all positions, the last states as one or by row."""

    def __init__(self, kind, part, first=True, **options):
        super().__init__()
        self.cells, self.part, self.first = kind(8, 5, batch_first=first, **options), part, first

    def forward(self, values):
        found, last = self.cells(values if self.first else values.transpose(0, 1))
        last = last[0] if isinstance(last, tuple) else last
        if self.part == "all":
            return found if self.first else found.transpose(0, 1)
        return last.transpose(0, 1) if self.part == "whole" else last[-1][:, None]


class Siamese(nn.Module):
    """Two images of a sample through one network, then how they differ."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False),
            nn.SiLU(),
        )
        self.head = nn.Linear(8, 3)

    def forward(self, pairs):
        left, right = (self.net(pairs[:, at]).mean((2, 3)) for at in range(2))
        return self.head((left - right).abs())


class Repeated(nn.Module):
    """One layer three times."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, values):
        for _ in range(3):
            values = torch.tanh(self.layer(values))
        return values


class OtherBias(nn.Module):
    """Two convolutions of one kernel, each with a bias of its own."""

    def __init__(self):
        super().__init__()
        self.one, self.two = (nn.Conv2d(8, 8, 3) for _ in range(2))
        self.two.weight = self.one.weight

    def forward(self, images):
        return self.one(images) * self.two(images)


class Cross(nn.Module):
    """Some rows look at what another layer makes of all, through torch's own attention."""

    def __init__(self, *, first=True, apart=False, bias=True, size=None):
        super().__init__()
        self.inner = nn.Linear(8, size or 8)
        self.attention = nn.MultiheadAttention(
            8, 2, bias=bias, batch_first=first, kdim=size, vdim=size
        )
        self.first, self.apart = first, apart

    def forward(self, rows):
        query, key = torch.tanh(rows[:, :3]), self.inner(rows)
        value = torch.sigmoid(key) if self.apart else key
        if not self.first:
            query, key = query.transpose(0, 1), key.transpose(0, 1)
            value = value.transpose(0, 1) if self.apart else key
        found = self.attention(query, key, value, need_weights=False)[0]
        return found if self.first else found.transpose(0, 1)


class Decoder(nn.Module):
    """Torch's own decoder: some rows look at each other, then at what is made of all."""

    def __init__(self):
        super().__init__()
        self.memory = nn.Linear(8, 8)
        self.layer = nn.TransformerDecoderLayer(8, 2, 12, batch_first=True, norm_first=True)

    def forward(self, rows):
        return self.layer(torch.tanh(rows[:, :3]), self.memory(rows))


class Pooled(nn.Module):
    """Attention whose keys and values are of fewer places (PVT)."""

    def __init__(self):
        super().__init__()
        self.query, self.both = nn.Linear(8, 8), nn.Linear(8, 16)

    def forward(self, rows):
        query = self.query(rows).unflatten(2, (2, 4)).transpose(1, 2)
        few = rows.unflatten(1, (-1, 2)).mean(2)
        key, value = self.both(few).unflatten(2, (2, 2, 4)).permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(query, key, value)
        return found.transpose(1, 2).flatten(2)


class Pyramid(nn.Module):
    """RetinaNet's heads: one tower of convolutions over every level, all answers in a row."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(6, 6, 3, 2, 1) for _ in range(2))
        self.tower = nn.Sequential(
            *(part for _ in range(2) for part in (nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()))
        )
        self.boxes, self.classes = nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(6, 5, 1)

    def forward(self, images):
        levels = [self.stem(images)]
        for down in self.down:
            levels.append(down(functional.relu(levels[-1])))
        rows = []
        for level in levels:
            end = self.tower(level)
            both = torch.cat([self.boxes(end), self.classes(end)], 1)
            rows.append(both.flatten(2).transpose(1, 2))
        return torch.cat(rows, 1)


class Residual(nn.Module):
    """A residual block with batch norms, in place."""

    def __init__(self):
        super().__init__()
        self.one, self.two = (nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images):
        inner = self.norms[1](self.two(self.relu(self.norms[0](self.one(images)))))
        inner += images
        return self.relu(inner)


class UNet(nn.Module):
    """Down by pools, up by transposed convolutions or by resizing, joined on each level."""

    def __init__(self, up):
        super().__init__()
        self.down = nn.ModuleList(self._block(*sizes) for sizes in ((3, 4), (4, 8), (8, 12)))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(size, size // 3 * 2 if size == 12 else 4, 2, stride=2)
            if up == "transposed"
            else nn.Sequential(nn.Upsample(scale_factor=2, mode=up), nn.Conv2d(size, to, 1))
            for size, to in ((12, 8), (8, 4))
        )
        self.joined = nn.ModuleList(self._block(*sizes) for sizes in ((16, 8), (8, 4)))
        self.out = nn.Conv2d(4, 2, 1)

    @staticmethod
    def _block(inside, outside):
        conv = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outside), nn.ReLU(inplace=True))

    def forward(self, images):
        first = self.down[0](images)
        second = self.down[1](functional.max_pool2d(first, 2))
        end = self.down[2](functional.max_pool2d(second, 2))
        for skip, up, joined in zip((second, first), self.up, self.joined, strict=True):
            end = joined(torch.cat([skip, up(end)], 1))
        return self.out(end)


class Squeeze(nn.Module):
    """Squeeze and excite by linear layers."""

    def __init__(self):
        super().__init__()
        self.reduce, self.excite = nn.Linear(8, 2), nn.Linear(2, 8)

    def forward(self, images):
        gate = functional.silu(self.reduce(functional.adaptive_avg_pool2d(images, 1).flatten(1)))
        return images * torch.sigmoid(self.excite(gate))[:, :, None, None]


NETS = {
    **{
        kind.__name__: image(kind)
        for kind in (nn.SiLU, nn.GELU, nn.Hardswish, nn.Hardsigmoid, nn.ReLU6, nn.LeakyReLU)
    },
    **{
        kind.__name__: image(kind)
        for kind in (nn.ELU, nn.SELU, nn.CELU, nn.Mish, nn.Softplus, nn.Softsign, nn.Hardtanh)
    },
    "PReLU": image(nn.PReLU),
    "PReLU of channels": image(lambda: nn.PReLU(8)),
    "Softmax": rows(lambda: nn.Softmax(-1)),
    "LogSoftmax": rows(lambda: nn.LogSoftmax(-1)),
    "functions": rows(lambda: lambda x: (x * x + 1).rsqrt() + (-x).exp() - 1 / (2 + x.square())),
    "quotient": rows(lambda: lambda x: x / (1 + x.abs().sqrt())),
    "clamp": rows(lambda: lambda x: 1 - x.clamp(min=0)),
    "dilated": image(lambda: nn.Conv2d(8, 8, 3, padding=2, dilation=2)),
    "grouped": image(lambda: nn.Conv2d(8, 8, 3, groups=2)),
    "depthwise": image(lambda: nn.Conv2d(8, 16, 3, groups=8), 16),
    "same and even": image(lambda: nn.Conv2d(8, 8, (4, 3), padding="same")),
    "signal, same and even": signal(lambda: nn.Conv1d(8, 8, 4, padding="same")),
    "transposed": image(lambda: nn.ConvTranspose2d(8, 8, 3, 2, 1, 1)),
    "transposed depthwise": image(lambda: nn.ConvTranspose2d(8, 8, 3, 2, groups=8)),
    "transposed signal": signal(lambda: nn.ConvTranspose1d(8, 6, 4, 2, dilation=2), 6),
    "GroupNorm": image(lambda: nn.GroupNorm(2, 8)),
    "GroupNorm, plain": image(lambda: nn.GroupNorm(2, 8, affine=False)),
    "InstanceNorm": image(lambda: nn.InstanceNorm2d(8, affine=True)),
    "InstanceNorm, plain": image(lambda: nn.InstanceNorm2d(8)),
    "InstanceNorm of signals": signal(lambda: nn.InstanceNorm1d(8, affine=True)),
    "LayerNorm": rows(lambda: nn.LayerNorm(8)),
    "LayerNorm, plain": rows(lambda: nn.LayerNorm(8, elementwise_affine=False)),
    "RMSNorm": rows(lambda: nn.RMSNorm(8)),
    "BatchNorm of signals": signal(lambda: nn.BatchNorm1d(8)),
    "MaxPool over the edge": image(lambda: nn.MaxPool2d(3, 2, ceil_mode=True)),
    "MaxPool of signals": signal(lambda: nn.MaxPool1d(3, 2, 1)),
    "AvgPool": image(lambda: nn.AvgPool2d(2)),
    "AvgPool with padding": image(lambda: nn.AvgPool2d(3, 2, 1)),
    "AvgPool without it": image(lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False)),
    "AvgPool of a small image": (image(lambda: nn.AvgPool2d(3, 1, 1))[0], (3, 3, 3)),
    "AvgPool of one window": (image(lambda: nn.AvgPool2d(3, 5))[0], (3, 7, 7)),
    "AvgPool of signals": signal(lambda: nn.AvgPool1d(3, 2)),
    "AdaptiveAvgPool": image(lambda: nn.AdaptiveAvgPool2d((3, None))),
    "AdaptiveMaxPool": image(lambda: nn.AdaptiveMaxPool2d(1)),
    "nearest": image(lambda: nn.Upsample(scale_factor=2)),
    "nearest, signal": signal(lambda: nn.Upsample(scale_factor=2)),
    "bilinear": image(lambda: nn.Upsample(size=(17, 9), mode="bilinear")),
    "bilinear corners": image(
        lambda: nn.Upsample(size=(15, 20), mode="bilinear", align_corners=True)
    ),
    "PixelShuffle": image(lambda: nn.PixelShuffle(2), 2),
    "ChannelShuffle": image(lambda: nn.ChannelShuffle(2)),
    "stack and repeat": rows(
        lambda: lambda x: torch.stack([x, x.repeat(1, 1, 2)[..., 4:12]], 2).sum(2)
    ),
    "einsum": rows(lambda: lambda x: torch.einsum("bij,bkj->bik", x, x) @ x),
    "squeeze-excite": image(Squeeze),
    "residual": image(Residual),
    "residual concat": image(lambda: lambda x: torch.cat([x, functional.relu(x)], 1), 16),
    "Siamese": (Siamese, (2, 3, 12, 13)),
    "pyramid": (Pyramid, (3, 16, 12)),
    "a convolution again and again": image(lambda: Repeated(nn.Conv2d(8, 8, 3, padding=1))),
    "a signal's, depthwise": signal(lambda: Repeated(nn.Conv1d(8, 8, 5, padding=2, groups=8))),
    "a kernel of two biases": image(OtherBias),
    "cross-attention": rows(Cross),
    "cross-attention, positions first": rows(lambda: Cross(first=False)),
    "cross-attention, three inputs": rows(lambda: Cross(apart=True, bias=False)),
    "cross-attention of other sizes": rows(lambda: Cross(size=6, apart=True)),
    "attention over fewer places": rows(Pooled),
    "decoder": rows(Decoder),
    "U-Net": (lambda: UNet("transposed"), (3, 8, 8)),
    "U-Net, nearest": (lambda: UNet("nearest"), (3, 8, 8)),
    "GRU": rows(lambda: States(nn.GRU, "all"), 5),
    "GRU both ways": rows(lambda: States(nn.GRU, "all", num_layers=2, bidirectional=True), 10),
    "LSTM both ways": rows(lambda: States(nn.LSTM, "all", num_layers=2, bidirectional=True), 10),
    "GRU, positions first": rows(lambda: States(nn.GRU, "all", first=False, bias=False), 5),
    "GRU, last state": rows(lambda: States(nn.GRU, "last", num_layers=2), 5),
    "LSTM, last states": rows(lambda: States(nn.LSTM, "whole", bidirectional=True), 5),
}
