"""Which training engines can run a design as it is, and what stands against the others.

An engine is a TOML file in `engines/`; every fact in it has a source.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from explorer import catalog
from explorer.adapters import with_adapters
from explorer.costmodel.tables import LayerTable, layer_table
from explorer.design import Design, DesignBatch, LayerAxes
from explorer.device import Precision, SourceBlock, parse_toml
from explorer.document import Document
from explorer.graph import ModelGraph
from explorer.units import BoolArray

FACTS = (
    "operators",
    "partial",
    "partial_kernels",
    "biases",
    "listed_layers_train_bias",
    "layers",
    "norms",
    "adapters",
    "optimizers",
    "precisions",
    "accumulates",
)
ALL = "all"


class Engine(Document):
    """What one engine can train.

    `operators` a gradient can pass, or all of them. `partial` says which slices of a weight
    may train by themselves, and `partial_kernels` in which kinds of layers. `biases` train
    for any layer, for all last layers (`tail`), or only where the weight does; where
    `listed_layers_train_bias`, a weight never trains without its bias. `layers` that train
    are any, or the last ones without a gap. `norms`: whether their scales and offsets train.
    """

    name: Annotated[str, Field(min_length=1)]
    title: str
    summary: str
    operators: tuple[str, ...]
    partial: Literal["none", "first-in", "any"]
    partial_kernels: tuple[str, ...] = ()
    biases: Literal["any", "tail", "with-weights"]
    listed_layers_train_bias: bool = False
    layers: Literal["any", "tail"]
    norms: bool
    adapters: bool
    optimizers: tuple[Literal["sgd", "sgd-momentum", "adam"], ...]
    precisions: tuple[Precision, ...]
    accumulates: bool
    source: Annotated[tuple[SourceBlock, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _covered(self) -> "Engine":
        covered = {name for block in self.source for name in block.fields}
        stated = {name for name in FACTS if name in self.model_fields_set}
        if missing := sorted(stated - covered):
            raise ValueError(f"{missing[0]}: no source covers {', '.join(missing)}")
        if unknown := sorted(covered - stated):
            raise ValueError(f"source: {unknown[0]!r} is covered and not stated")
        return self

    @classmethod
    def from_toml(cls, text: str, origin: str) -> "Engine":
        """Parse and check; SpecError names line and field, what came and what is allowed."""
        return parse_toml(cls, text, origin, _place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether an engine runs a design as it is; `reason` is the first thing against it."""

    engine: str
    title: str
    reason: str

    @property
    def runs(self) -> bool:
        """Whether nothing stands against it."""
        return not self.reason


def _place(sentence: str, document: dict[str, Any]) -> tuple[str | int, ...]:
    """Keys and indices of what a check of the whole engine is about: a fact, or a source of one."""
    for index, block in enumerate(document.get("source", ())):
        if any(sentence.startswith(f"source: {field!r} ") for field in block["fields"]):
            return ("source", index, "fields")
    return (sentence.partition(":")[0],)


@cache
def load_engine(name: str) -> Engine:
    """An engine of the catalogue by name; SpecError names line and field that are wrong."""
    return Engine.from_toml(catalog.read("engine", name), name)


def verdicts(graph: ModelGraph, design: Design) -> tuple[Verdict, ...]:
    """What every engine of the catalogue says to a design, those that run it first."""
    found = []
    for name in catalog.names("engine"):
        engine = load_engine(name)
        reason = reason_against(engine, graph, design)
        found.append(Verdict(engine=name, title=engine.title, reason=reason))
    return tuple(sorted(found, key=lambda verdict: not verdict.runs))


def reason_against(engine: Engine, graph: ModelGraph, design: Design) -> str:
    """The first reason why an engine cannot run a design as it is; empty when it can."""
    single = DesignBatch.of(LayerAxes.of(graph), [design.policy], design.setup)
    own, designs = with_adapters(graph, single)
    table = layer_table(own)
    reasons = (
        *_adapter_reasons(engine, design),
        *_slice_reasons(engine, table, designs),
        *_layer_reasons(engine, table, designs),
        *_bias_reasons(engine, table, designs),
        *_setup_reasons(engine, design),
    )
    return next(iter(reasons), "")


def _adapter_reasons(engine: Engine, design: Design) -> Iterator[str]:
    if design.policy.adapters and not engine.adapters:
        yield f"cannot add an adapter to {design.policy.adapters[0]}"


def _setup_reasons(engine: Engine, design: Design) -> Iterator[str]:
    setup = design.setup
    if setup.precision not in engine.precisions:
        yield f"trains in {' or '.join(engine.precisions)}, not in {setup.precision}"
    if setup.optimizer not in engine.optimizers:
        yield f"has {' and '.join(engine.optimizers)}, not {setup.optimizer}"
    if setup.accumulation_steps > 1 and not engine.accumulates:
        yield f"does not add up the gradients of {setup.accumulation_steps} micro-batches"


def _layer_reasons(engine: Engine, table: LayerTable, designs: DesignBatch) -> Iterator[str]:
    """Operators without a backward pass, norms, and layers out of reach."""
    names, norms = table.axes.names, designs.update_norm[0]
    trains = (designs.slices[0] > 0) | designs.update_bias[0] | norms
    trained = {names[index] for index in np.flatnonzero(trains)}
    passed = table.gradient_passes(table.active_sites(designs))[0]
    for layer, passes in zip(table.graph.layers, passed, strict=True):
        known = ALL in engine.operators or layer.op in engine.operators
        if not known and (passes or layer.name in trained):
            yield f"has no backward pass for {layer.op} ({layer.name})"
    if norms.any() and not engine.norms:
        yield f"does not train the norm behind {names[int(np.argmax(norms))]}"
    if engine.layers == "tail" and (gap := _first_gap(trains)) is not None:
        yield f"trains the last layers without a gap, and {names[gap]} is frozen"


def _bias_reasons(engine: Engine, table: LayerTable, designs: DesignBatch) -> Iterator[str]:
    names, has_bias = table.axes.names, table.axes.has_bias
    weights, biases = designs.slices[0] > 0, designs.update_bias[0]
    gap = _first_gap(biases | ~has_bias) if biases.any() else None
    if engine.biases == "tail" and gap is not None and gap > np.argmax(biases):
        yield f"trains all biases of the last layers, and that of {names[gap]} is frozen"
    if engine.biases == "with-weights" and (biases & ~weights).any():
        alone = int(np.argmax(biases & ~weights))
        yield f"trains a bias only with its weight, not that of {names[alone]}"
    if engine.listed_layers_train_bias and (weights & ~biases & has_bias).any():
        alone = int(np.argmax(weights & ~biases & has_bias))
        yield f"would also train the bias of {names[alone]}"


def _first_gap(trains: BoolArray) -> int | None:
    """The first layer behind the first one that trains which does not; None without one."""
    behind = np.flatnonzero(~trains & (np.arange(len(trains)) > np.argmax(trains)))
    return int(behind[0]) if trains.any() and behind.size else None


def _slice_reasons(engine: Engine, table: LayerTable, designs: DesignBatch) -> Iterator[str]:
    """Layers that train in a part that the engine cannot single out."""
    axis = "input" if designs.axis_in[0] else "output"
    counts = designs.slice_counts[0]
    for index in np.flatnonzero((designs.slices[0] > 0) & (designs.slices[0] < counts)):
        name = table.axes.names[index]
        part = f"{designs.slices[0, index]} of {counts[index]} {axis} channels of {name}"
        if engine.partial == "none":
            yield f"trains whole weights, not {part}"
        elif engine.partial == "first-in" and axis == "output" and not table.depthwise[index]:
            yield f"trains input-channel slices, not {part}"
        elif engine.partial_kernels and table.kind[index] not in engine.partial_kernels:
            allowed = " and ".join(engine.partial_kernels)
            yield f"trains a part only of {allowed} layers, not {part}"
