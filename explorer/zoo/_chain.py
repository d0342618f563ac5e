"""A small vocabulary for writing networks down: a Chain remembers the last tensor."""

from explorer.graph import INPUT, NORM_OP_OF, LayerSpec, ModelGraph
from explorer.provenance import Source


class Chain:
    """Collects layers; every method appends one operator and moves the end.

    Convolutions pad by `(kernel - 1) // 2` on every side.
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
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        block: str = "",
        role: str = "",
        has_bias: bool = True,
        norm: str = "none",
        norm_groups: int = 1,
        act: str | None = "relu6",
    ) -> None:
        """Convolution, then its norm and its activation when named."""
        padding = (kernel - 1) // 2
        side = [(size + 2 * padding - kernel) // stride + 1 for size in self.shape[1:]]
        self._append(
            LayerSpec(
                name=name,
                op="conv2d",
                inputs=self._inputs(),
                out_shape=(channels, *side),
                kernel=(kernel, kernel),
                stride=stride,
                padding=(padding, padding),
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
