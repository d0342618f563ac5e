"""The policy document: what a design trains, as JSON at the border.

A document names layers, so any torch module with the same names can be trained
by it. It holds no clock and no host: the same design gives the same bytes.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from explorer.adapters import adapted
from explorer.design import (
    LARGEST_BATCH,
    Design,
    LayerAxes,
    TrainingSetup,
    UpdatePolicy,
)
from explorer.device import Precision, first_problem, read_text
from explorer.errors import SpecError, shown
from explorer.graph import ModelGraph
from explorer.low_rank import Adapter, LowRank
from explorer.paths import file_state
from explorer.phases import Distillation

SCHEMA_VERSION: Literal[1] = 1
# the first that is there tells
KIND_OF_FIELD = {"input_shape": "a network", "candidates": "a front", "family": "a policy"}


def _each_once(adapters: tuple[Adapter, ...]) -> tuple[Adapter, ...]:
    places = [one.layer if isinstance(one, LowRank) else one for one in adapters]
    if len(set(places)) != len(places):
        raise ValueError("each block and layer only once")
    return adapters


def _adapter_kind(adapter: object) -> str:
    return "layer" if isinstance(adapter, dict | LowRank) else "block"


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
PositiveCount = Annotated[int, Field(ge=1)]
BatchCount = Annotated[int, Field(ge=1, le=LARGEST_BATCH)]
AnyAdapter = Annotated[
    Annotated[str, Field(min_length=1), Tag("block")] | Annotated[LowRank, Tag("layer")],
    Discriminator(_adapter_kind),
]
Adapters = Annotated[tuple[AnyAdapter, ...], AfterValidator(_each_once)]
Selection = Literal["first", "fisher", "gradient", "magnitude", "random"]


class Document(BaseModel):
    """Frozen, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def to_json(self) -> str:
        """Canonical JSON text; equal documents give equal bytes."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


D = TypeVar("D", bound=Document)


class Named(Document):
    """A catalogue entry and the digest of its content."""

    name: Annotated[str, Field(min_length=1, max_length=500)]
    digest: Annotated[str, Field(min_length=1, max_length=100)]


class LayerChoice(Document):
    """One layer that trains something; layers not listed are frozen.

    `channels` lists the trained slices along `channel_axis`, or names how to choose them.
    """

    name: str
    update_ratio: Share
    slices: Count
    slice_count: PositiveCount
    channel_axis: Literal["out", "in"] = "out"
    channels: Selection | tuple[Count, ...] = "first"
    update_bias: bool = False
    update_norm: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> "LayerChoice":
        if self.slices > self.slice_count:
            raise ValueError(f"slices {self.slices} is more than slice_count {self.slice_count}")
        if abs(self.update_ratio - self.slices / self.slice_count) > 1e-6:
            raise ValueError(
                f"update_ratio {self.update_ratio} is not slices / slice_count, "
                f"{self.slices / self.slice_count}"
            )
        if isinstance(self.channels, tuple):
            distinct = {index for index in self.channels if index < self.slice_count}
            if len(distinct) != self.slices or len(self.channels) != self.slices:
                raise ValueError(
                    f"channels must list {self.slices} different indices below {self.slice_count}"
                )
        return self

    @property
    def known_channels(self) -> tuple[int, ...] | None:
        """Indices of the trained slices; None where a criterion has yet to choose them."""
        if isinstance(self.channels, tuple):
            return self.channels
        is_known = self.channels == "first" or self.slices in (0, self.slice_count)
        return tuple(range(self.slices)) if is_known else None


def _of_one_axis(layers: tuple[LayerChoice, ...]) -> tuple[LayerChoice, ...]:
    if len({layer.name for layer in layers}) != len(layers):
        raise ValueError("each layer only once")
    if len({layer.channel_axis for layer in layers}) > 1:
        raise ValueError("one channel_axis for all layers")
    return layers


LayerChoices = Annotated[tuple[LayerChoice, ...], AfterValidator(_of_one_axis)]


class DistillationRecord(Document):
    """How a step looks ahead, as in design.Distillation."""

    soft_label_ratio: Share = 0.8
    reuse_forward: bool = False

    @classmethod
    def of(cls, distillation: Distillation | None) -> "DistillationRecord | None":
        """Copy a policy's, if it has one."""
        if distillation is None:
            return None
        return cls(
            soft_label_ratio=distillation.soft_label_ratio,
            reuse_forward=distillation.reuse_forward,
        )

    def distillation(self) -> Distillation:
        """The same as a Distillation."""
        return Distillation(**self.model_dump())


class SetupRecord(Document):
    """The training setup of a design."""

    micro_batch: BatchCount = 1
    accumulation_steps: BatchCount = 1
    optimizer: Literal["sgd", "sgd-momentum", "adam"] = "sgd"
    precision: Precision = "fp32"
    norm: Literal["bn", "gn", "frozen-bn", "none"] | None = None
    update_timing: Literal["fused", "deferred"] = "fused"
    recompute: Literal["none", "blocks"] = "none"

    @classmethod
    def of(cls, setup: TrainingSetup) -> "SetupRecord":
        """Copy the fields of a setup."""
        fields = {name: getattr(setup, name) for name in cls.model_fields}
        return cls.model_validate(fields)

    def setup(self) -> TrainingSetup:
        """The same as a TrainingSetup."""
        return TrainingSetup(**self.model_dump())


class Quantity(Document):
    """A predicted number with its unit, its kind and its interval."""

    value: float | None
    unit: str
    kind: Literal["measured", "published", "modelled", "assumed"]
    low: float | None = None
    high: float | None = None


class MadeWith(Document):
    """Versions that decide the content."""

    version: str
    cost_model_version: int


class PolicyDocument(Document):
    """A policy for one network, with the setup and what is predicted for a device.

    `layers` are the network's own; `adapters` are names of blocks with a lite-residual adapter,
    or a layer with rank and alpha of a low-rank one; they train wholly. With `distillation`
    each step first looks ahead. `procedure` is the spec of a family that makes the choice again
    from other scores (explorer.procedure), its budgets in numbers.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    model: Named
    device: Named | None = None
    task: str | None = None
    family: str
    procedure: Annotated[str, Field(min_length=1)] | None = None
    setup: SetupRecord
    layers: LayerChoices
    adapters: Adapters = ()
    distillation: DistillationRecord | None = None
    predicted: dict[str, Quantity] = Field(default_factory=dict)
    made_with: MadeWith

    def policy(self, graph: ModelGraph) -> UpdatePolicy:
        """The policy for a graph; SpecError when the document is for another network.

        So it is when the network cannot have an adapter that the document says.
        """
        self.check_network(graph)
        adapted(graph, self.adapters)
        axes = LayerAxes.of(graph)
        return policy_of(self.family, self.layers, axes, self.adapters, self.distillation)

    def check_network(self, graph: ModelGraph) -> None:
        """SpecError with both names when the document is for another network."""
        if self.model.digest != graph.digest:
            options = " with other options" if self.model.name == graph.name else ""
            raise SpecError(
                f"model: the document is for {self.model.name} ({self.model.digest}), "
                f"not for {graph.name} ({graph.digest}){options}"
            )


def choices_of(policy: UpdatePolicy) -> tuple[LayerChoice, ...]:
    """The network's own trained layers of a policy as document rows."""
    rows = []
    for index, name in enumerate(policy.layer_names):
        taken, whole = policy.slices[index], policy.slice_counts[index]
        bias, norm = policy.update_bias[index], policy.update_norm[index]
        if not (taken or bias or norm):
            continue
        listed = policy.channels[index] if policy.channels is not None else None
        rows.append(
            LayerChoice.model_validate(
                {
                    "name": name,
                    "update_ratio": taken / whole,
                    "slices": taken,
                    "slice_count": whole,
                    "channel_axis": policy.channel_axis,
                    "channels": policy.selection if listed is None else listed,
                    "update_bias": bias,
                    "update_norm": norm,
                }
            )
        )
    return tuple(rows)


def policy_of(
    family: str,
    layers: tuple[LayerChoice, ...],
    axes: LayerAxes,
    adapters: tuple[Adapter, ...] = (),
    distillation: DistillationRecord | None = None,
) -> UpdatePolicy:
    """Document rows back to a policy; SpecError on an unknown layer or another size."""
    axis = layers[0].channel_axis if layers else "out"
    whole = axes.channels(axis)
    slices, bias, norm = [0] * len(whole), [False] * len(whole), [False] * len(whole)
    channels: list[tuple[int, ...]] = [()] * len(whole)
    selection = "first"
    for layer in layers:
        index = axes.index(layer.name)
        if layer.slice_count != whole[index]:
            raise SpecError.of(f"{layer.name}.slice_count", layer.slice_count, f"{whole[index]}")
        slices[index], bias[index], norm[index] = layer.slices, layer.update_bias, layer.update_norm
        if isinstance(layer.channels, str):
            selection = layer.channels
            channels[index] = tuple(range(layer.slices))
        else:
            channels[index] = layer.channels
    listed = any(isinstance(layer.channels, tuple) for layer in layers)
    return UpdatePolicy(
        family=family,
        layer_names=axes.names,
        slices=tuple(slices),
        slice_counts=tuple(int(count) for count in whole),
        update_bias=tuple(bias),
        update_norm=tuple(norm),
        channel_axis=axis,
        selection=selection,
        channels=tuple(channels) if listed else None,
        adapters=adapters,
        distillation=None if distillation is None else distillation.distillation(),
    )


def design_record(design: Design) -> dict[str, object]:
    """A design as plain JSON data, for ledger rows."""
    distillation = DistillationRecord.of(design.policy.distillation)
    return {
        "family": design.policy.family,
        "setup": SetupRecord.of(design.setup).model_dump(),
        "layers": [row.model_dump(mode="json") for row in choices_of(design.policy)],
        "adapters": [_adapter_row(one) for one in design.policy.adapters],
        "distillation": distillation if distillation is None else distillation.model_dump(),
    }


def _adapter_row(adapter: Adapter) -> object:
    return asdict(adapter) if isinstance(adapter, LowRank) else adapter


def load_policy(source: str | Path) -> PolicyDocument:
    """Read a policy document from a path; SpecError says what is wrong in one sentence."""
    return parse_document(PolicyDocument, read_text(Path(source)), str(source))


def policy_file(path: str) -> PolicyDocument:
    """The policy document of a path, which is read again when the file has changed."""
    return _policy(path, file_state(Path(path)))


@lru_cache(maxsize=32)
def _policy(path: str, _state: tuple[int, ...]) -> PolicyDocument:
    return load_policy(path)


def parse_document(kind: type[D], text: str, origin: str) -> D:
    """JSON text to a document; SpecError names the field, what came, what is allowed."""
    try:
        data = json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{origin}: not JSON: {error}") from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if type(version) is not int or version != SCHEMA_VERSION:
        raise SpecError.of(f"{origin}: schema_version", version, str(SCHEMA_VERSION))
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        came, wanted = _kind_of(data), _kind_of(kind.model_fields)
        if came and came != wanted:
            raise SpecError.of(f"{origin}: document", came, wanted) from None
        raise SpecError(f"{origin}: {first_problem(error)}") from None


def _kind_of(fields: Iterable[str]) -> str:
    """Which document has such fields; empty when it is none of ours."""
    return next((word for mark, word in KIND_OF_FIELD.items() if mark in fields), "")


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown(twice)} stands twice in one object")
    return found
