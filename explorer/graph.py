"""A network as a checked, ordered, hashable list of layers.

Shapes are of one sample, channels first: `(C, H, W)` or `(F,)`. A graph ends
in an embedding (prototype head, no parameters) or in logits.
"""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from math import gcd, prod

from explorer.errors import SpecError, UnknownNameError
from explorer.provenance import Source

WEIGHTED_OPS = ("conv2d", "linear")
NORM_OPS = ("batchnorm", "groupnorm", "frozen_batchnorm")
NORM_OP_OF = {"bn": "batchnorm", "gn": "groupnorm", "frozen-bn": "frozen_batchnorm"}
WINDOW_OPS = ("avgpool", "window_max")
POOL_OPS = ("global_avgpool", *WINDOW_OPS, "upsample")
SHAPED_OPS = (*WEIGHTED_OPS, *NORM_OPS, "relu", "relu6", "add", "reshape", *POOL_OPS)
NORMS = (*NORM_OP_OF, "none")
GROUPNORM_CHANNELS_PER_GROUP = 8
INPUT = "input"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """One operator.

    `inputs` names the producers, `()` means the network input. `padding` is (height, width)
    or, where the two ends of a side differ, (top, bottom, left, right). `groups` of a
    groupnorm is its number of groups; windows of an avgpool or window_max lie side
    by side and `kernel` is their size; an upsample is bilinear to any size; a reshape keeps
    the order of elements. `block` and `role` label the place in the network for block-wise
    policies and figures.
    """

    name: str
    op: str
    out_shape: tuple[int, ...]
    inputs: tuple[str, ...] = ()
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: tuple[int, int] | tuple[int, int, int, int] = (0, 0)
    groups: int = 1
    has_bias: bool = False
    block: str = ""
    role: str = ""

    def __post_init__(self) -> None:
        if not self.name or self.name == INPUT:
            raise SpecError.of("layer.name", self.name, f"a name other than {INPUT!r}")
        if not self.out_shape or min(self.out_shape) < 1:
            raise SpecError.of(f"{self.name}.out_shape", self.out_shape, "positive sizes")
        if min(self.stride, self.groups, *self.kernel) < 1 or min(self.padding) < 0:
            raise SpecError.of(f"{self.name}", self, "stride, groups, kernel >= 1, padding >= 0")
        if len(self.padding) == 4 and self.padding[::2] == self.padding[1::2]:
            raise SpecError.of(f"{self.name}.padding", self.padding, "two numbers: both ends alike")

    @property
    def pads(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Padding before and after, of the height and of the width."""
        if len(self.padding) == 2:
            height, width = self.padding
            return (height, height), (width, width)
        top, bottom, left, right = self.padding
        return (top, bottom), (left, right)

    @property
    def out_elements(self) -> int:
        """Elements of the output of one sample."""
        return prod(self.out_shape)


@dataclass(frozen=True)
class ModelGraph:
    """A network: layers in topological order, and where it was published.

    Raises SpecError on a duplicate name, an unknown producer or a wrong order.
    """

    name: str
    input_shape: tuple[int, ...]
    layers: tuple[LayerSpec, ...]
    source: Source

    def __post_init__(self) -> None:
        seen = {INPUT}
        for layer in self.layers:
            if layer.name in seen:
                raise SpecError.of(f"{self.name}.layers", layer.name, "each name once")
            for producer in layer.inputs:
                if producer not in seen:
                    raise SpecError.of(f"{layer.name}.inputs", producer, "an earlier layer")
            seen.add(layer.name)
            self._check_shape(layer)
        if not self.weighted:
            raise SpecError.of(f"{self.name}.layers", "no layer with weights", "at least one")

    def _check_shape(self, layer: LayerSpec) -> None:
        """SpecError when an output shape does not follow from the inputs."""
        inputs = [self.shape(name) for name in self.producers(layer)]
        expected = inputs[0]
        if layer.op == "conv2d" and len(inputs[0]) == 3:
            if inputs[0][0] % layer.groups or layer.out_shape[0] % layer.groups:
                raise SpecError.of(
                    f"{layer.name}.groups", layer.groups, "a divisor of the channels"
                )
            sides = zip(inputs[0][1:], layer.kernel, layer.pads, strict=True)
            side = [(size + sum(pad) - kernel) // layer.stride + 1 for size, kernel, pad in sides]
            expected = (layer.out_shape[0], *side)
        elif layer.op == "linear":
            expected = layer.out_shape if len(inputs[0]) == 1 else (0,)
        elif layer.op == "reshape" and layer.out_elements == prod(inputs[0]):
            expected = layer.out_shape
        elif layer.op == "global_avgpool":
            expected = inputs[0][:1]
        elif layer.op in WINDOW_OPS and len(inputs[0]) == 3:
            windows = zip(inputs[0][1:], layer.kernel, strict=True)
            expected = (inputs[0][0], *(size // window for size, window in windows))
        elif layer.op == "upsample" and len(inputs[0]) == len(layer.out_shape) == 3:
            expected = (inputs[0][0], *layer.out_shape[1:])
        elif layer.op == "add" and any(shape != inputs[0] for shape in inputs):
            raise SpecError.of(f"{layer.name}.inputs", inputs, "equal shapes")
        if layer.op in SHAPED_OPS and layer.out_shape != expected:
            raise SpecError.of(f"{layer.name}.out_shape", layer.out_shape, str(expected))

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

    @cached_property
    def weighted(self) -> tuple[str, ...]:
        """Names of the layers that have weights (axis L), from input to output."""
        return tuple(layer.name for layer in self.layers if layer.op in WEIGHTED_OPS)

    @cached_property
    def digest(self) -> str:
        """Twelve hexadecimal digits over structure; names of blocks do not count."""
        rows = [
            {k: v for k, v in asdict(layer).items() if k not in ("block", "role")}
            for layer in self.layers
        ]
        text = json.dumps([list(self.input_shape), rows], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def producers(self, layer: LayerSpec) -> tuple[str, ...]:
        """Names of the tensors a layer reads; the network input is `input`."""
        return layer.inputs or (INPUT,)

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Shape of one sample of a tensor, named by its producer."""
        return self.input_shape if tensor == INPUT else self[tensor].out_shape

    def in_channels(self, layer: LayerSpec) -> int:
        """Channels (or features) of the first input of a layer."""
        return self.shape(self.producers(layer)[0])[0]

    def weight_elements(self, layer: LayerSpec) -> int:
        """Elements of a layer's weight tensor; 0 when it has none."""
        if layer.op not in WEIGHTED_OPS:
            return 0
        return layer.out_shape[0] * (self.in_channels(layer) // layer.groups) * prod(layer.kernel)

    def norm_of(self, name: str) -> str | None:
        """Name of the norm layer that reads this layer's output, if any."""
        for layer in self.layers:
            if layer.op in NORM_OPS and layer.inputs == (name,):
                return layer.name
        return None

    @cached_property
    def norm(self) -> str:
        """Normalisation in the network as it is: bn, gn, frozen-bn or none."""
        ops = Counter(layer.op for layer in self.layers if layer.op in NORM_OPS)
        if not ops:
            return "none"
        most_common = ops.most_common(1)[0][0]
        return next(norm for norm, op in NORM_OP_OF.items() if op == most_common)

    @cached_property
    def parameter_count(self) -> int:
        """Weights, biases and norm scales and offsets."""
        total = 0
        for layer in self.layers:
            total += self.weight_elements(layer) + layer.has_bias * layer.out_shape[0]
            total += 2 * layer.out_shape[0] if layer.op in NORM_OPS else 0
        return total


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


def _groups(layer: LayerSpec, norm: str) -> int:
    """Groups of statistics: one, or of a group norm about eight channels each."""
    channels = layer.out_shape[0]
    wanted = max(1, channels // GROUPNORM_CHANNELS_PER_GROUP)
    return gcd(channels, wanted) if norm == "gn" else 1


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
