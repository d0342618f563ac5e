"""A network as JSON at the border: anybody's graph, such as `explorer trace` writes.

Weights, where there are any, lie beside it under the same name with `.safetensors`.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from explorer.device import read_text
from explorer.document import SCHEMA_VERSION, Document, parse_document
from explorer.errors import SpecError
from explorer.graph import LayerSpec, ModelGraph
from explorer.own_code import FILE as CODE
from explorer.own_code import code_file
from explorer.provenance import Kind, Source

Size = Annotated[int, Field(ge=1, le=10**9)]
Whole = Annotated[int, Field(ge=0, le=10**9)]
Name = Annotated[str, Field(min_length=1, max_length=500)]
Shape = Annotated[tuple[Size, ...], Field(min_length=1, max_length=8)]
SUFFIX = ".json"
ONNX = ".onnx"


class LayerRecord(Document):
    """One operator; fields as in explorer.layer.LayerSpec, those left out have its defaults."""

    name: Name
    op: Name
    out_shape: Shape
    inputs: tuple[Name, ...] = ()
    kernel: tuple[Size, Size] = (1, 1)
    stride: Size | tuple[Size, Size] = 1
    padding: tuple[Whole, Whole] | tuple[Whole, Whole, Whole, Whole] = (0, 0)
    groups: Size = 1
    has_bias: bool = False
    block: str = ""
    role: str = ""
    axis: Whole = 0
    dilation: tuple[Size, Size] = (1, 1)
    args: tuple[int | float, ...] = ()

    def layer(self) -> LayerSpec:
        """The operator; SpecError when its fields do not fit together."""
        return LayerSpec(**{name: getattr(self, name) for name in type(self).model_fields})


class NetworkDocument(Document):
    """A network: its layers from input to output, and where they come from."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Name
    input_shape: Shape
    layers: Annotated[tuple[LayerRecord, ...], Field(min_length=1)]
    cite: Name

    @classmethod
    def of(cls, graph: ModelGraph) -> "NetworkDocument":
        """The document of a graph."""
        rows = [
            {name: getattr(layer, name) for name in LayerRecord.model_fields}
            for layer in graph.layers
        ]
        return cls.model_validate(
            {
                "name": graph.name,
                "input_shape": graph.input_shape,
                "layers": rows,
                "cite": graph.source.cite,
            }
        )

    def to_json(self) -> str:
        """Canonical JSON text, one line a layer, without fields at their defaults."""
        head = self.model_dump(mode="json", exclude={"layers"})
        rows = [
            json.dumps(layer.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False)
            for layer in self.layers
        ]
        text = json.dumps(head, indent=2, ensure_ascii=False).removesuffix("\n}")
        return text + ',\n  "layers": [\n    ' + ",\n    ".join(rows) + "\n  ]\n}\n"

    def graph(self, weights: str = "") -> ModelGraph:
        """The graph; SpecError when it is none. `weights` is a file of its weights."""
        layers = tuple(layer.layer() for layer in self.layers)
        source = Source(kind=Kind.ASSUMED, cite=self.cite)
        return ModelGraph(self.name, self.input_shape, layers, source, weights)


def is_network_path(model: str) -> bool:
    """Whether a model is named by a file rather than by an entry of the catalogue."""
    return model.endswith(SUFFIX)


def check_traced(model: str) -> None:
    """SpecError for what is traced first: code that makes a network, or an ONNX file."""
    if code_file(model) is not None or model.endswith((CODE, ONNX)):
        allowed = f"a name, or a {SUFFIX} as `explorer trace` writes of it"
        raise SpecError.of("model", model, allowed)


def check_network_path(path: Path) -> None:
    """SpecError where a network written there could not be named."""
    if not is_network_path(path.name):
        raise SpecError.of("path of a network", str(path), f"a name that ends in {SUFFIX}")


def load_network(path: str | Path) -> ModelGraph:
    """Read a network document from a path; SpecError says what is wrong in one sentence."""
    place = Path(path)
    document = parse_document(NetworkDocument, read_text(place), str(place))
    beside = place.with_suffix(".safetensors")
    try:
        return document.graph(str(beside.resolve()))
    except SpecError as error:
        raise SpecError(f"{place}: {error}") from None
