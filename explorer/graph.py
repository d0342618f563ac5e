"""A network as a checked, ordered, hashable list of layers.

Shapes are of one sample, channels first: `(C, H, W)` or `(F,)`. A graph ends
in an embedding (prototype head, no parameters) or in logits.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from math import gcd, prod

from explorer.errors import SpecError, UnknownNameError
from explorer.layer import (
    CONVOLUTIONS,
    CONVOLVE,
    INPUT,
    NORM_OPS,
    RECURRENT_GATES,
    SOURCES,
    STATE_SPACES,
    VIEWS,
    WEIGHTED_OPS,
    WHOLE_OPS,
    LayerSpec,
)
from explorer.layer_shapes import check_shape
from explorer.provenance import Source

__all__ = [
    "INPUT",
    "NORM_OPS",
    "WEIGHTED_OPS",
    "LayerSpec",
    "ModelGraph",
    "group_count",
    "normalised",
]

NORM_OP_OF = {"bn": "batchnorm", "gn": "groupnorm", "frozen-bn": "frozen_batchnorm"}
NORMS = (*NORM_OP_OF, "none")
CFC_GATES = 4
GROUPNORM_CHANNELS_PER_GROUP = 8
ADAPTER_SUM = ".adapter_sum"  # behind a layer's name: its output with an adapter's added
ADDED_FIELDS = ("axis", "dilation", "args")  # count in a digest where they are set
DEFAULTS = {one.name: one.default for one in fields(LayerSpec)}


@dataclass(frozen=True)
class ModelGraph:
    """A network: layers in topological order, and where it was published.

    `weights` is the path of a file of its weights, where it is not of the catalogue.

    Raises SpecError on a duplicate name, an unknown producer or a wrong order.
    """

    name: str
    input_shape: tuple[int, ...]
    layers: tuple[LayerSpec, ...]
    source: Source
    weights: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        seen = {INPUT}
        for layer in self.layers:
            if layer.name in seen:
                raise SpecError.of(f"{self.name}.layers", layer.name, "each name once")
            for producer in layer.inputs:
                if producer not in seen:
                    raise SpecError.of(f"{layer.name}.inputs", producer, "an earlier layer")
            seen.add(layer.name)
            check_shape(layer, [self.shape(name) for name in self.producers(layer)])
            if layer.op == CONVOLVE and not all(map(self.parameter_of, layer.inputs[1:])):
                allowed = "a kernel and a bias that are parameters or views of some"
                raise SpecError.of(f"{layer.name}.inputs", layer.inputs, allowed)
            if layer.op in WEIGHTED_OPS and self.weight_elements(layer) < 1:
                raise SpecError.of(f"{layer.name}", layer, "sizes that leave it a weight")
        if not self.weighted:
            raise SpecError.of(f"{self.name}.layers", "no layer with weights", "at least one")

    def __hash__(self) -> int:
        return hash((self.name, self.digest))

    def __getitem__(self, name: str) -> LayerSpec:
        """The layer of that name; UnknownNameError offers the nearest."""
        if name not in self._by_name:
            raise UnknownNameError.of("layer", name, self.weighted)
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, LayerSpec]:
        return {layer.name: layer for layer in self.layers}

    def position(self, tensor: str) -> int:
        """Position of the layer that makes a tensor; the number of layers for the input."""
        return self._positions[tensor]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: at for at, name in enumerate([*self._by_name, INPUT])}

    @cached_property
    def weighted(self) -> tuple[str, ...]:
        """Names of the layers that have weights (axis L), from input to output."""
        return tuple(layer.name for layer in self.layers if layer.op in WEIGHTED_OPS)

    @cached_property
    def digest(self) -> str:
        """Twelve hexadecimal digits over structure; names of blocks do not count."""
        rows = [
            {
                name: getattr(layer, name)
                for name in DEFAULTS
                if name not in ("block", "role")
                and (name not in ADDED_FIELDS or getattr(layer, name) != DEFAULTS[name])
            }
            for layer in self.layers
        ]
        text = json.dumps([list(self.input_shape), rows], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def producers(self, layer: LayerSpec) -> tuple[str, ...]:
        """Names of the tensors a layer reads; the network input is `input`."""
        return layer.inputs or (() if layer.op in SOURCES else (INPUT,))

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Shape of one sample of a tensor, named by its producer."""
        return self.input_shape if tensor == INPUT else self[tensor].out_shape

    def parameter_of(self, tensor: str) -> str:
        """The parameter that a tensor is or is a view of; else no name."""
        while tensor != INPUT and self[tensor].op in VIEWS:
            (tensor,) = self.producers(self[tensor])
        return tensor if tensor != INPUT and self[tensor].op == "parameter" else ""

    def in_channels(self, layer: LayerSpec) -> int:
        """Channels (or features) of the first input of a layer."""
        return self.shape(self.producers(layer)[0])[layer.axis]

    def slice_count(self, layer: LayerSpec, channel_axis: str) -> int:
        """How many slices of a layer's weights can train along `out` or `in`; 1 is all or none."""
        if layer.op in WHOLE_OPS:
            return 1
        return layer.channels if channel_axis == "out" else self.in_channels(layer)

    def weight_elements(self, layer: LayerSpec) -> int:
        """Elements of a layer's weight tensor; 0 when it has none.

        Of a recurrent layer all weights and biases.
        """
        if layer.op in (*CONVOLUTIONS, "linear"):
            return layer.channels * (self.in_channels(layer) // layer.groups) * prod(layer.kernel)
        if layer.op == "layernorm":
            return layer.channels
        if layer.op == "parameter":
            return layer.whole(0) if layer.args else layer.out_elements
        if layer.op == "embedding":
            return layer.whole(0) * layer.out_shape[-1]
        if layer.op == "prelu":
            return layer.whole(0)
        if layer.op in RECURRENT_GATES:
            features = self.shape(self.producers(layer)[0])[-1]
            return recurrent_weights(layer, features, layer.whole(3))
        if layer.op in STATE_SPACES:  # D, step; C, A complex for each pair of states
            return layer.channels * (2 + 2 * layer.whole(0))
        if layer.op == "cfc":
            return CFC_GATES * (self.mask_elements(layer) + layer.channels)
        return 0

    def mask_elements(self, layer: LayerSpec) -> int:
        """Entries of the constant mask of a cfc cell over its input and its state; else 0."""
        if layer.op != "cfc":
            return 0
        return layer.channels * (self.in_channels(layer) + layer.channels)

    @cached_property
    def constant_count(self) -> int:
        """Entries of constant masks, which are no parameters."""
        return sum(map(self.mask_elements, self.layers))

    def norm_of(self, name: str) -> str | None:
        """Name of the norm layer that reads this layer's output, if any."""
        return self._norms.get(name)

    @cached_property
    def _norms(self) -> dict[str, str]:
        """The first norm that reads a layer's output, or the sum with its adapter."""
        return {
            layer.inputs[0].removesuffix(ADAPTER_SUM): layer.name
            for layer in reversed(self.layers)
            if layer.op in NORM_OPS and len(layer.inputs) == 1
        }

    @cached_property
    def norm(self) -> str:
        """Normalisation in the network as it is: bn, gn, frozen-bn or none."""
        ops = Counter(layer.op for layer in self.layers if layer.op in NORM_OPS)
        if not ops:
            return "none"
        most_common = ops.most_common(1)[0][0]
        return next(norm for norm, op in NORM_OP_OF.items() if op == most_common)

    @cached_property
    def index_count(self) -> int:
        """Rows that an input of indices chooses from; 0 where the input is numbers."""
        for layer in self.layers:
            if layer.op == "embedding" and self.producers(layer) == (INPUT,):
                return layer.whole(0)
            if layer.op == "lookup" and layer.inputs[0] == INPUT:
                return self.shape(layer.inputs[1])[0]
        return 0

    @cached_property
    def parameter_count(self) -> int:
        """Weights, biases and norm scales and offsets."""
        total = 0
        for layer in self.layers:
            total += self.weight_elements(layer) + layer.has_bias * layer.channels
            total += 2 * layer.out_shape[0] if layer.op in NORM_OPS else 0
        return total


def recurrent_weights(layer: LayerSpec, features: int, biases: int) -> int:
    """Elements of the matrices of a GRU or LSTM over `features`, with two bias vectors a gate."""
    hidden, depth, directions = (layer.whole(position) for position in range(3))
    inside = [features] + [hidden * directions] * (depth - 1)
    rows = RECURRENT_GATES[layer.op] * hidden * directions
    return sum(rows * (size + hidden + 2 * biases) for size in inside)


def normalised(graph: ModelGraph, norm: str | None) -> ModelGraph:
    """The same network with every norm layer of one kind, or with none.

    Norms change where they stand; `none` folds them into biases. A network without any gets
    them behind every convolution, whose bias the norm's offset then replaces. None or the kind
    the network has returns the graph itself.
    """
    if norm is not None and norm not in NORMS:
        raise SpecError.of("norm", norm, ", ".join(NORMS))
    return graph if norm is None or norm == graph.norm else _renormed(graph, norm)


@lru_cache(maxsize=32)
def _renormed(graph: ModelGraph, norm: str) -> ModelGraph:
    renamed: dict[str, str] = {}
    layers: list[LayerSpec] = []
    is_plain = graph.norm == "none"
    for layer in graph.layers:
        inputs = tuple(renamed.get(name, name) for name in layer.inputs)
        moved = replace(layer, inputs=inputs)
        if layer.op in NORM_OPS:
            if norm == "none":
                renamed[layer.name] = inputs[0]
            else:
                layers.append(replace(moved, op=NORM_OP_OF[norm], groups=_groups(layer, norm)))
        elif layer.op == "conv2d" and is_plain:
            behind = norm_behind(layer, norm)
            layers += [replace(moved, has_bias=False), behind]
            renamed[layer.name] = behind.name
        else:
            folds = norm == "none" and graph.norm_of(layer.name) is not None
            layers.append(replace(moved, has_bias=layer.has_bias or folds))
    return replace(graph, layers=tuple(layers))


def group_count(channels: int) -> int:
    """Groups of a group norm: of about eight channels each."""
    return gcd(channels, max(1, channels // GROUPNORM_CHANNELS_PER_GROUP))


def _groups(layer: LayerSpec, norm: str) -> int:
    """Groups of statistics."""
    return group_count(layer.out_shape[0]) if norm == "gn" else 1


def norm_behind(layer: LayerSpec, norm: str) -> LayerSpec:
    """The norm layer (bn, gn or frozen-bn) that reads a layer, named `NAME_norm`."""
    return LayerSpec(
        name=f"{layer.name}_norm",
        op=NORM_OP_OF[norm],
        inputs=(layer.name,),
        out_shape=layer.out_shape,
        groups=_groups(layer, norm),
        block=layer.block,
        role="norm",
    )
