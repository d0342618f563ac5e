"""An ONNX graph as a torch module, which is then traced like any other.

Initializers that an operator takes as weights belong to a submodule named by them, or by the
node's scope; other float initializers of more than one element are parameters, too. What
depends on no input is computed by the reference evaluator of the `onnx` package. Sizes that a
file fixes for its own batch are taken for the batch that comes.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explorer.accuracy.tracing.onnx_constants import evaluated
from explorer.accuracy.tracing.onnx_nodes import Node
from explorer.accuracy.tracing.onnx_ops import HANDLERS, has_channel_slopes, pads_of, refused
from explorer.accuracy.tracing.onnx_recurrent import RECURRENT, recurrent_of, recurrent_states
from explorer.errors import SpecError

EPSILON = 1e-5

Array = NDArray[Any]


class OnnxModule(nn.Module):
    """Runs the nodes of a file of one input and one output.

    `turned` weights are the transposes of others. `batch` is the file's own batch, None where
    it takes any.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        weights: Mapping[str, Array],
        constants: Mapping[str, Array],
        turned: Mapping[str, str],
        ends: tuple[str, str],
        batch: int | None,
    ) -> None:
        super().__init__()
        self.nodes, self.constants, self.ends, self.batch = nodes, dict(constants), ends, batch
        self._weights, self._turned = weights, turned
        self._shared: dict[str, nn.Parameter] = {}
        self.paths: dict[str, str] = {}
        for node in nodes:
            make = MAKERS.get(node.op)
            made = None if make is None else make(self, node)
            if made is not None:
                self.paths[node.outputs[0]] = self._place(self._path(node), made)
        self.free: dict[str, str] = {}
        for node in nodes:
            for name in node.inputs if node.outputs[0] not in self.paths else ():
                if name in weights and name not in self.free:
                    self.free[name] = self._place(_plain(name), self.parameter(name))

    def forward(self, batch: Tensor) -> Tensor:
        """The output of a batch."""
        values: dict[str, Any] = dict(self.constants)
        values |= {name: self.get_parameter(path) for name, path in self.free.items()}
        values[self.ends[0]] = batch
        ratio = None if self.batch is None else (len(batch), self.batch)
        for node in self.nodes:
            path = self.paths.get(node.outputs[0])
            if path is not None and node.op in RECURRENT:
                starts = [values[name] for name in node.inputs[4:] if name]
                made: Any = recurrent_states(
                    self.get_submodule(path), node, values[_data(node)], starts
                )
            elif path is not None:
                made = _called(self.get_submodule(path), node, values[_data(node)])
            else:
                inputs = [values[name] if name else None for name in node.inputs]
                made = self._computed(node, inputs, ratio)
            made = made if isinstance(made, tuple | list) else (made,)
            values.update(zip(node.outputs, made, strict=False))
        output: Tensor = values[self.ends[1]]
        return output

    def _computed(self, node: Node, inputs: list[Any], ratio: tuple[int, int] | None) -> Any:
        if node.op == "Shape":
            sizes = np.array(inputs[0].shape, np.int64)
            return sizes[node.options.get("start", 0) : node.options.get("end")]
        if not any(isinstance(one, Tensor) for one in inputs):
            return evaluated(node, inputs)
        if any(name in self.constants for name in node.inputs[1:2]) and node.op in SIZED:
            inputs[1] = _resized(node.op, inputs[0], inputs[1], ratio)
        return HANDLERS[node.op](node, *inputs)

    def array(self, name: str) -> Array:
        """An initializer that is a weight; SpecError where it is something computed."""
        found = self._weights.get(name, self.constants.get(name))
        if found is None:
            raise SpecError.of("weight", name, "an initializer of the file")
        return found

    def parameter(self, name: str, turned: bool = False) -> nn.Parameter:
        """An initializer as a parameter, the same one for all who read it."""
        if name in self._turned:
            name, turned = self._turned[name], not turned
        key = f"{name} turned" if turned else name
        if key not in self._shared:
            value = torch.from_numpy(np.array(self.array(name), np.float32))
            self._shared[key] = nn.Parameter(value.T.contiguous() if turned else value)
        return self._shared[key]

    def _path(self, node: Node) -> str:
        """Of a submodule: what its weight or bias is called by, else the node's scope."""
        for name in node.inputs[:3]:
            stem, _, leaf = name.rpartition(".")
            if stem and leaf in ("weight", "bias") and name in self._weights:
                return _plain(stem)
        return _plain(_scope(node.name) or node.name or node.outputs[0])

    def _place(self, path: str, part: nn.Module | nn.Parameter) -> str:
        """Put a module or parameter at a path, or beside what is there; where it is."""
        free, count = path, 1
        while _holds(self, free):
            count += 1
            free = f"{path}_{count}"
        *steps, leaf = free.split(".")
        parent: nn.Module = self
        for step in steps:
            if step not in dict(parent.named_children()):
                parent.add_module(step, nn.Module())
            parent = parent.get_submodule(step)
        if isinstance(part, nn.Parameter):
            parent.register_parameter(leaf, part)
        else:
            for inner, child in (
                dict(parent.named_children()).get(leaf, nn.Module()).named_children()
            ):
                part.add_module(inner, child)
            parent.add_module(leaf, part)
        return free


def _scope(name: str) -> str:
    """Of a node; torch names each element of a sequence by the sequence, too."""
    path: list[str] = []
    for part in name.strip("/").split("/")[:-1]:
        own = part.removeprefix(f"{path[-1]}.") if path else part
        path += own.split(".") if own != part else [part]
    return ".".join(path)


def _holds(root: nn.Module, path: str) -> bool:
    """Whether a name is taken by more than a holder of submodules."""
    *steps, leaf = path.split(".")
    parent = root
    for step in steps:
        children = dict(parent.named_children())
        if step not in children:
            return step in dir(parent)
        parent = children[step]
    child = dict(parent.named_children()).get(leaf)
    return type(child) is not nn.Module if child is not None else leaf in dir(parent)


def _plain(name: str) -> str:
    """A name as a path of submodules."""
    parts = [re.sub(r"\W", "_", part) for part in name.split(".")]
    return ".".join(part for part in parts if part) or "part"


def _resized(op: str, data: Any, sizes: Array, ratio: tuple[int, int] | None) -> Array:
    """Sizes fixed for the file's batch, for this one: samples come first."""
    if ratio is None or ratio[0] == ratio[1] or not isinstance(data, Tensor):
        return sizes
    now, own = ratio
    wanted = [int(size) for size in sizes]
    fits = op == "Reshape" and -1 not in wanted and prod(wanted) == data.numel()
    if fits or not wanted or wanted[0] < 1 or wanted[0] % own:
        return sizes
    wanted[0] = wanted[0] // own * now
    if op == "Reshape" and data.numel() % prod(size for size in wanted if size > 0):
        return sizes
    return np.array(wanted, np.int64)


SIZED = ("Reshape", "Expand")


# modules of weighted operators


def _set(module: nn.Module, **parts: nn.Parameter | None) -> nn.Module:
    for name, part in parts.items():
        module.register_parameter(name, part)
    return module


def _optional(owner: OnnxModule, node: Node, at: int) -> nn.Parameter | None:
    return owner.parameter(node.inputs[at]) if len(node.inputs) > at and node.inputs[at] else None


def _conv(owner: OnnxModule, node: Node) -> nn.Module:
    weight, options = owner.parameter(node.inputs[1]), node.options
    count, groups = weight.ndim - 2, options.get("group", 1)
    kinds: dict[tuple[str, int], Any] = {
        ("Conv", 1): nn.Conv1d,
        ("Conv", 2): nn.Conv2d,
        ("ConvTranspose", 1): nn.ConvTranspose1d,
        ("ConvTranspose", 2): nn.ConvTranspose2d,
    }
    if (node.op, count) not in kinds or options.get("output_shape"):
        raise SpecError(f"onnx: {node.op} {node.name} of {count} dimensions is not known")
    rows, columns = weight.shape[0], weight.shape[1] * groups
    rest = {"stride": options.get("strides", [1] * count), "dilation": options.get("dilations")}
    rest["dilation"] = rest["dilation"] or [1] * count
    channels = (columns, rows)
    if node.op == "ConvTranspose":
        rest["output_padding"] = options.get("output_padding", [0] * count)
        channels = (rows, columns)
    made = kinds[node.op, count](
        *channels,
        tuple(weight.shape[2:]),
        groups=groups,
        **{name: tuple(value) for name, value in rest.items()},
    )
    return _set(made, weight=weight, bias=_optional(owner, node, 2))


def _linear(owner: OnnxModule, node: Node) -> nn.Module | None:
    name, options = node.inputs[1], node.options
    if node.op == "MatMul" and (name not in owner._weights or owner.array(name).ndim != 2):
        return None
    if node.op == "Gemm" and (
        options.get("alpha", 1.0) != 1 or options.get("beta", 1.0) != 1 or options.get("transA", 0)
    ):
        raise SpecError(f"onnx: Gemm {node.name} with alpha, beta or transA is not known")
    turned = not options.get("transB", 0)
    weight = owner.parameter(name, turned)
    bias = _optional(owner, node, 2)
    if bias is not None and bias.shape != weight.shape[:1]:
        raise SpecError.of(f"onnx: bias of {node.op} {node.name}", tuple(bias.shape), "one a row")
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    return _set(made, weight=weight, bias=bias)


def _batchnorm(owner: OnnxModule, node: Node) -> nn.Module:
    weight = owner.parameter(node.inputs[1])
    made = _AnyBatchNorm(len(weight), eps=node.options.get("epsilon", EPSILON))
    for part, name in zip(("running_mean", "running_var"), node.inputs[3:5], strict=True):
        value = torch.from_numpy(np.array(owner.array(name), np.float32))
        setattr(made, part, value)
    return _set(made, weight=weight, bias=owner.parameter(node.inputs[2]))


class _AnyBatchNorm(nn.BatchNorm2d):
    """Of signals and images alike."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of positions."""


def _groupnorm(owner: OnnxModule, node: Node) -> nn.Module:
    weight, bias = (nn.Parameter(owner.parameter(one).flatten()) for one in node.inputs[1:3])
    options = node.options
    made = nn.GroupNorm(options["num_groups"], len(weight), options.get("epsilon", EPSILON))
    return _set(made, weight=weight, bias=bias)


def _layernorm(owner: OnnxModule, node: Node) -> nn.Module:
    weight = owner.parameter(node.inputs[1])
    if weight.ndim != 1:
        raise SpecError.of(f"onnx: scale of {node.name}", tuple(weight.shape), "of the last axis")
    made = nn.LayerNorm(len(weight), node.options.get("epsilon", EPSILON))
    return _set(made, weight=weight, bias=_optional(owner, node, 2))


def _instancenorm(owner: OnnxModule, node: Node) -> nn.Module | None:
    if not {*node.inputs[1:3]} <= owner._weights.keys():
        return None
    weight, bias = (owner.parameter(one) for one in node.inputs[1:3])
    made = _AnyInstanceNorm(len(weight), node.options.get("epsilon", EPSILON), affine=True)
    return _set(made, weight=weight, bias=bias)


class _AnyInstanceNorm(nn.InstanceNorm2d):
    """Of signals and images alike."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise, scale and offset."""
        return nn.functional.instance_norm(input, None, None, self.weight, self.bias, eps=self.eps)


def _prelu(owner: OnnxModule, node: Node) -> nn.Module | None:
    known = {**owner.constants, **owner._weights}
    if node.inputs[1] not in known:
        return None
    slopes = owner.parameter(node.inputs[1])
    made = _ChannelSlopes(node, tuple(slopes.shape))
    return _set(made, weight=nn.Parameter(slopes.flatten()))


class _ChannelSlopes(nn.PReLU):
    """Slopes of channels; SpecError where the file's are of another axis."""

    def __init__(self, node: Node, shape: tuple[int, ...]) -> None:
        super().__init__(prod(shape))
        self.node, self.shape = node, shape

    def forward(self, input: Tensor) -> Tensor:
        """Below 0 times the slope."""
        if not has_channel_slopes(self.shape, tuple(input.shape)):
            raise refused(self.node, "with other than a slope a channel")
        return super().forward(input)


def _embedding(owner: OnnxModule, node: Node) -> nn.Module | None:
    name = node.inputs[0]
    if name not in owner._weights or owner.array(name).ndim != 2 or node.options.get("axis", 0):
        return None
    return _set(nn.Embedding(*owner.array(name).shape), weight=owner.parameter(name))


MAKERS: dict[str, Callable[[OnnxModule, Node], nn.Module | None]] = {
    **dict.fromkeys(("Conv", "ConvTranspose"), _conv),
    **dict.fromkeys(("Gemm", "MatMul", "[Linear]"), _linear),
    "BatchNormalization": _batchnorm,
    **dict.fromkeys(("GroupNormalization", "[GroupNorm]"), _groupnorm),
    "LayerNormalization": _layernorm,
    "InstanceNormalization": _instancenorm,
    "PRelu": _prelu,
    "Gather": _embedding,
    **dict.fromkeys(RECURRENT, recurrent_of),
}


def _data(node: Node) -> str:
    return node.inputs[1] if node.op == "Gather" else node.inputs[0]


def _called(module: nn.Module, node: Node, data: Any) -> Tensor:
    """A weighted operator of its input, which is padded first where a convolution asks."""
    if not isinstance(data, Tensor):
        data = torch.from_numpy(np.asarray(data))
    if node.op == "Gather":
        result: Tensor = module(data.long())
        return result
    if node.op in ("Conv", "ConvTranspose"):
        return _padded_conv(module, node, data)
    made: Tensor = module(data)
    return made


def _padded_conv(module: Any, node: Node, data: Tensor) -> Tensor:
    sides = data.ndim - 2
    before, behind = pads_of(node, tuple(data.shape[2:]), module.kernel_size)
    if node.op == "ConvTranspose" and before != behind:
        raise SpecError(f"onnx: {node.name} with uneven padding is not known")
    if before != behind:
        ends = [end for at in reversed(range(sides)) for end in (before[at], behind[at])]
        data, before = nn.functional.pad(data, ends), (0,) * sides
    module.padding = before
    made: Tensor = module(data)
    return made
