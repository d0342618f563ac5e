"""A small vocabulary for networks that others measured: weights and sizes, no values.

Batch norm is folded and activations are left out: neither costs time in the model's forward
pass. `FOREIGN_OPS` are operators the package has no rule for; they are counted as one element
pass over their output (a flatten as none), and only inside `foreign_ops()`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from explorer.costmodel.ops import RULES, OpRule
from explorer.graph import INPUT, LayerSpec, ModelGraph
from explorer.provenance import Kind, Source

FOREIGN_OPS = {
    "flatten": OpRule(),
    "split": OpRule(),
    "pool": OpRule(forward_passes=1, backward_passes=1),
    "multiply": OpRule(forward_passes=1, backward_passes=1),
    "mixing": OpRule(forward_passes=1, backward_passes=1),
    "shuffle": OpRule(forward_passes=1, backward_passes=1),
}


@contextmanager
def foreign_ops() -> Iterator[None]:
    """Rules for the operators above while a measured network is priced."""
    with patch.dict(RULES, FOREIGN_OPS):
        yield


class Sketch:
    """Collects layers; every method appends at `end`, which may be moved to branch."""

    def __init__(self, *input_shape: int) -> None:
        self.input_shape = input_shape
        self.end = INPUT
        self._layers: list[LayerSpec] = []
        self._shapes = {INPUT: input_shape}

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shapes[self.end]

    @property
    def channels(self) -> int:
        return self.shape[0]

    def conv(
        self,
        channels: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        padding: int | tuple[int, int] | None = None,
    ) -> "Sketch":
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        if padding is None:
            padding = ((height - 1) // 2, (width - 1) // 2)
        pads = (padding, padding) if isinstance(padding, int) else padding
        sides = zip(self.shape[1:], (height, width), pads, strict=True)
        side = [(size + 2 * pad - extent) // stride + 1 for size, extent, pad in sides]
        return self._append(
            "conv2d",
            (channels, *side),
            kernel=(height, width),
            stride=stride,
            padding=pads,
            groups=groups,
            has_bias=True,
        )

    def depthwise(self, kernel: int = 3, stride: int = 1) -> "Sketch":
        return self.conv(self.channels, kernel, stride, groups=self.channels)

    def linear(self, features: int) -> "Sketch":
        return self._append("linear", (features,), has_bias=True)

    def pool(
        self, kernel: int = 3, stride: int = 2, padding: int = 0, up: bool = False
    ) -> "Sketch":
        """`up` rounds the output size up, as Caffe does."""
        spans = [size + 2 * padding - kernel + up * (stride - 1) for size in self.shape[1:]]
        return self._append("pool", (self.channels, *[span // stride + 1 for span in spans]))

    def mean(self) -> "Sketch":
        return self._append("global_avgpool", (self.channels,))

    def flatten(self) -> "Sketch":
        channels, height, width = self.shape
        return self._append("flatten", (channels * height * width,))

    def add(self, other: str) -> "Sketch":
        return self._append("add", self.shape, other, self.end)

    def concat(self, *ends: str) -> "Sketch":
        total = sum(self._shapes[end][0] for end in ends)
        return self._append("concat", (total, *self._shapes[ends[0]][1:]), *ends)

    def half(self, start: str) -> "Sketch":
        self.end = start
        return self._append("split", (self.channels // 2, *self.shape[1:]))

    def attention(self, channels: int) -> "Sketch":
        return self._append("mixing", (channels, *self.shape[1:]))

    def shuffle(self) -> "Sketch":
        return self._append("shuffle", self.shape)

    def squeeze_excite(self, squeezed: int) -> "Sketch":
        start, channels, shape = self.end, self.channels, self.shape
        self.mean().linear(squeezed).linear(channels)
        return self._append("multiply", shape, start, self.end)

    def graph(self, name: str, cite: str) -> ModelGraph:
        source = Source(kind=Kind.PUBLISHED, cite=cite)
        return ModelGraph(name, self.input_shape, tuple(self._layers), source)

    def _append(self, op: str, shape: tuple[int, ...], *inputs: str, **fields: object) -> "Sketch":
        name = f"{op}_{len(self._layers)}"
        if not inputs and self.end != INPUT:
            inputs = (self.end,)
        self._layers.append(LayerSpec(name=name, op=op, inputs=inputs, out_shape=shape, **fields))
        self.end, self._shapes[name] = name, shape
        return self
