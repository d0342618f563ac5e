"""GRU and LSTM of ONNX as torch's own: positions first, gates in another order."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explorer.accuracy.tracing.onnx_nodes import Node
from explorer.errors import SpecError

ORDER = {"GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}  # torch's gates by their place in a file
RECURRENT = tuple(ORDER)
DEFAULTS: dict[str, Any] = {"layout": 0, "input_forget": 0, "clip": None, "activations": None}


def recurrent_of(owner: Any, node: Node) -> nn.Module:
    """One recurrent layer of a file with its weights; `owner` has them by name."""
    inputs = (*node.inputs, "", "", "", "", "")[:8]
    direction = node.options.get("direction", "forward")
    odd = [name for name, usual in DEFAULTS.items() if node.options.get(name, usual) != usual]
    if node.op == "GRU" and not node.options.get("linear_before_reset", 0):
        odd.append("linear_before_reset 0")
    if direction == "reverse" or inputs[4] or inputs[7]:
        odd.append("only backwards, with lengths or with peepholes")
    if odd:
        raise SpecError(f"onnx: {node.op} {node.name} with {', '.join(odd)} is not known")
    weights, states = (np.asarray(owner.array(name), np.float32) for name in inputs[1:3])
    directions, rows, features = weights.shape
    hidden, order = states.shape[2], list(ORDER[node.op])
    if rows != hidden * len(order) or directions != 1 + (direction == "bidirectional"):
        raise SpecError.of(f"onnx: weights of {node.op} {node.name}", weights.shape, "its gates")
    kind = nn.GRU if node.op == "GRU" else nn.LSTM
    both = directions == 2
    made = kind(features, hidden, bias=bool(inputs[3]), bidirectional=both)
    parts = {"weight_ih": weights, "weight_hh": states}
    if inputs[3]:
        biases = np.asarray(owner.array(inputs[3]), np.float32).reshape(directions, 2, rows)
        parts |= {"bias_ih": biases[:, 0], "bias_hh": biases[:, 1]}
    for name, values in parts.items():
        for at, end in zip(range(directions), ("", "_reverse"), strict=False):
            gates = values[at].reshape(len(order), hidden, *values.shape[2:])[order]
            parameter = made.get_parameter(f"{name}_l0{end}")
            parameter.data = torch.from_numpy(gates.reshape(values[at].shape).copy())
    return made


def recurrent_states(module: nn.Module, node: Node, values: Tensor, starts: list[Any]) -> Any:
    """States of every position (T, D, N, H), and those at the end; they start at zero."""
    if any(np.asarray(one).any() for one in starts):
        raise SpecError(f"onnx: {node.op} {node.name} that starts elsewhere than at 0 is not known")
    found, last = module(values)
    directions = 1 + module.bidirectional  # type: ignore[operator]
    length, samples, width = found.shape
    found = found.reshape(length, samples, directions, width // directions)
    return found.permute(0, 2, 1, 3), *(last if isinstance(last, tuple) else (last,))
