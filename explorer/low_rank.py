"""Low-rank adapters (LoRA: Hu et al., ICLR 2022) on single layers of a network.

Beside a frozen weight W a layer computes alpha / rank * B A x: A leads from its inputs to
`rank` features, B from there to its outputs, neither with a bias. B starts at 0, so nothing
changes before the first step. A product with the factor is taken of the few features between.
Linear layers and ungrouped 1x1 convolutions can have one.

The parts are named inside their layer, so they can be its submodules in any torch module.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite

from explorer.errors import SpecError, check_whole
from explorer.graph import ADAPTER_SUM, LayerSpec, ModelGraph

ROLE = "adapter"  # of the layers of any adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """The adapter of one layer: B A has this rank and is multiplied by alpha / rank."""

    layer: str
    rank: int
    alpha: float

    def __post_init__(self) -> None:
        check_whole(f"rank of {self.layer}", self.rank, 1)
        if not isfinite(self.alpha) or self.alpha <= 0:
            raise SpecError.of(f"alpha of {self.layer}", self.alpha, "a number above 0")

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.layer}"

    @property
    def factor(self) -> float:
        """What the product of both matrices is multiplied by."""
        return self.alpha / self.rank

    @property
    def parts(self) -> tuple[str, str]:
        """Names of the layers A and B."""
        return f"{self.layer}.adapter_down", f"{self.layer}.adapter_up"


Adapter = str | LowRank  # a lite-residual one (explorer.adapters) is named by its block


def largest_rank(graph: ModelGraph, name: str) -> int:
    """The rank of a layer's weight if it is full; 0 where the layer can have no adapter."""
    layer = graph[name]
    is_matrix = layer.op == "linear" or (
        layer.op == "conv2d" and layer.kernel == (1, 1) and layer.groups == 1
    )
    return min(graph.in_channels(layer), layer.channels) if is_matrix else 0


def with_low_rank(graph: ModelGraph, adapters: Sequence[LowRank]) -> ModelGraph:
    """The network with these adapters; SpecError names one that its layer cannot have.

    A comes before its layer, so that only the few features wait for it.
    """
    chosen = {adapter.layer: adapter for adapter in adapters}
    if len(chosen) != len(adapters):
        raise SpecError.of("adapters", [one.layer for one in adapters], "each layer once")
    for adapter in adapters:
        _check(graph, adapter)
    moved: dict[str, str] = {}
    layers: list[LayerSpec] = []
    for each in graph.layers:
        layer = replace(each, inputs=tuple(moved.get(name, name) for name in each.inputs))
        around = _around(layer, chosen[layer.name]) if layer.name in chosen else ([], [])
        layers += [*around[0], layer, *around[1]]
        if around[1]:
            moved[layer.name] = layers[-1].name
    return replace(graph, layers=tuple(layers))


def _check(graph: ModelGraph, adapter: LowRank) -> None:
    allowed = [name for name in graph.weighted if largest_rank(graph, name)]
    if adapter.layer not in allowed:
        listed = ", ".join(allowed) or "no layer here"
        raise SpecError.of("adapter", adapter.layer, f"a linear layer or 1x1 convolution: {listed}")
    check_whole(f"rank of {adapter.layer}", adapter.rank, 1, largest_rank(graph, adapter.layer))


def _around(layer: LayerSpec, adapter: LowRank) -> tuple[list[LayerSpec], list[LayerSpec]]:
    """What runs before a layer, and what behind it."""
    axis = layer.axis
    few = (*layer.out_shape[:axis], adapter.rank, *layer.out_shape[axis + 1 :])
    down = replace(layer, name=adapter.parts[0], out_shape=few, has_bias=False, role=ROLE)
    before = [down]
    if adapter.factor != 1:
        plain = LayerSpec(
            name=f"{layer.name}.adapter_scale",
            op="scale",
            inputs=(down.name,),
            out_shape=few,
            args=(adapter.factor, 0.0),
            block=layer.block,
            role=ROLE,
        )
        before.append(plain)
    up = replace(
        down,
        name=adapter.parts[1],
        inputs=(before[-1].name,),
        out_shape=layer.out_shape,
        stride=1,
        padding=(0, 0),
    )
    both = LayerSpec(
        name=f"{layer.name}{ADAPTER_SUM}",
        op="add",
        inputs=(layer.name, up.name),
        out_shape=layer.out_shape,
        block=layer.block,
        role=ROLE,
    )
    return before, [up, both]
