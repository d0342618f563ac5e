"""The schedule of one training step and every buffer in it, for one graph.

Steps [T]: one per operator forward, one for the loss, then backward in reverse
order, where a weighted layer takes two: first dW (its saved input may go), then
dX with the update. A buffer is born at a step and dies at one of several,
depending on what trains: `stages` are (feature, death) with the longest life
first, and the size while stage j is the last one alive is `unit * value of
feature j`. Features are defined by `Feature`; lifetimes.py gives them values.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from explorer.costmodel.ops import RULES
from explorer.costmodel.tables import LayerTable, layer_table
from explorer.costmodel.workspace import scratch_of
from explorer.graph import INPUT, WEIGHTED_OPS, ModelGraph


@dataclass(frozen=True, slots=True)
class Feature:
    """What a buffer's size is proportional to, as a value in 0..1 for each design.

    `always`: 1. `trigger`: 1 when any of these sites trains. `saved`: the largest share
    of the input that these weighted layers need for their weight gradients. `weight`: 1
    when a weight of this layer trains.
    """

    trigger: frozenset[int] = frozenset()
    saved: frozenset[int] = frozenset()
    weight: int | None = None
    always: bool = False


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
    """

    table: LayerTable
    forward_steps: int
    step_count: int
    weight_grad_step: tuple[int, ...]
    input_grad_step: tuple[int, ...]
    rules: tuple[BufferRule, ...]
    step_labels: tuple[str, ...]


ALWAYS = Feature(always=True)


@lru_cache(maxsize=32)
def schedule_of(graph: ModelGraph, workspace: str = "none") -> Schedule:
    """Build the schedule of a graph; raises UnsupportedOpError as `layer_table` does."""
    return _Builder(graph, workspace).build()


class _Builder:
    """Walks the graph once; every method fills one kind of buffer."""

    def __init__(self, graph: ModelGraph, workspace: str) -> None:
        self.graph = graph
        self.workspace = workspace
        self.table = layer_table(graph)
        self.layers = graph.layers
        self.op_count = len(self.layers)
        self.position = {layer.name: index for index, layer in enumerate(self.layers)}
        self.position[INPUT] = -1
        self.weighted_of = {int(op): index for index, op in enumerate(self.table.op_index)}
        self.producers = [
            [self.position[name] for name in graph.producers(layer)] for layer in self.layers
        ]
        self.consumers: dict[int, list[int]] = {op: [] for op in range(-1, self.op_count)}
        for op, producers in enumerate(self.producers):
            for producer in producers:
                self.consumers[producer].append(op)
        self._number_steps()
        self.root = self._storages()
        self.members: dict[int, list[int]] = {}
        for op in range(-1, self.op_count):
            self.members.setdefault(self.root[op], []).append(op)

    def build(self) -> Schedule:
        rules = [
            *(self._activation(root) for root in self.members),
            *self._kept_for_backward(),
            *self._gradients(),
            *self._scratch(),
        ]
        return Schedule(
            table=self.table,
            forward_steps=self.op_count,
            step_count=self.step_count,
            weight_grad_step=tuple(self.dw_step),
            input_grad_step=tuple(self.dx_step),
            rules=tuple(rules),
            step_labels=tuple(self.labels),
        )

    def _number_steps(self) -> None:
        self.labels = [f"{layer.name} forward" for layer in self.layers] + ["loss"]
        self.dw_step = [0] * self.op_count
        self.dx_step = [0] * self.op_count
        step = self.op_count + 1
        for op in reversed(range(self.op_count)):
            layer = self.layers[op]
            self.dw_step[op] = step
            if layer.op in WEIGHTED_OPS:
                self.labels.append(f"{layer.name} weight gradient")
                step += 1
            self.dx_step[op] = step
            self.labels.append(f"{layer.name} backward")
            step += 1
        self.step_count = step

    def _storages(self) -> dict[int, int]:
        """Root operator of the memory each tensor lives in: in-place operators share."""
        root = {-1: -1}
        for op, layer in enumerate(self.layers):
            producer = self.producers[op][0]
            shares = RULES[layer.op].in_place and self.consumers[producer] == [op]
            root[op] = root[producer] if shares and producer >= 0 else op
        return root

    def _elements(self, op: int) -> int:
        if op < 0:
            return int(np.prod(self.graph.input_shape))
        return self.layers[op].out_elements

    def _name(self, op: int) -> str:
        return INPUT if op < 0 else self.layers[op].name

    def _readers(self, root: int) -> list[int]:
        return [op for member in self.members[root] for op in self.consumers[member]]

    def _trigger(self, op: int) -> frozenset[int]:
        return frozenset(np.flatnonzero(self.table.ancestors[op]).tolist())

    def _activation(self, root: int) -> BufferRule:
        """A tensor lives to its last forward reader; a trained reader keeps its share."""
        readers = self._readers(root)
        last_use = max([root, *self.members[root], *readers]) + 1
        if self.op_count - 1 in self.members[root]:
            last_use = self.op_count + 1
        keepers = sorted(
            (op for op in readers if op in self.weighted_of), key=lambda op: -self.dw_step[op]
        )
        stages = []
        saved: frozenset[int] = frozenset()
        for op in keepers:
            saved |= {self.weighted_of[op]}
            stages.append((Feature(saved=saved), self.dw_step[op] + 1))
        return BufferRule(
            label=self._name(self.members[root][-1]),
            form="activation",
            unit_count=self._elements(root),
            birth=max(root, 0),
            stages=(*stages, (ALWAYS, last_use)),
            saved=bool(keepers),
        )

    def _kept_for_backward(self) -> list[BufferRule]:
        """Masks of activations, normalised inputs and statistics of norms."""
        rules = []
        for op, layer in enumerate(self.layers):
            rule = RULES[layer.op]
            if not (rule.mask or rule.keeps_input):
                continue
            trigger = self._trigger(self.producers[op][0])
            if rule.keeps_input:
                trigger |= self._scale_site(op)
            if not trigger:
                continue
            stages = ((Feature(trigger=trigger), self.dx_step[op] + 1),)
            kept = [("mask" if rule.mask else "activation", layer.out_elements, True)]
            if rule.statistics:
                kept.append(("statistic", rule.statistics(layer), not rule.statistics_per_batch))
            rules += [
                BufferRule(
                    label=f"{layer.name} {'mask' if form == 'mask' else 'kept ' + form}",
                    form=form,
                    unit_count=count,
                    birth=op,
                    stages=stages,
                    per_sample=per_sample,
                    saved=True,
                )
                for form, count, per_sample in kept
            ]
        return rules

    def _scale_site(self, op: int) -> frozenset[int]:
        """The site of a norm's scale; a norm that belongs to no layer never trains."""
        layer_count = len(self.table.axes.names)
        owners = np.flatnonzero(self.table.norm_index == op)
        return frozenset((layer_count + owners).tolist())

    def _gradients(self) -> list[BufferRule]:
        """Gradients flow in place; a sum shares its gradient with its inputs."""
        group = self._gradient_groups()
        rules = []
        for roots in group.values():
            birth = min(self._gradient_birth(root) for root in roots)
            ends = [end for root in roots for op in self.members[root] for end in self._ends(op)]
            deaths: dict[int, frozenset[int]] = {}
            for trigger, death in ends:
                deaths[death] = deaths.get(death, frozenset()) | trigger
            stages = []
            reached: frozenset[int] = frozenset()
            for death in sorted(deaths, reverse=True):
                reached |= deaths[death]
                stages.append((Feature(trigger=reached), death))
            if stages:
                first = max(roots)
                rules.append(
                    BufferRule(
                        label=f"gradient of {self._name(self.members[first][-1])}",
                        form="gradient",
                        unit_count=self._elements(first),
                        birth=birth,
                        stages=tuple(stages),
                    )
                )
        return rules

    def _ends(self, op: int) -> list[tuple[frozenset[int], int]]:
        """Until when the gradient of an operator's output is read, and by which sites."""
        if op < 0:
            return []
        ends = [(self._trigger(op), self.dw_step[op] + 1)]
        if op in self.weighted_of:
            ends.append((self._trigger(self.producers[op][0]), self.dx_step[op] + 1))
        return [(trigger, death) for trigger, death in ends if trigger]

    def _gradient_birth(self, root: int) -> int:
        if self.op_count - 1 in self.members[root]:
            return self.op_count
        readers = [op for op in self._readers(root) if self.root[op] != root]
        return min((self.dx_step[op] for op in readers), default=self.op_count)

    def _scratch(self) -> list[BufferRule]:
        """Kernels' own buffers, each alive in one step."""
        rules = []
        for op, index in self.weighted_of.items():
            scratch = scratch_of(self.graph, self.layers[op], self.workspace)
            below = Feature(trigger=self._trigger(self.producers[op][0]))
            steps = (
                (scratch.forward_bytes, op, ALWAYS),
                (scratch.weight_grad_bytes, self.dw_step[op], Feature(weight=index)),
                (scratch.input_grad_bytes, self.dx_step[op], below),
            )
            rules += [
                BufferRule(
                    label=f"workspace of {self._name(op)}",
                    form="workspace",
                    unit_count=count,
                    birth=step,
                    stages=((feature, step + 1),),
                    per_sample=False,
                )
                for count, step, feature in steps
                if count and feature != Feature()
            ]
        return rules

    def _gradient_groups(self) -> dict[int, list[int]]:
        """Storages that share one gradient buffer, by the group's first storage.

        A sum lends its gradient to the earliest of its inputs if nothing later reads
        that, and to a branch that is used only here and finished before the earliest
        input's other readers add to the buffer.
        """
        group = {root: root for root in self.members}
        claimed: set[int] = set()
        for op in reversed(range(self.op_count)):
            if not RULES[self.layers[op].op].is_sum:
                continue
            target = group[self.root[op]]
            skip, *branches = sorted({self.root[producer] for producer in self.producers[op]})
            others = [reader for reader in self._readers(skip) if reader != op]
            last_other = max(others, default=-1)
            for root in (skip, *branches):
                if root in claimed or root < 0:
                    continue
                plain = len(self.members[root]) == 1 and self._readers(root) == [op]
                if last_other < op if root == skip else plain and last_other < root:
                    group = {key: target if v == group[root] else v for key, v in group.items()}
                    claimed.add(root)
        grouped: dict[int, list[int]] = {}
        for root, target in group.items():
            grouped.setdefault(target, []).append(root)
        return grouped
