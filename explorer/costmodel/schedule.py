"""The schedule of one training step and every buffer in it, for one graph.

Steps [T]: one per operator forward, one for the loss, then backward in reverse order, where a
weighted layer, or a convolution of a shared kernel, takes two: first dW (its saved input may
go), then dX with the update. A block that runs again (recompute.py) takes its steps before
its backward. What a buffer is, and what its size depends on, is in buffers.py.
"""

from functools import lru_cache

import numpy as np

from explorer.costmodel.buffers import ALWAYS, BufferRule, Feature, Schedule, residents, stacked
from explorer.costmodel.ops import RULES, Holds
from explorer.costmodel.recompute import Segment, segments_of
from explorer.costmodel.tables import layer_table
from explorer.costmodel.workspace import scratch_of
from explorer.graph import INPUT, WEIGHTED_OPS, ModelGraph
from explorer.layer import CONVOLVE, SOURCES

TWO_STEPS = (*WEIGHTED_OPS, CONVOLVE)


@lru_cache(maxsize=32)
def schedule_of(graph: ModelGraph, workspace: str = "none", recompute: str = "none") -> Schedule:
    """Build the schedule of a graph; raises UnsupportedOpError as `layer_table` does."""
    return _Builder(graph, workspace, recompute).build()


class _Builder:
    """Walks the graph once; every method fills one kind of buffer."""

    def __init__(self, graph: ModelGraph, workspace: str, recompute: str) -> None:
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
        self.root = self._storages()
        blocks = segments_of(graph, self.producers, self.root) if recompute == "blocks" else ()
        blocks = tuple(one for one in blocks if self._need(one).trigger)
        self.segment_of = {op: one for one in blocks for op in one.ops}
        self._number_steps()
        self.members: dict[int, list[int]] = {}
        for op in range(-1, self.op_count):
            self.members.setdefault(self.root[op], []).append(op)

    def build(self) -> Schedule:
        rules = [
            *(self._activation(root) for root in self.members),
            *(self._again(root) for root in self.members if root in self.again_step),
            *self._kept_for_backward(),
            *residents(self.graph, self.step_count),
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
            again=tuple((self._need(one), one.again) for one in self._segments()),
            step_labels=tuple(self.labels),
        )

    def _number_steps(self) -> None:
        self.labels = [f"{layer.name} forward" for layer in self.layers] + ["loss"]
        self.dw_step = [0] * self.op_count
        self.dx_step = [0] * self.op_count
        self.again_step: dict[int, int] = {}
        step = self.op_count + 1
        for op in reversed(range(self.op_count)):
            layer = self.layers[op]
            segment = self.segment_of.get(op)
            if segment is not None and op == segment.ops[-1]:
                for repeated in segment.again:
                    self.again_step[repeated] = step
                    self.labels.append(f"{self.layers[repeated].name} again")
                    step += 1
            self.dw_step[op] = step
            if layer.op in TWO_STEPS:
                self.labels.append(f"{layer.name} weight gradient")
                step += 1
            self.dx_step[op] = step
            self.labels.append(f"{layer.name} backward")
            step += 1
        self.step_count = step

    def _segments(self) -> list[Segment]:
        return list(dict.fromkeys(self.segment_of.values()))

    def _need(self, segment: Segment) -> Feature:
        """When a block runs again: something in it would be kept for backward."""
        sites: frozenset[int] = frozenset()
        for op in segment.ops:
            rule = RULES[self.layers[op].op]
            if rule.kept_beside:
                sites |= self._below(op)
            if rule.keeps_input:
                sites |= self._scale_site(op)
            if op in self.weighted_of and {*self.producers[op]} & {*segment.ops}:
                sites |= self._weight_site(op)
        return Feature(trigger=sites)

    def _weight_site(self, op: int) -> frozenset[int]:
        return frozenset({3 * len(self.table.axes.names) + self.weighted_of[op]})

    def _storages(self) -> dict[int, int]:
        """Root operator of the memory each tensor lives in: in-place operators share."""
        root = {-1: -1}
        for op, layer in enumerate(self.layers):
            producer = self.producers[op][0] if self.producers[op] else op
            rule = RULES[layer.op]
            writes = rule.in_place and producer >= 0 and self._may_overwrite(op, producer)
            root[op] = root[producer] if rule.view or writes else op
        return root

    def _may_overwrite(self, op: int, tensor: int) -> bool:
        """Whether an operator alone reads a tensor and what that is a view of."""
        while tensor >= 0 and set(self.consumers[tensor]) == {op}:
            rule = RULES[self.layers[tensor].op]
            if rule.holds == Holds.OUTPUT or not rule.view:
                return rule.holds != Holds.OUTPUT and self.layers[tensor].op not in SOURCES
            op, tensor = tensor, self.producers[tensor][0]
        return False

    def _elements(self, op: int) -> int:
        if op < 0:
            return int(np.prod(self.graph.input_shape))
        if self.layers[op].op in SOURCES:
            return 0  # lives with the weights
        return self.layers[op].out_elements

    def _name(self, op: int) -> str:
        return INPUT if op < 0 else self.layers[op].name

    def _readers(self, root: int) -> list[int]:
        return [op for member in self.members[root] for op in self.consumers[member]]

    def _trigger(self, op: int) -> frozenset[int]:
        return frozenset(np.flatnonzero(self.table.ancestors[op]).tolist())

    def _below(self, op: int) -> frozenset[int]:
        """Sites at or before the inputs that an operator passes gradients on to."""
        passed = self.producers[op][: 1 if self.layers[op].op == CONVOLVE else None]
        return frozenset[int]().union(*map(self._trigger, passed))

    def _activation(self, root: int) -> BufferRule:
        """A tensor lives to its last forward reader; a trained reader keeps its share."""
        readers = self._readers(root)
        last_use = max([root, *self.members[root], *readers]) + 1
        if self.op_count - 1 in self.members[root]:
            last_use = self.op_count + 1
        own = self.segment_of.get(root)
        holds = self._holds(root, [op for op in readers if own is None or op not in own.ops])
        for segment in self._segments():
            repeated = [self.again_step[op] for op in readers if op in segment.again]
            if segment != own and repeated:
                holds.append((self._need(segment), max(repeated) + 1))
        return BufferRule(
            label=self._name(self.members[root][-1]),
            form="activation",
            unit_count=self._elements(root),
            birth=max(root, 0),
            stages=(*stacked(holds), (ALWAYS, last_use)),
            saved=bool(holds),
        )

    def _again(self, root: int) -> BufferRule:
        """A tensor made again lives to its last reader there; a trained reader keeps its share."""
        segment = self.segment_of[root]
        readers = self._readers(root)
        users = [op for op in (*self.members[root], *readers) if op in segment.again]
        last_use = max(self.again_step[op] for op in users) + 1
        holds = self._holds(root, [op for op in readers if op in segment.ops])
        holds = [(feature, death) for feature, death in holds if death > self.again_step[root]]
        return BufferRule(
            label=f"{self._name(root)} again",
            form="activation",
            unit_count=self._elements(root),
            birth=self.again_step[root],
            stages=stacked([*holds, (self._need(segment), last_use)]),
        )

    def _holds(self, root: int, readers: list[int]) -> list[tuple[Feature, int]]:
        """What backward reads of a tensor again, and until which step."""
        found = []
        for op in readers:
            holds = RULES[self.layers[op].op].holds
            if holds is Holds.SHARE and not self._reads_slice(op):
                share = Feature(saved=frozenset({self.weighted_of[op]}))
                found.append((share, self.dw_step[op] + 1))
            elif holds in (Holds.INPUTS, Holds.OPERANDS):
                wanted = self.producers[op]
                if holds is Holds.OPERANDS:
                    wanted = wanted[:2]
                    mine = [at for at, one in enumerate(wanted) if self.root[one] == root]
                    wanted = [one for at, one in enumerate(wanted) if mine != [at]]
                sites = frozenset[int]().union(*map(self._trigger, wanted))
                last = self.dw_step if holds is Holds.OPERANDS else self.dx_step
                found.append((Feature(trigger=sites), last[op] + 1))
        found += [
            (Feature(trigger=self._below(op)), self.dx_step[op] + 1)
            for op in self.members[root]
            if op >= 0 and RULES[self.layers[op].op].holds is Holds.OUTPUT
        ]
        return [(feature, death) for feature, death in found if feature != Feature()]

    def _kept_for_backward(self) -> list[BufferRule]:
        """Masks of activations, normalised inputs and statistics of norms."""
        rules = []
        for op, layer in enumerate(self.layers):
            rule = RULES[layer.op]
            trigger = self._below(op)
            if rule.keeps_input:
                trigger |= self._scale_site(op)
            if rule.holds is Holds.SHARE:
                trigger |= self._weight_site(op)
                rules += self._kept_slice(op)
            passed = ((Feature(trigger=trigger), self.dx_step[op] + 1),)
            kept = []
            if rule.mask_bits:
                bits = layer.out_elements * rule.mask_bits(self.graph, layer)
                kept.append(("mask", bits, True, passed))
            if rule.keeps_input:
                kept.append(("activation", layer.out_elements, True, passed))
            if rule.keeps_extra:
                kept.append(("activation", rule.keeps_extra(self.graph, layer), True, passed))
            if rule.keeps_trained:
                trained = ((Feature(trigger=self._weight_site(op)), self.dw_step[op] + 1),)
                kept.append(("activation", rule.keeps_trained(self.graph, layer), True, trained))
            if rule.statistics:
                count = rule.statistics(self.graph, layer)
                kept.append(("statistic", count, not rule.statistics_per_batch, passed))
            rules += [
                BufferRule(
                    label=f"{layer.name} {'mask' if form == 'mask' else 'kept ' + form}",
                    form=form,
                    unit_count=count,
                    birth=self.again_step.get(op, op),
                    stages=stages,
                    per_sample=per_sample,
                    saved=op not in self.again_step,
                )
                for form, count, per_sample, stages in kept
                if trigger
            ]
        return rules

    def _reads_slice(self, op: int) -> bool:
        """Whether a layer reads a part of what its input is a view of."""
        return any(
            self._elements(tensor) != self._elements(self.root[tensor])
            for tensor in self.producers[op]
        )

    def _kept_slice(self, op: int) -> list[BufferRule]:
        """A copy of the part that a layer reads, in place of the whole."""
        if not self._reads_slice(op):
            return []
        share = Feature(saved=frozenset({self.weighted_of[op]}))
        return [
            BufferRule(
                label=f"{self._name(op)} kept input",
                form="activation",
                unit_count=self._elements(self.producers[op][0]),
                birth=op,
                stages=((share, self.dw_step[op] + 1),),
                saved=True,
            )
        ]

    def _scale_site(self, op: int) -> frozenset[int]:
        """The site of a norm's scale; a norm of an image that belongs to no layer never trains."""
        if op in self.weighted_of:
            return self._weight_site(op)
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
        if self.layers[op].op in TWO_STEPS:
            ends.append((self._below(op), self.dx_step[op] + 1))
        return [(trigger, death) for trigger, death in ends if trigger]

    def _gradient_birth(self, root: int) -> int:
        if self.op_count - 1 in self.members[root]:
            return self.op_count
        readers = [op for op in self._readers(root) if self.root[op] != root]
        return min((self.dx_step[op] for op in readers), default=self.op_count)

    def _scratch(self) -> list[BufferRule]:
        """Kernels' own buffers, each alive in one step."""
        rules = []
        for op, layer in enumerate(self.layers):
            if layer.op not in TWO_STEPS or not self.producers[op]:
                continue
            scratch = scratch_of(self.graph, layer, self.workspace)
            below = Feature(trigger=self._below(op))
            is_own = op in self.weighted_of
            own = self._weight_site(op) if is_own else self._trigger(self.producers[op][1])
            steps = [
                (scratch.forward_bytes, op, ALWAYS),
                (scratch.weight_grad_bytes, self.dw_step[op], Feature(trigger=own)),
                (scratch.input_grad_bytes, self.dx_step[op], below),
            ]
            if op in self.again_step:
                need = self._need(self.segment_of[op])
                steps.append((scratch.forward_bytes, self.again_step[op], need))
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
                if root in claimed or root < 0 or self._elements(root) != self._elements(op):
                    continue
                plain = len(self.members[root]) == 1 and self._readers(root) == [op]
                if last_other < op if root == skip else plain and last_other < root:
                    group = {key: target if v == group[root] else v for key, v in group.items()}
                    claimed.add(root)
        grouped: dict[int, list[int]] = {}
        for root, target in group.items():
            grouped.setdefault(target, []).append(root)
        return grouped
