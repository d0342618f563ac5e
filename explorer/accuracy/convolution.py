"""A convolution whose weight gradient costs what its trained slices cost.

Torch computes the gradient of a whole weight, on a CPU even where only the bias trains. Here
that of the trained slices is computed and the rest is zero, which also keeps the rest where it
is. Depthwise kernels that reach most of a small input take torch's CPU three to six times as
long as a product over all pairs of positions, of which each tap sums its own.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

WIDEST_FAST_KERNEL = 3


@dataclass(frozen=True, eq=False)
class Slices:
    """Slices of a weight along `axis`, out or in; `channels` None means all."""

    axis: str
    channels: Tensor | None


class Convolution(nn.Conv2d):
    """A plain one until `trained` says what of its weight trains; dense or depthwise then."""

    trained: Slices | None = None

    @property
    def can_slice(self) -> bool:
        """Whether parts of the weight are convolutions themselves: dense or depthwise."""
        return self.groups == 1 or self.groups == self.in_channels == self.out_channels

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] to [N, F, H', W']."""
        if not torch.is_grad_enabled() or not self._is_cheaper(images):
            return super().forward(images)
        out = _Convolve.apply(images, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
        assert isinstance(out, Tensor)
        return out

    def _is_cheaper(self, images: Tensor) -> bool:
        """Whether less is to be computed than torch would."""
        if not self.weight.requires_grad:
            return self.bias is not None and self.bias.requires_grad
        return self.trained is not None and (
            self.trained.channels is not None or self._reaches_most_of(images)
        )

    def gradients(
        self, slope: Tensor, images: Tensor, weight: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Torch's, with respect to images and weight; `weight` may be a part of this one."""
        groups = min(self.groups, len(weight))
        geometry = (self.stride, self.padding, self.dilation, False, (0, 0), groups)
        of_images, of_weight, _ = torch.ops.aten.convolution_backward(
            slope, images, weight, None, *geometry, (*wanted, False)
        )
        return of_images, of_weight

    def weight_gradient(self, slope: Tensor, images: Tensor) -> Tensor:
        """Gradient of the trained slices, zero elsewhere; like the weight."""
        assert self.trained is not None
        channels, weight = self.trained.channels, self.weight.detach()
        if channels is None:
            return self._gradient(slope, images, weight)
        is_out = self.trained.axis == "out" or self.groups > 1
        if is_out:
            slope, weight = slope[:, channels], weight[channels]
        else:
            weight = weight[:, channels]
        if not is_out or self.groups > 1:
            images = images[:, channels]
        whole = torch.zeros_like(self.weight)
        where = channels if is_out else (slice(None), channels)
        whole[where] = self._gradient(slope, images, weight)
        return whole

    def _gradient(self, slope: Tensor, images: Tensor, weight: Tensor) -> Tensor:
        if self._reaches_most_of(images):
            return self._pairwise_gradient(slope, images).view_as(weight)
        _, gradient = self.gradients(slope, images, weight, (False, True))
        assert gradient is not None
        return gradient

    def _reaches_most_of(self, images: Tensor) -> bool:
        """Whether this is a wide depthwise kernel on an image of at most twice its size."""
        taps = prod(self.kernel_size)
        is_wide = self.groups > 1 and max(self.kernel_size) > WIDEST_FAST_KERNEL
        return is_wide and images.device.type == "cpu" and prod(images.shape[2:]) <= 2 * taps

    def _pairwise_gradient(self, slope: Tensor, images: Tensor) -> Tensor:
        """Gradient of a depthwise kernel [C, taps] by sums over pairs of positions."""
        pairs = torch.bmm(_by_channel(slope).transpose(1, 2), _by_channel(images))
        taps = _taps(
            tuple(images.shape[2:]),
            tuple(slope.shape[2:]),
            self.kernel_size,
            self.stride,
            self.padding,
        )
        return pairs.flatten(1) @ taps.to(pairs).t()


class _Convolve(torch.autograd.Function):
    """A convolution with the weight gradient of its layer."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, layer: Convolution
    ) -> Tensor:
        ctx.layer = layer
        ctx.save_for_backward(images, weight)
        out: Tensor = layer._conv_forward(images, weight, bias)
        return out

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        wants_images, wants_weight, wants_bias, _ = ctx.needs_input_grad
        layer = ctx.layer
        images_gradient = weight_gradient = None
        if wants_images:
            images_gradient, _ = layer.gradients(slope, images, weight, (True, False))
        if wants_weight:
            weight_gradient = layer.weight_gradient(slope, images)
        return images_gradient, weight_gradient, slope.sum((0, 2, 3)) if wants_bias else None, None


def _by_channel(images: Tensor) -> Tensor:
    """[N, C, H, W] to [C, N, H*W]; one matrix transposed, where channels come last."""
    count, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(count * height * width, channels)
    return rows.t().contiguous().view(channels, count, height * width)


@lru_cache(maxsize=64)
def _taps(
    image: tuple[int, ...],
    out: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> Tensor:
    """Which pairs of an output and an input position each tap joins [taps, pairs], as 0 and 1."""
    joined = []
    for size, positions, taps, step, pad in zip(image, out, kernel, stride, padding, strict=True):
        tap, to, source = (torch.arange(count) for count in (taps, positions, size))
        joined.append(source == to[:, None] * step - pad + tap[:, None, None])
    down, right = joined
    both = down[:, None, :, None, :, None] & right[None, :, None, :, None, :]
    return both.reshape(kernel[0] * kernel[1], -1).float()
