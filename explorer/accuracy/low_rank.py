"""Low-rank adapters in any torch module, and their weights merged into those of their layers.

The two matrices become submodules of their layer under the names of explorer.low_rank; a hook
adds what they compute to the layer's output. Our own modules of a graph that has the adapters
need no hook: there they are layers like any other.
"""

from functools import partial

import torch
from torch import Tensor, nn

from explorer.accuracy.slices import layer_weights
from explorer.errors import SpecError
from explorer.low_rank import LowRank

ADAPTER_SEED = 0
PASSED_ON = "NonDynamicallyQuantizableLinear"  # attention of torch reads its weight, calls it never


def attach(module: nn.Module, adapter: LowRank) -> None:
    """Give a layer its adapter; one of the same rank that is there already stays.

    The outputs stay as they are: B starts at 0, A as torch draws it, from a fixed seed. SpecError
    when the layer is neither linear nor an ungrouped convolution of kernel 1, or has another.
    """
    layer = layer_weights(module, adapter.layer)
    weight, owner = layer.tensors[0], layer.owner
    kind = type(owner).__name__
    rows, columns = weight.shape[:2] if weight.ndim > 1 else (0, 0)
    is_called = kind == "Conv1D" or isinstance(owner, nn.Linear | nn.Conv1d | nn.Conv2d)
    is_called &= kind != PASSED_ON
    is_matrix = layer.groups == 1 and weight.numel() == rows * columns
    if owner is None or not is_called or not is_matrix:
        raise SpecError.of(
            f"adapter of {adapter.layer}",
            kind,
            "a linear layer or an ungrouped convolution of kernel 1",
        )
    down, up = (name.rpartition(".")[2] for name in adapter.parts)
    if hasattr(owner, down):
        found = len(owner.get_submodule(down).weight)  # type: ignore[arg-type]
        if found != adapter.rank:
            raise SpecError.of(f"rank of {adapter.layer}", adapter.rank, f"{found}, as it has")
        return
    inputs, outputs = (rows, columns) if layer.swapped else (columns, rows)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(ADAPTER_SEED)
        first, last = _matrices(owner, inputs, adapter.rank, outputs)
    nn.init.zeros_(last.get_parameter("weight"))
    owner.add_module(down, first.to(weight))
    owner.add_module(up, last.to(weight))
    owner.register_forward_hook(partial(_add, down, up, adapter.factor))


def merged_state(module: nn.Module, adapters: tuple[LowRank, ...]) -> dict[str, Tensor]:
    """The state of the network without its adapters, each added to the weight of its layer.

    A module of the plain network with this state computes the same without the adapters' cost.
    """
    state = module.state_dict()
    for adapter in adapters:
        down, up = (state.pop(f"{part}.weight").flatten(1) for part in adapter.parts)
        weight = state[f"{adapter.layer}.weight"]
        product = adapter.factor * (up @ down)
        swapped = layer_weights(module, adapter.layer).swapped
        state[f"{adapter.layer}.weight"] = weight + (product.T if swapped else product).view_as(
            weight
        )
    return state


def _matrices(
    owner: nn.Module, inputs: int, rank: int, outputs: int
) -> tuple[nn.Module, nn.Module]:
    """A and B, of the kind of their layer."""
    if not isinstance(owner, nn.Conv1d | nn.Conv2d):
        return nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=False)
    kind = nn.Conv1d if isinstance(owner, nn.Conv1d) else nn.Conv2d
    down = kind(inputs, rank, 1, bias=False)
    down.stride, down.padding = owner.stride, owner.padding
    return down, kind(rank, outputs, 1, bias=False)


def _add(
    down: str, up: str, factor: float, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
) -> Tensor:
    few = layer.get_submodule(down)(inputs[0])
    more: Tensor = layer.get_submodule(up)(few if factor == 1 else few * factor)
    return output + more
