"""Operators that torch has not, or not as a model graph means them."""

from typing import Any

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
    """Convolution that pads one end of a side more than the other, by a copy of its input.

    As torch's own `same` does for an even kernel: the copy adds the difference only.
    """

    def __init__(self, pads: tuple[tuple[int, int], ...], *sizes: Any, **options: Any) -> None:
        super().__init__(*sizes, padding=tuple(min(pad) for pad in pads), **options)
        self.extra = [end - min(pad) for pad in reversed(pads) for end in pad]

    def forward(self, images: Tensor) -> Tensor:
        """Pad by the difference, then convolve."""
        return super().forward(nn.functional.pad(images, self.extra))
