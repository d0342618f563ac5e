"""Any torch module as a model graph, through torch.export.

The exported operators (aten) are walked in order on real tensors: what depends on no input is
computed once, what is a view is told by its memory. layers.py and its neighbours say which
operator becomes which layer. Layers with weights are named by their module's path,
so `explorer.apply_policy` finds them in the module itself. Operators without a counterpart
are listed all at once.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from explorer.accuracy.torch_bridge import (
    GraphModule,
    build_module,
    save_weights,
)
from explorer.accuracy.tracing import arithmetic, layers, recurrent, shapes, windows
from explorer.accuracy.tracing.composite import parts_of
from explorer.accuracy.tracing.given import batch_of, check_runs, exported, plain
from explorer.accuracy.tracing.step import FIRST, Step, Traced, Weight
from explorer.errors import SpecError, UnsupportedOpError
from explorer.graph import INPUT, LayerSpec, ModelGraph
from explorer.network import NetworkDocument, check_network_path
from explorer.paths import check_writable, write_whole
from explorer.provenance import Kind, Source

HANDLERS = {
    **{**layers.HANDLERS, **recurrent.HANDLERS, **windows.HANDLERS},
    **{**arithmetic.HANDLERS, **shapes.HANDLERS},
}
ANY_BATCH_AXIS = (  # the samples may be on another axis than the first
    *("permute", "transpose", "slice", "select", "split", "split_with_sizes", "chunk", "unbind"),
    *("contiguous", "clone", "dropout", "relu", "sigmoid", "tanh", "silu", "alias", "detach"),
    *("view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "linear", "layer_norm"),
    *("gelu", "add", "mul", "mean", "cat", "gru", "lstm"),
)
SHARING = ("linear", "addmm", "matmul", "embedding", "conv1d", "conv2d")  # may share a weight


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Trace:
    """A traced network: its graph, and the same network as a module with the weights.

    `unused` are parameters of the module that its output does not depend on.
    """

    graph: ModelGraph
    module: GraphModule
    unused: tuple[str, ...]

    def save(self, path: str | Path) -> None:
        """Write the graph as JSON, a model path anywhere, and its weights beside it."""
        place = Path(path)
        check_network_path(place)
        check_writable(place)
        save_weights(self.module, place.with_suffix(".safetensors"))
        write_whole(place, NetworkDocument.of(self.graph).to_json())


def trace(
    module: nn.Module | str | Path, example: Tensor | Sequence[int] | None = None, name: str = ""
) -> Trace:
    """Trace a module of one input; `example` is a batch of samples, or the shape of one.

    A path is that of an ONNX file, which needs no example where it says its input's sizes. The
    network is traced as it runs in evaluation, so dropout is nothing, and its first output
    is the output. Raises UnsupportedOpError with every operator that has no counterpart and
    the path of the module it is in, SpecError when the module cannot be exported.
    """
    if isinstance(module, str | Path):
        from explorer.accuracy.tracing.onnx_file import read_onnx

        place = Path(module)
        module, batch = read_onnx(place, None if example is None else batch_of(example))
        return _traced(module, batch, place.name, name or place.stem, f"read from {place.name}")
    cite = f"traced from {type(module).__module__}.{type(module).__qualname__}"
    kind = type(module).__name__
    return _traced(plain(module), batch_of(example), kind, name or kind.lower(), cite)


def _traced(module: nn.Module, batch: Tensor, title: str, name: str, cite: str) -> Trace:
    check_runs(module, batch, title)
    program = exported(module, batch, title)
    walk = _Walk(module, batch)
    with torch.no_grad():
        walk.run(program)
    if walk.unknown:
        listed = "; ".join(
            f"{op} in {', '.join(sorted(paths))}" for op, paths in sorted(walk.unknown.items())
        )
        raise UnsupportedOpError(f"{title}: no counterpart for {listed}")
    graph = ModelGraph(
        name,
        tuple(batch.shape[1:]),
        tuple(walk.layers),
        Source(kind=Kind.ASSUMED, cite=cite),
    )
    traced = build_module(graph).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    traced.load_state_dict(traced.state_dict() | walk.state)
    used = {path for layer in walk.used for path in layer}
    unused = tuple(path for path, _ in module.named_parameters() if path not in used)
    return Trace(graph=graph, module=traced, unused=unused)


class _Walk:
    """The state of a walk: layers made so far, and what each exported value is."""

    def __init__(self, module: nn.Module, batch: Tensor) -> None:
        self.module, self.batch = module, batch
        self.layers: list[LayerSpec] = []
        self.state: dict[str, Tensor] = {}
        self.used: list[tuple[str, ...]] = []
        self.unknown: dict[str, set[str]] = {}
        self.taken = Counter({INPUT: 1})
        self.leaves = {
            path
            for path, part in module.named_modules()
            if not list(part.children()) and not list(part.parameters())
        }
        self.inner = {path for path, _ in module.named_modules()} - self.leaves
        self.values: dict[fx.Node, Any] = {}
        self.sources: dict[str, str] = {}
        self.weighted_by: dict[str, str] = {}
        self.own: set[int] = set()
        self.shared: set[str] = set()
        every = module.named_parameters(remove_duplicate=False)
        first = {id(one): path for path, one in reversed(list(module.named_parameters()))}
        self.path_of = {path: first[id(one)] for path, one in every}

    def run(self, program: torch.export.ExportedProgram) -> None:
        """Walk what the first output depends on."""
        stored = {**program.state_dict, **program.constants}
        signature = program.graph_signature
        paths = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        self.own = {
            value.untyped_storage().data_ptr()
            for value in stored.values()
            if isinstance(value, Tensor)
        }
        first = signature.user_outputs[0]
        output = next(node for node in program.graph.nodes if node.name == first)
        wanted = _needed(output)
        self.shared = {
            self.path_of.get(path, path)
            for name, path in signature.inputs_to_parameters.items()
            for node in program.graph.nodes
            if node.name == name
            and sum(_aten_name(user.target) in SHARING for user in node.users if user in wanted) > 1
        }
        for node in program.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self._placeholder(node, paths, stored, signature)
            elif node.op == "get_attr":
                self.values[node] = program.graph_module.get_submodule(str(node.target))
            elif node in wanted:
                self.values[node] = self._call(node)
        last = self.values[output]
        if self.unknown:
            return
        ends = self.layers[-1].name if self.layers else INPUT
        if not isinstance(last, Traced) or last.name != ends:
            raise SpecError("trace: the first output must come from the last operator")

    def _placeholder(
        self,
        node: fx.Node,
        paths: Mapping[str, str],
        stored: Mapping[str, Any],
        signature: Any,
    ) -> Any:
        if node.name in paths:
            path = paths[node.name]
            value = stored[path].detach() if isinstance(stored[path], Tensor) else stored[path]
            if node.name in signature.inputs_to_parameters:
                return Weight(path=self.path_of.get(path, path), value=value, whole=value)
            return value
        return Traced(name=INPUT, value=self.batch)

    def _call(self, node: fx.Node) -> Any:
        args: Any = fx.map_arg(node.args, self.values.__getitem__)
        kwargs: Any = fx.map_arg(node.kwargs, self.values.__getitem__)
        known = _members([args, kwargs])
        op = _aten_name(node.target)
        if not any(isinstance(one, Traced | Weight) for one in known):
            return node.target(*args, **kwargs)  # type: ignore[operator]
        if op == "getitem":
            return self._member(node, *args)
        if op == "select" and isinstance(args[0], dict):
            return args[0][args[2]]
        if all(not isinstance(one, Traced) for one in known) and op != "embedding":
            return self._of_weights(node, op, args, kwargs)
        value = node.target(*_bare(args), **_bare(kwargs))  # type: ignore[operator]
        step = Step(self, op, _module_path(node), value, len(self.batch))
        places = {one.place for one in known if isinstance(one, Traced)}
        together = places <= {FIRST} or (len(places) == 1 and op in ANY_BATCH_AXIS)
        handler = HANDLERS.get(op) if together else None
        if handler is None and together:
            found = self._apart(node, args, kwargs)
        else:
            found = None if handler is None else handler(step, *args, **kwargs)
        return self._unknown(step, known) if found is None else found

    def _member(self, node: fx.Node, members: Any, index: int) -> Any:
        """One of several outputs."""
        found = members[index] if index < len(members) else None
        if isinstance(found, recurrent.LastStates):
            found = found.read_by(node)
        if found is None:
            source = node.args[0]
            assert isinstance(source, fx.Node)
            self.lacks(f"output {index} of {_aten_name(source.target)}", _module_path(node))
            return members[0]
        return found

    def _apart(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """An operator that is written in others, walked through; None where it is not."""
        found = parts_of(node.target, args, kwargs, _bare)
        if found is None:
            return None
        program, given = found
        inner = {
            _aten_name(part.target) for part in program.graph.nodes if part.op == "call_function"
        }
        if not inner <= {"getitem", *HANDLERS}:
            return None
        inputs = iter(given)
        for part in program.graph.nodes:
            if part.op == "placeholder":
                self.values[part] = next(inputs)
            elif part.op == "get_attr":
                self.values[part] = getattr(program, part.target)
            elif part.op == "output":
                return fx.map_arg(part.args[0], self.values.__getitem__)
            else:
                part.meta["nn_module_stack"] = node.meta.get("nn_module_stack")
                self.values[part] = self._call(part)
        return None

    def _of_weights(self, node: fx.Node, op: str, args: Any, kwargs: Any) -> Any:
        """A view or a choice of the entries of one weight is still that weight."""
        value = node.target(*_bare(args), **_bare(kwargs))  # type: ignore[operator]
        weights = [one for one in _members([args, kwargs]) if isinstance(one, Weight)]
        if op == "_weight_norm":  # folded into the weight
            self.used.append(tuple(weight.path for weight in weights))
            stem = weights[0].path.partition(".parametrizations.")[0]
            return Weight(path=f"{stem}.weight", value=value, whole=value)
        if len(weights) != 1:
            return self._unknown(Step(self, op, _module_path(node), value), [])
        if isinstance(value, Tensor):
            return replace(weights[0], value=value)
        return [replace(weights[0], value=one) for one in value]

    def _unknown(self, step: Step, known: Sequence[Any]) -> Any:
        """Remember an operator without counterpart, and go on behind it."""
        self.lacks(step.op, step.path)
        name = next((one.name for one in known if isinstance(one, Traced)), INPUT)
        if isinstance(step.value, list | tuple):
            return [Traced(name=name, value=one) for one in step.value]
        return Traced(name=name, value=step.value)

    # what the handlers use

    def lacks(self, op: str, path: str) -> None:
        """Remember what has no counterpart, and the module it is in."""
        self.unknown.setdefault(op, set()).add(path or "the module itself")

    def stores(self, tensor: Tensor) -> bool:
        """Whether a tensor is the module's own, or a view of one."""
        return tensor.untyped_storage().data_ptr() in self.own

    def free_name(self, path: str, op: str) -> str:
        """A layer name nobody has: the path of a leaf module, else one inside the module."""
        is_free = path and path in self.leaves and not self.taken[path]
        name = path if is_free else f"{path}.{op}".lstrip(".")
        while self.taken[name] or name in self.inner or (name in self.leaves and name != path):
            self.taken[f"{name} again"] += 1
            name = f"{path}.{op}_{self.taken[f'{name} again'] + 1}".lstrip(".")
        return name

    def append(self, layer: LayerSpec) -> str:
        """Add a layer in the block of its path; returns its name."""
        self.taken[layer.name] += 1
        self.layers.append(replace(layer, block=_block(self.module, layer.name)))
        return layer.name


def _needed(last: Any) -> set[fx.Node]:
    """Nodes an output depends on."""
    found: set[fx.Node] = set()
    waiting = [last]
    while waiting:
        node = waiting.pop()
        if isinstance(node, fx.Node) and node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found


def _members(values: Any) -> list[Any]:
    """Everything inside nested arguments."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list | tuple):
        return [member for value in values for member in _members(value)]
    return [values]


def _bare(values: Any) -> Any:
    """Arguments with the tensors themselves."""
    if isinstance(values, dict):
        return {key: _bare(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_bare(value) for value in values]
    return values.value if isinstance(values, Traced | Weight) else values


def _aten_name(target: Any) -> str:
    """`aten.add_.Tensor` -> `add`: the in-place form is the same operator."""
    packet = getattr(target, "overloadpacket", None)
    name = str(getattr(packet, "__name__", getattr(target, "__name__", target)))
    return name if name.startswith("_") else name.removesuffix("_")


def _module_path(node: fx.Node) -> str:
    """The module that called an operator."""
    stack = node.meta.get("nn_module_stack") or {}
    path = next(reversed(stack.values()))[0] if stack else ""
    return str(path).removeprefix("L['self'].").removeprefix("L['self']")


def _block(module: nn.Module, name: str) -> str:
    """The innermost element of a list of modules a layer is in, else of a sequence."""
    parts = name.split(".")
    found = ""
    for depth, part in enumerate(parts):
        if not part.isdigit():
            continue
        owner = module.get_submodule(".".join(parts[:depth]))
        if isinstance(owner, nn.ModuleList) or not found:
            found = ".".join(parts[: depth + 1])
    return found
