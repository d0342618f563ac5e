"""The weights of a layer and their slices, in any torch module."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explorer.errors import SpecError

SWAPPED = ("ConvTranspose1d", "ConvTranspose2d", "Conv1D")  # input channels first; GPT-2's linear
WHOLE = ("Embedding", "GRU", "LSTM", "Recurrent", "Parameter", "PReLU", "S4d", "CfcCell")


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class LayerWeights:
    """Weight tensors of a layer and its bias; several tensors train as a whole.

    `swapped` weights have their input channels in front. `owner` is their module, if one has
    them alone.
    """

    tensors: tuple[nn.Parameter, ...]
    bias: nn.Parameter | None
    owner: nn.Module | None = None
    groups: int = 1
    swapped: bool = False
    is_whole: bool = False

    def _axis(self, axis: str) -> str:
        if self.tensors[0].ndim == 1:
            return "out"
        return {"out": "in", "in": "out"}[axis] if self.swapped else axis

    def slice_count(self, axis: str) -> int:
        """Slices along `out` or `in`; 1 of weights that train as a whole."""
        if self.is_whole:
            return 1
        weight = self.tensors[0]
        if self._axis(axis) == "out":
            return len(weight)
        return int(weight.shape[1]) * self.groups

    def mask(self, axis: str, channels: Sequence[int]) -> Tensor:
        """Which entries belong to these slices; bool, like the weight."""
        return slice_mask(self.tensors[0], self.groups, self._axis(axis), channels)

    def sums(self, values: Sequence[Tensor], axis: str) -> Tensor:
        """Sum of weight-shaped values, one tensor each, over each slice [slices]."""
        if self.is_whole:
            return torch.stack([value.sum() for value in values]).sum()[None]
        return slice_sums(values[0], self.groups, self._axis(axis))


def layer_weights(module: nn.Module, name: str) -> LayerWeights:
    """Weights of a submodule, or of a parameter of that name; SpecError when there is neither."""
    try:
        layer = module.get_submodule(name)
    except AttributeError:
        return LayerWeights(tensors=(_own_parameter(module, name),), bias=None, is_whole=True)
    kind = type(layer).__name__
    if kind in WHOLE:
        return LayerWeights(tensors=tuple(layer.parameters()), bias=None, is_whole=True)
    front = "in_proj_" if kind == "MultiheadAttention" else ""
    weight, bias = (getattr(layer, f"{front}{part}", None) for part in ("weight", "bias"))
    if not isinstance(weight, nn.Parameter):
        raise SpecError.of(f"{name}.weight", weight, "a parameter of the module")
    return LayerWeights(
        tensors=(weight,),
        bias=bias if isinstance(bias, nn.Parameter) else None,
        owner=layer,
        groups=int(getattr(layer, "groups", 1)),
        swapped=kind in SWAPPED,
    )


def _own_parameter(module: nn.Module, name: str) -> nn.Parameter:
    try:
        return module.get_parameter(name)
    except AttributeError:
        raise SpecError.of("layer.name", name, "the name of a submodule or parameter") from None


def slice_mask(weight: Tensor, groups: int, axis: str, channels: Sequence[int]) -> Tensor:
    """Which entries of a weight belong to the slices along an axis; bool, like `weight`.

    An input channel of a grouped convolution is a slice of its own group only.
    """
    mask = torch.zeros_like(weight, dtype=torch.bool, memory_format=torch.contiguous_format)
    index = torch.as_tensor(channels, dtype=torch.int64, device=weight.device)
    if axis == "out":
        mask[index] = True
        return mask
    inputs_per_group = weight.shape[1]
    grouped = mask.view(groups, weight.shape[0] // groups, *weight.shape[1:])
    grouped[index // inputs_per_group, :, index % inputs_per_group] = True
    return mask


def slice_sums(values: Tensor, groups: int, axis: str) -> Tensor:
    """Sum of weight-shaped values over each output or input channel's slice [channels]."""
    if axis == "out":
        return values.reshape(values.shape[0], -1).sum(1)
    grouped = values.reshape(groups, values.shape[0] // groups, values.shape[1], -1)
    return grouped.sum(dim=(1, 3)).reshape(-1)
