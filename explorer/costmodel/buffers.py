"""Buffers of a training step before a design is known: when they live, and how large they are.

A buffer is born at a step and dies at one of several, depending on what trains: `stages` are
(feature, death) with the longest life first, and the size while stage j is the last one alive
is `unit * value of feature j`. Features are defined by `Feature`; lifetimes.py gives them
values.
"""

from dataclasses import dataclass

from explorer.costmodel.ops import RULES
from explorer.costmodel.tables import LayerTable
from explorer.graph import ModelGraph


@dataclass(frozen=True, slots=True)
class Feature:
    """What a buffer's size is proportional to, as a value in 0..1 for each design.

    `always`: 1. `trigger`: 1 when any of these sites trains, columns of `ancestors` and
    then L sites of weights alone. `saved`: the largest share of the input that these
    weighted layers need for their weight gradients. The larger of both counts.
    """

    trigger: frozenset[int] = frozenset()
    saved: frozenset[int] = frozenset()
    always: bool = False

    def __or__(self, other: "Feature") -> "Feature":
        return Feature(trigger=self.trigger | other.trigger, saved=self.saved | other.saved)


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferRule:
    """One buffer: `unit_count` elements per sample, or in all when not `per_sample`.

    `form` is activation, gradient, mask (bits), statistic (32 bits each) or workspace
    (bytes).
    """

    label: str
    form: str
    unit_count: int
    birth: int
    stages: tuple[tuple[Feature, int], ...]
    per_sample: bool = True
    saved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Steps and buffers of a graph.

    `weight_grad_step`, `input_grad_step` are the backward steps of each operator [O]
    (equal for operators without weights); `forward_steps` counts the forward ones.
    `again` are blocks that run again: when they do, and which operators.
    """

    table: LayerTable
    forward_steps: int
    step_count: int
    weight_grad_step: tuple[int, ...]
    input_grad_step: tuple[int, ...]
    rules: tuple[BufferRule, ...]
    again: tuple[tuple[Feature, tuple[int, ...]], ...]
    step_labels: tuple[str, ...]


ALWAYS = Feature(always=True)


def stacked(holds: list[tuple[Feature, int]]) -> tuple[tuple[Feature, int], ...]:
    """Holds as stages: the longest first, each with everything that lasts at least as long."""
    stages: list[tuple[Feature, int]] = []
    kept = Feature()
    for feature, death in sorted(holds, key=lambda hold: -hold[1]):
        kept |= feature
        stages.append((kept, death))
    return tuple(stages)


def residents(graph: ModelGraph, step_count: int) -> list[BufferRule]:
    """What operators have in memory for good, one each."""
    return [
        BufferRule(
            label=f"{layer.name} resident",
            form="activation",
            unit_count=resident(graph, layer),
            birth=0,
            stages=((ALWAYS, step_count),),
            per_sample=False,
        )
        for layer in graph.layers
        if (resident := RULES[layer.op].resident)
    ]
