"""A small vocabulary for writing networks down: a Chain remembers the last tensor."""

from math import prod

from explorer.graph import INPUT, NORM_OP_OF, LayerSpec, ModelGraph
from explorer.provenance import Source

POOLS = {"avg": "avgpool", "max": "window_max"}


class Chain:
    """Collects layers; every method appends one operator and moves the end.

    Convolutions pad to keep their input's size at stride 1, an even kernel by one more at the
    far end; `valid` ones do not pad.
    """

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        self.input_shape = input_shape
        self.end = INPUT
        self.shape = input_shape
        self._layers: list[LayerSpec] = []

    def conv(
        self,
        name: str,
        channels: int,
        *,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        groups: int = 1,
        valid: bool = False,
        block: str = "",
        role: str = "",
        has_bias: bool = True,
        norm: str = "none",
        norm_groups: int = 1,
        act: str | None = "relu6",
    ) -> None:
        """Convolution, then its norm and its activation when named."""
        extents = (kernel, kernel) if isinstance(kernel, int) else kernel
        pads = [(0, 0) if valid else ((extent - 1) // 2, extent // 2) for extent in extents]
        sides = zip(self.shape[1:], extents, pads, strict=True)
        side = [(size + sum(pad) - extent) // stride + 1 for size, extent, pad in sides]
        self._append(
            LayerSpec(
                name=name,
                op="conv2d",
                inputs=self._inputs(),
                out_shape=(channels, *side),
                kernel=extents,
                stride=stride,
                padding=_padding(*pads),
                groups=groups,
                has_bias=has_bias,
                block=block,
                role=role,
            )
        )
        if norm != "none":
            self._same(f"{name}_norm", NORM_OP_OF[norm], groups=norm_groups, block=block)
        if act:
            self._same(f"{name}_{act}", act, block=block)

    def add(self, name: str, other: str, *, block: str = "") -> None:
        """Sum of the end and an earlier tensor (residual connection)."""
        self._append(
            LayerSpec(
                name=name, op="add", inputs=(other, self.end), out_shape=self.shape, block=block
            )
        )

    def pool(self, name: str, window: tuple[int, int], *, op: str = "avgpool") -> None:
        """Windows side by side; what is left of a side is dropped."""
        channels, *sides = self.shape
        pooled = (size // extent for size, extent in zip(sides, window, strict=True))
        self._append(
            LayerSpec(
                name=name,
                op=op,
                inputs=self._inputs(),
                out_shape=(channels, *pooled),
                kernel=window,
            )
        )

    def flatten(self, name: str) -> None:
        """(C, H, W) -> (C * H * W,)."""
        self._append(
            LayerSpec(name=name, op="reshape", inputs=self._inputs(), out_shape=(prod(self.shape),))
        )

    def average_pool(self, name: str) -> None:
        """Global average over positions: (C, H, W) -> (C,)."""
        self._append(
            LayerSpec(
                name=name, op="global_avgpool", inputs=self._inputs(), out_shape=self.shape[:1]
            )
        )

    def linear(self, name: str, features: int) -> None:
        """Fully connected layer with bias."""
        assert len(self.shape) == 1
        self._append(
            LayerSpec(
                name=name,
                op="linear",
                inputs=self._inputs(),
                out_shape=(features,),
                has_bias=True,
                role="classifier",
            )
        )

    def then(
        self,
        name: str,
        op: str,
        *,
        shape: tuple[int, ...] | None = None,
        args: tuple[float, ...] = (),
        has_bias: bool = False,
        block: str = "",
        role: str = "",
    ) -> None:
        """Any other operator on the end; without `shape` its output is as large."""
        self._append(
            LayerSpec(
                name=name,
                op=op,
                inputs=self._inputs(),
                out_shape=shape or self.shape,
                args=args,
                has_bias=has_bias,
                block=block,
                role=role,
            )
        )

    def graph(self, name: str, source: Source) -> ModelGraph:
        """The finished, checked graph."""
        return ModelGraph(name, self.input_shape, tuple(self._layers), source)

    def _same(self, name: str, op: str, *, groups: int = 1, block: str) -> None:
        self._append(
            LayerSpec(
                name=name,
                op=op,
                inputs=self._inputs(),
                out_shape=self.shape,
                groups=groups,
                block=block,
                role="norm" if op in NORM_OP_OF.values() else "",
            )
        )

    def _inputs(self) -> tuple[str, ...]:
        return () if self.end == INPUT else (self.end,)

    def _append(self, layer: LayerSpec) -> None:
        self._layers.append(layer)
        self.end, self.shape = layer.name, layer.out_shape


def _padding(
    height: tuple[int, int], width: tuple[int, int]
) -> tuple[int, int] | tuple[int, int, int, int]:
    """As a LayerSpec has it: one number a side where both its ends are alike."""
    if height[0] == height[1] and width[0] == width[1]:
        return height[0], width[0]
    return *height, *width
