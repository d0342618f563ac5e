"""What nodes of an ONNX file make of constants, by the reference evaluator of the `onnx` package.

A file is not trusted: only operators are computed whose result has a size that is known before,
none that holds a graph, draws numbers or reads anything.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explorer.accuracy.tracing.onnx_nodes import Node
from explorer.errors import SpecError, UnsupportedOpError

MOST_ELEMENTS = 10**8

Array = NDArray[Any]


def evaluated(node: Node, inputs: Sequence[Any]) -> list[Array]:
    """What a node makes of constants; SpecError where it cannot, or would be huge."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    if node.op not in _ELEMENTS:
        raise UnsupportedOpError(f"onnx: no counterpart for {node.op} in {node.name}")
    names = [f"in{at}" if one is not None else "" for at, one in enumerate(inputs)]
    options = {key: value for key, value in node.options.items() if value is not None}
    made = helper.make_node(node.op, names, [f"out{at}" for at in range(len(node.outputs))])
    made.attribute.extend(helper.make_attribute(key, value) for key, value in options.items())
    given = {name: np.asarray(one) for name, one in zip(names, inputs, strict=True) if name}
    try:
        elements = int(_ELEMENTS[node.op](node, list(given.values())))
        if elements <= MOST_ELEMENTS:
            results: Any = ReferenceEvaluator(made).run(None, given)
    except Exception as problem:
        reason = str(problem).strip().split("\n")[0] or type(problem).__name__
        raise SpecError(f"onnx: {node.op} {node.name} cannot be computed: {reason}") from problem
    if elements > MOST_ELEMENTS:
        raise SpecError.of(f"elements of {node.op} {node.name}", elements, f"to {MOST_ELEMENTS}")
    return [np.asarray(one) for one in results]


def _own(_node: Node, inputs: list[Array]) -> int:
    """Of what only chooses, orders or sums up."""
    return sum(one.size for one in inputs)


def _together(_node: Node, inputs: list[Array]) -> int:
    """Of what works element by element."""
    return prod(np.broadcast_shapes(*(one.shape for one in inputs)))


def _filled(_node: Node, inputs: list[Array]) -> int:
    return prod(max(1, int(size)) for size in inputs[-1].reshape(-1))


def _expanded(_node: Node, inputs: list[Array]) -> int:
    return prod(np.broadcast_shapes(inputs[0].shape, tuple(map(int, inputs[1]))))


def _tiled(node: Node, inputs: list[Array]) -> int:
    return inputs[0].size * _filled(node, inputs)


def _counted(_node: Node, inputs: list[Array]) -> int:
    start, stop, step = (float(one.reshape(())) for one in inputs)
    return int(abs((stop - start) / step)) + 1


def _gathered(node: Node, inputs: list[Array]) -> int:
    data, index = inputs
    return int(data.size // max(1, data.shape[node.options.get("axis", 0)]) * index.size)


def _padded(_node: Node, inputs: list[Array]) -> int:
    ends = [abs(int(end)) for end in inputs[1].reshape(-1)]
    data = inputs[0]
    return prod(size + sum(ends[at :: data.ndim]) for at, size in enumerate(data.shape))


def _product(_node: Node, inputs: list[Array]) -> int:
    one, other = inputs[:2]
    rows, columns = one.shape[:-1], other.shape[-1:] if other.ndim > 1 else ()
    return prod(np.broadcast_shapes(rows[:-1], other.shape[:-2])) * prod(rows[-1:]) * prod(columns)


_ELEMENTS: dict[str, Callable[[Node, list[Array]], int]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Mod", "Pow", "Min", "Max", "Where"), _together),
    **dict.fromkeys(("And", "Or", "Xor", "Not", "Equal", "Less", "LessOrEqual"), _together),
    **dict.fromkeys(("Greater", "GreaterOrEqual", "Abs", "Neg", "Sign", "Ceil"), _together),
    **dict.fromkeys(("Floor", "Round", "Sqrt", "Reciprocal", "Exp", "Log", "Erf"), _together),
    **dict.fromkeys(("Sin", "Cos", "Tanh", "Sigmoid", "Relu", "Clip", "Cast"), _together),
    **dict.fromkeys(("Identity", "Softmax", "CumSum", "IsNaN", "IsInf"), _own),
    **dict.fromkeys(("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"), _own),
    **dict.fromkeys(("Slice", "Split", "Concat", "Trilu", "Shape", "Size"), _own),
    **dict.fromkeys(("ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceMean"), _own),
    **dict.fromkeys(("ArgMax", "ArgMin", "NonZero", "GatherElements", "ScatterElements"), _own),
    **dict.fromkeys(("ScatterND", "Dropout"), _own),
    "ConstantOfShape": _filled,
    "Expand": _expanded,
    "Tile": _tiled,
    "Range": _counted,
    "Gather": _gathered,
    "Pad": _padded,
    "MatMul": _product,
}
