"""Nodes of an ONNX graph, with a few groups of them put together as the layer they came from.

An exporter writes a linear layer as a product and a sum, GELU by its error function, SiLU as
a product with a sigmoid, a group norm by an instance norm, and attention by its products. Each
group becomes one node of the name in brackets: [Linear], [Gelu], [Silu], [HardSwish],
[Mish], [GroupNorm], [Attention]; what does not fit exactly stays as it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator: tensors it reads ("" where one is left out) and makes, and attributes."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def other(self, tensor: str) -> str:
        """The other of two inputs."""
        return self.inputs[1] if self.inputs[0] == tensor else self.inputs[0]


class Grouping:
    """A list of nodes in which groups are replaced; `constants` by name, as `weights` are."""

    def __init__(self, nodes: list[Node], constants: Arrays, weights: Arrays, output: str) -> None:
        self.nodes, self.constants, self.weights = nodes, constants, weights
        self.made_by = {tensor: node for node in nodes for tensor in node.outputs}
        self.users: dict[str, list[Node]] = {}
        for node in nodes:
            for tensor in node.inputs:
                self.users.setdefault(tensor, []).append(node)
        self.output = output
        self.gone: set[int] = set()
        self.put: dict[int, Node] = {}

    def grouped(self) -> list[Node]:
        """The nodes, groups in the place of their last node."""
        for op, find in _FINDERS:
            for node in self.nodes:
                if node.op != op or id(node) in self.gone:
                    continue
                found = find(self, node)
                if found is not None and not self.gone & {id(one) for one in found[0]}:
                    members, made = found
                    self.gone |= {id(one) for one in members}
                    self.put[id(members[-1])] = made
        kept = (
            self.put.get(id(node), None if id(node) in self.gone else node) for node in self.nodes
        )
        return [node for node in kept if node is not None]

    def only_user(self, node: Node, *ops: str) -> Node | None:
        """The one node that reads a node's output, if it is one of these operators."""
        users = self.users.get(node.outputs[0], [])
        alone = len(users) == 1 and node.outputs[0] != self.output
        return users[0] if alone and users[0].op in ops and len(node.outputs) == 1 else None

    def number(self, tensor: str) -> float | None:
        """A constant of one element."""
        value = self.constants.get(tensor)
        return float(value.reshape(())) if value is not None and value.size == 1 else None

    def known(self, tensor: str) -> NDArray[Any] | None:
        """A constant, or an initializer."""
        return self.constants.get(tensor, self.weights.get(tensor))

    def root(self, tensor: str) -> str:
        """What a tensor is a reshape of."""
        while tensor in self.made_by and self.made_by[tensor].op in ("Unsqueeze", "Reshape"):
            tensor = self.made_by[tensor].inputs[0]
        return tensor

    def scaled(self, node: Node) -> tuple[str, float] | None:
        """What a product with or quotient by one number is of, and its factor."""
        if node.op not in ("Mul", "Div"):
            return None
        for at, tensor in enumerate(node.inputs):
            number = self.number(tensor)
            if number and (node.op == "Mul" or at == 1):
                return node.other(tensor), number if node.op == "Mul" else 1 / number
        return None


Found = tuple[list[Node], Node] | None


def _linear(graph: Grouping, node: Node) -> Found:
    weight = graph.weights.get(node.inputs[1])
    total = graph.only_user(node, "Add")
    if weight is None or weight.ndim != 2 or total is None:
        return None
    bias = total.other(node.outputs[0])
    if bias not in graph.weights or graph.weights[bias].shape != weight.shape[1:]:
        return None
    return [node, total], _as(node, "Linear", (*node.inputs, bias), total)


def _gelu(graph: Grouping, erf: Node) -> Found:
    first = graph.made_by.get(erf.inputs[0])
    scaled = graph.scaled(first) if first is not None else None
    plus = graph.only_user(erf, "Add")
    if first is None or scaled is None or plus is None or graph.only_user(first, "Erf") is None:
        return None
    source, factor = scaled
    product = graph.only_user(plus, "Mul")
    is_half = abs(factor - sqrt(0.5)) < 1e-6 and graph.number(plus.other(erf.outputs[0])) == 1
    if product is None or not is_half:
        return None
    partner = product.other(plus.outputs[0])
    if partner == source:
        last = graph.only_user(product, "Mul")
        if last is not None and graph.scaled(last) == (product.outputs[0], 0.5):
            return [first, erf, plus, product, last], _as(erf, "Gelu", (source,), last)
    half = graph.made_by.get(partner)
    if half is not None and graph.scaled(half) == (source, 0.5) and graph.only_user(half, "Mul"):
        return [first, erf, plus, half, product], _as(erf, "Gelu", (source,), product)
    return None


def _gated(op: str) -> Callable[[Grouping, Node], Found]:
    def find(graph: Grouping, gate: Node) -> Found:
        product = graph.only_user(gate, "Mul")
        if product is None or product.other(gate.outputs[0]) != gate.inputs[0]:
            return None
        if op == "HardSwish" and not is_usual_hardsigmoid(gate):
            return None
        return [gate, product], _as(gate, op, gate.inputs[:1], product)

    return find


def _mish(graph: Grouping, softplus: Node) -> Found:
    gate = graph.only_user(softplus, "Tanh")
    product = None if gate is None else graph.only_user(gate, "Mul")
    if gate is None or product is None or product.other(gate.outputs[0]) != softplus.inputs[0]:
        return None
    return [softplus, gate, product], _as(softplus, "Mish", softplus.inputs[:1], product)


def is_usual_hardsigmoid(node: Node) -> bool:
    """Whether a hard sigmoid is torch's: x / 6 + 1/2."""
    slope, middle = node.options.get("alpha", 0.2), node.options.get("beta", 0.5)
    return bool(abs(slope - 1 / 6) < 1e-6 and middle == 0.5)


def _groupnorm(graph: Grouping, norm: Node) -> Found:
    """Reshape to groups, instance norm of nothing, reshape back, scale and offset."""
    front, back = graph.made_by.get(norm.inputs[0]), graph.only_user(norm, "Reshape")
    if front is None or front.op != "Reshape" or back is None:
        return None
    scale = graph.only_user(back, "Mul")
    total = None if scale is None else graph.only_user(scale, "Add")
    plain = [graph.known(name) for name in norm.inputs[1:]]
    if scale is None or total is None or any(one is None for one in plain):
        return None
    ones, zeros = plain
    if (ones != 1).any() or (zeros != 0).any():  # type: ignore[union-attr]
        return None
    weight, bias = scale.other(back.outputs[0]), total.other(scale.outputs[0])
    inputs = (front.inputs[0], graph.root(weight), graph.root(bias))
    if not {*inputs[1:]} <= graph.weights.keys():
        return None
    made = _as(norm, "GroupNorm", inputs, total)
    options = {**made.options, "num_groups": len(ones)}  # type: ignore[arg-type]
    group = [front, norm, back, scale, total]
    return group, Node(
        op=made.op, name=made.name, inputs=inputs, outputs=made.outputs, options=options
    )


def _attention(graph: Grouping, softmax: Node) -> Found:
    """Softmax of a product, which may be scaled and have a constant added, times values."""
    last = graph.only_user(softmax, "MatMul")
    if last is None or last.inputs[0] != softmax.outputs[0] or softmax.options.get("axis", -1) == 0:
        return None
    members, factor, mask = [softmax, last], 1.0, ""
    node = graph.made_by.get(softmax.inputs[0])
    while node is not None and node.op != "MatMul":
        if graph.only_user(node, members[0].op) is None:
            return None
        if (scaled := graph.scaled(node)) is not None:
            source, times = scaled
            factor *= times
            if mask:
                return None
        elif node.op == "Add" and not mask:
            known = [name for name in node.inputs if name in graph.constants]
            if len(known) != 1:
                return None
            (mask,) = known
            source = node.other(mask)
        else:
            return None
        members.insert(0, node)
        node = graph.made_by.get(source)
    if node is None or graph.only_user(node, members[0].op) is None:
        return None
    if any(name in graph.weights for name in (*node.inputs, *last.inputs)):
        return None
    inputs = (*node.inputs, last.inputs[1], *((mask,) if mask else ()))
    made = Node(
        op="[Attention]",
        name=softmax.name,
        inputs=inputs,
        outputs=last.outputs,
        options={"scale": factor, "axis": softmax.options.get("axis", -1)},
    )
    return [node, *members], made


def _as(node: Node, op: str, inputs: tuple[str, ...], last: Node) -> Node:
    return Node(
        op=f"[{op}]", name=node.name, inputs=inputs, outputs=last.outputs, options=node.options
    )


_FINDERS: tuple[tuple[str, Callable[[Grouping, Node], Found]], ...] = (
    ("MatMul", _linear),
    ("Erf", _gelu),
    ("Sigmoid", _gated("Silu")),
    ("HardSigmoid", _gated("HardSwish")),
    ("Softplus", _mish),
    ("InstanceNormalization", _groupnorm),
    ("Softmax", _attention),
)
