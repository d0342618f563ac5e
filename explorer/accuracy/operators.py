"""Operators that torch has not, or not as a model graph means them."""

import torch
from torch import Tensor, nn


class Add(nn.Module):
    """Sum of all inputs (residual connection)."""

    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        """Element-wise sum."""
        total = first
        for other in others:
            total = total + other
        return total


class GlobalAveragePool(nn.Module):
    """Mean over positions: (N, C, H, W) -> (N, C)."""

    def forward(self, images: Tensor) -> Tensor:
        """Mean over height and width."""
        return images.mean(dim=(2, 3))


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that always uses its running statistics; scale and offset may train."""

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":  # noqa: ARG002 - torch's signature
        """Stay in evaluation mode whatever is asked."""
        super().train(False)
        return self


class GroupNorm(nn.GroupNorm):
    """Group norm whose parameters may train on an input that has no gradient.

    Torch 2.13 crashes there (CPU, channels-last input), so such an input is copied to
    the plain layout first, also one of a single position, which has both layouts.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Normalise, scale and offset."""
        trained = self.weight.requires_grad or self.bias.requires_grad
        if torch.is_grad_enabled() and trained and not images.requires_grad:
            images = images.clone(memory_format=torch.contiguous_format)
        return super().forward(images)


class UnevenConv2d(nn.Conv2d):
    """Convolution of a copy padded by `extra` (left, right, top, bottom), as torch's `same`."""

    extra: tuple[int, ...] = (0, 0, 0, 0)

    def forward(self, images: Tensor) -> Tensor:
        """Pad, then convolve."""
        return super().forward(nn.functional.pad(images, self.extra))
