"""The int8 networks of tiny-training as integers compute them, in plain torch; for tests.

From the conventions beside the converted files: codes in -128..127, products summed exactly
(float64 holds them), scaled by input scale times weight scale over output scale, rounded,
shifted by the output's zero and clamped. ReLU6 is that clamp.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def int8_logits(folder: Path, name: str, images: Tensor) -> Tensor:
    """Logits [N, 1000] of images [N, 3, 128, 128] in -1..1."""
    graph = json.loads((folder / f"{name}.graph.json").read_text("utf-8"))
    scales: dict[str, tuple[float, int]] = {"input": (2 / 255, 0)}
    live = {"input": torch.clamp(torch.round(images.double() * 255 / 2), -128, 127)}
    with np.load(folder / f"{name}.int8.npz", allow_pickle=False) as weights:
        for op in graph["ops"]:
            code, scale = _run(op, live, scales, weights)
            live[op["output"]], scales[op["output"]] = code, scale
            last = op["output"]
    scale, zero = scales[last]
    return ((live[last] - zero) * scale).flatten(1)


def _run(op, live, scales, weights):
    if op["op"] == "global_avgpool":
        name = op["input"]
        return torch.round(live[name].mean((2, 3), keepdim=True)), scales[name]
    out = op["y_scale"], op["y_zero"]
    if op["op"] == "add":
        total = sum((live[n] - scales[n][1]) * scales[n][0] for n in op["input"])
        return _code(total / out[0], out[1]), out
    stem = op["id"]
    weight, bias, w_scales = (
        torch.from_numpy(weights[f"{stem}.{part}"].astype(np.float64))
        for part in ("weight", "bias", "w_scales")
    )
    total = functional.conv2d(
        live[op["input"]] - op["x_zero"],
        weight,
        bias,
        stride=op["stride"],
        padding=op["padding"],
        groups=op["groups"],
    )
    return _code(total * (op["x_scale"] * w_scales / out[0])[:, None, None], out[1]), out


def _code(value: Tensor, zero: int) -> Tensor:
    return torch.clamp(torch.round(value) + zero, -128, 127)
