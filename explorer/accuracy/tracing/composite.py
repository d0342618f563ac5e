"""Torch's operators that are written in others: taken apart into those."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree


def parts_of(
    target: Any, args: Any, kwargs: Any, bare: Callable[[Any], Any]
) -> tuple[fx.GraphModule, list[Any]] | None:
    """What an operator does with its arguments, as a graph and what its inputs are.

    `bare` makes tensors of what stands for one. None where the operator is one of its own.
    """
    if not isinstance(target, torch._ops.OpOverload) or not target._can_decompose():
        return None
    whole, tree = pytree.tree_flatten((args, kwargs))
    leaves = [bare(leaf) for leaf in whole]
    places = [at for at, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def run(*tensors: Tensor) -> Any:
        given = list(leaves)
        for at, tensor in zip(places, tensors, strict=True):
            given[at] = tensor
        plain, named = pytree.tree_unflatten(given, tree)
        return target(*plain, **named)

    try:
        graph = make_fx(run)(*(leaves[at] for at in places))
    except RuntimeError:  # it asks for the values of a tensor
        return None
    return graph, [whole[at] for at in places]
