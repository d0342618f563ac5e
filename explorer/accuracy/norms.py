"""Norms of any torch module as the setup of a document asks for them."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from explorer.accuracy.modules import GroupNorm
from explorer.errors import SpecError
from explorer.graph import group_count

SUITABLE: dict[str, tuple[type[nn.Module], ...]] = {
    "bn": (_BatchNorm,),
    "frozen-bn": (_BatchNorm,),
    "gn": (_BatchNorm, nn.GroupNorm),
}


def set_norms(module: nn.Module, norm: str | None) -> list[RemovableHandle]:
    """Give a module the norms of a setup; None leaves it as it is.

    `gn` puts a group norm in the place of each batch norm, with its scale and offset;
    `frozen-bn` keeps batch norms in evaluation mode whatever `train()` asks, until the
    handles that are returned are removed; `bn` changes nothing. SpecError when the module has
    no norm to make it of, or for `none` has one.
    """
    found = {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, _BatchNorm | nn.GroupNorm)
    }
    if norm == "none" and found:
        raise SpecError(f"norm: the setup has none, the module has {next(iter(found))}")
    if norm is None or norm == "none":
        return []
    if not any(isinstance(part, SUITABLE[norm]) for part in found.values()):
        raise SpecError(f"norm: the setup has {norm}, the module has no norm to make it of")
    batch_norms = {name: part for name, part in found.items() if isinstance(part, _BatchNorm)}
    if norm == "gn":
        _swap(module, batch_norms)
    return _freeze(batch_norms) if norm == "frozen-bn" else []


def _swap(module: nn.Module, batch_norms: dict[str, _BatchNorm]) -> None:
    if "" in batch_norms:
        raise SpecError("norm: the module is a batch norm itself; put it into another module")
    swapped = {part: _group_norm(part) for part in batch_norms.values()}
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(parent, name, swapped[child])


def _group_norm(norm: _BatchNorm) -> nn.GroupNorm:
    """A group norm with the channels, scale and offset of a batch norm, where that one is."""
    groups, channels = group_count(norm.num_features), norm.num_features
    if not norm.affine:
        return nn.GroupNorm(groups, channels, norm.eps, affine=False).train(norm.training)
    made = GroupNorm(groups, channels, norm.eps).to(norm.weight)
    made.load_state_dict({"weight": norm.weight, "bias": norm.bias})
    return made.train(norm.training)


def _freeze(batch_norms: dict[str, _BatchNorm]) -> list[RemovableHandle]:
    for name, part in batch_norms.items():
        if part.running_mean is None:
            raise SpecError(f"norm: the setup has frozen-bn, {name} has no running statistics")
    return [part.eval().register_forward_pre_hook(_stay) for part in batch_norms.values()]


def _stay(norm: nn.Module, _inputs: object) -> None:
    norm.eval()
