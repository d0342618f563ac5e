"""An ONNX file as a torch module, through the `onnx` package; a file is not trusted.

Read as data alone: no operator of the file is code. Data beside the file must lie in its
folder. What it would compute is added up on shapes alone before anything is computed, and
refused where it is huge. Operators without a counterpart are listed all at once, with the names
of their nodes.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from explorer.accuracy.tracing.onnx_constants import MOST_ELEMENTS, evaluated
from explorer.accuracy.tracing.onnx_module import MAKERS, OnnxModule
from explorer.accuracy.tracing.onnx_nodes import Grouping, Node
from explorer.accuracy.tracing.onnx_ops import HANDLERS
from explorer.errors import ExplorerError, SpecError, UnsupportedOpError

LARGEST_BYTES = 2**31 - 1  # of a file; protobuf has no larger
LARGEST_SAMPLE = 10**8  # elements, and of a batch that the file is made for
MOST_TENSORS = 20_000  # nodes, and initializers
MOST_RUN_ELEMENTS = 1 << 29  # that all operators make of two samples: 2 GiB
MOST_RUN_MACS = 10**12
SAMPLES = 2
DOMAINS = ("", "ai.onnx")
WORDS = (6, 7)  # int32, int64
GROUPED = ("Erf",)  # known where a group takes them in
KNOWN = {*HANDLERS, *MAKERS, *GROUPED, "Shape"}
TOLERANCE = 1e-3

Arrays = dict[str, NDArray[Any]]


def read_onnx(path: Path, example: Tensor | None = None) -> tuple[OnnxModule, Tensor]:
    """The network of a file, and a batch of two samples for it.

    Its input has the sizes that the file says, or those of `example`. SpecError where the file is
    no ONNX, has other than one input, or mixes samples; UnsupportedOpError lists operators.
    """
    model = _loaded(path)
    try:
        return _network(model.graph, example, path.name)
    except ExplorerError:
        raise
    except Exception as problem:
        reason = str(problem).strip().split("\n")[0] or type(problem).__name__
        raise SpecError(
            f"{path.name}: not a network that runs on two samples: {reason}"
        ) from problem


def _network(graph: Any, example: Tensor | None, title: str) -> tuple[OnnxModule, Tensor]:
    weights, constants = _initializers(graph.initializer, title)
    given = [one for one in graph.input if one.name not in {*weights, *constants}]
    if len(given) != 1 or not graph.output:
        raise SpecError.of(f"{title}: inputs", [one.name for one in given], "one, and an output")
    start, output = given[0].name, graph.output[0].name
    nodes = [_node(node) for node in graph.node]
    _check_order(nodes, {start, *weights, *constants}, output, title)
    plain, turned = _copied(nodes, weights)
    left = _folded(plain, constants, {start, *weights})
    _check_known(left, {start, *weights}, title)
    left = _needed(Grouping(left, constants, weights, output).grouped(), output, title)
    batch, own = _batch(given[0], left, weights, example, title)
    module = OnnxModule(left, weights, constants, turned, (start, output), own).eval()
    _check_work(module, batch, own, title)
    _check_samples(module, batch, own, title)
    return module, batch


def _check_order(nodes: list[Node], known: set[str], output: str, title: str) -> None:
    """SpecError where a node reads what nothing before it makes."""
    seen = {"", *known}
    for node in nodes:
        if missing := [name for name in node.inputs if name not in seen]:
            raise SpecError.of(f"{title}: input of {node.name}", missing[0], "what is made before")
        seen |= set(node.outputs)
        if not node.outputs:
            raise SpecError.of(f"{title}: outputs of {node.op}", (), "at least one")
    if output not in seen:
        raise SpecError.of(f"{title}: output", output, "what a node makes")


def _loaded(path: Path) -> Any:
    """The model with data that lies beside it; SpecError says what is wrong with the file."""
    try:
        import onnx
        from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data
    except ImportError:
        raise SpecError("onnx: the package is not installed; pip install onnx") from None
    if not path.is_file():
        raise SpecError(f"onnx: no file {path}")
    if path.stat().st_size > LARGEST_BYTES:
        raise SpecError.of(f"{path.name}: bytes", path.stat().st_size, f"at most {LARGEST_BYTES}")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as problem:
        raise SpecError(f"{path.name}: cannot be read as ONNX") from problem
    if not model.graph.node:
        raise SpecError(f"{path.name}: cannot be read as ONNX: it has no operators")
    for count in (len(model.graph.node), len(model.graph.initializer)):
        if count > MOST_TENSORS:
            raise SpecError.of(f"{path.name}: nodes or weights", count, f"at most {MOST_TENSORS}")
    folder, left = path.resolve().parent, LARGEST_BYTES
    for tensor in _tensors(model.graph):
        if not uses_external_data(tensor):
            continue
        left -= _bytes_beside(tensor, folder, path.name)
        if left < 0:
            raise SpecError(f"{path.name}: got more than {LARGEST_BYTES} bytes of data beside it")
        try:
            load_external_data_for_tensor(tensor, str(folder))
        except Exception as problem:
            reason = str(problem).strip().split("\n")[0]
            raise SpecError(f"{path.name}: data beside it cannot be read: {reason}") from problem
    return model


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor that is read of a graph: weights, and constants of nodes."""
    yield from graph.initializer
    yield from (one.t for node in graph.node for one in node.attribute if one.HasField("t"))


def _bytes_beside(tensor: Any, folder: Path, title: str) -> int:
    """How much of a file beside is read for a tensor; SpecError where it is no file beside."""
    entries: dict[str, str] = {entry.key: entry.value for entry in tensor.external_data}
    place = (folder / entries.get("location", "")).resolve()
    if not place.is_relative_to(folder) or not place.is_file():
        came = entries.get("location")
        raise SpecError.of(f"{title}: data of {tensor.name}", came, "a file beside it")
    whole, length = place.stat().st_size, entries.get("length", "")
    return min(int(length), whole) if length.isdecimal() else whole


def _initializers(tensors: Iterable[Any], title: str) -> tuple[Arrays, Arrays]:
    """Float ones of several elements are weights, all others constants."""
    from onnx import numpy_helper

    weights: Arrays = {}
    constants: Arrays = {}
    for tensor in tensors:
        try:
            value = numpy_helper.to_array(tensor)
        except Exception as problem:
            sizes = list(tensor.dims)
            raise SpecError(f"{title}: values of {tensor.name} do not fill {sizes}") from problem
        is_weight = value.dtype.kind == "f" and value.size > 1
        (weights if is_weight else constants)[tensor.name] = value
    return weights, constants


def _node(node: Any) -> Node:
    from onnx import helper

    options = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    plain = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in options.items()
    }
    domain = "" if node.domain in DOMAINS else f"{node.domain}."
    return Node(
        op=f"{domain}{node.op_type}",
        name=node.name or (node.output[0] if node.output else ""),
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        options=plain,
    )


def _copied(nodes: list[Node], weights: Arrays) -> tuple[list[Node], dict[str, str]]:
    """Nodes but those that copy or transpose a weight; the transposed ones and what they are of.

    Exporters keep equal weights once, and hand out copies of it: those train apart.
    """
    kept, turned = [], {}
    for node in nodes:
        value = weights.get(node.inputs[0]) if node.inputs else None
        if value is not None and node.op == "Identity":
            weights[node.outputs[0]] = value
        elif value is not None and node.op == "Transpose" and value.ndim == 2:
            weights[node.outputs[0]] = value.T
            turned[node.outputs[0]] = node.inputs[0]
        else:
            kept.append(node)
    return kept, turned


def _folded(nodes: list[Node], constants: Arrays, live: set[str]) -> list[Node]:
    """Nodes that are left once those of constants alone are computed, into `constants`."""
    from onnx import numpy_helper

    kept, floating, made = [], set(live), 0
    for node in nodes:
        if node.op == "Constant":
            value = node.options.get("value")
            if value is None:
                value = np.array(next(iter(node.options.values())))
            else:
                value = numpy_helper.to_array(value)
            constants[node.outputs[0]] = value
        elif floating & set(node.inputs):
            floating |= set(node.outputs)
            kept.append(node)
        else:
            results = evaluated(node, [constants[name] if name else None for name in node.inputs])
            made += sum(one.size for one in results)
            if made > MOST_ELEMENTS:
                raise SpecError.of("elements of all constants", made, f"at most {MOST_ELEMENTS}")
            constants |= dict(zip(node.outputs, results, strict=False))
    return kept


def _check_known(nodes: list[Node], tensors: set[str], title: str) -> None:
    """UnsupportedOpError names every operator on the network's tensors without counterpart.

    What only computes sizes is left to the reference evaluator.
    """
    unknown: dict[str, list[str]] = {}
    tensors = set(tensors)
    for node in nodes:
        if not tensors & set(node.inputs):
            continue
        if node.op != "Shape":
            tensors |= set(node.outputs)
        if node.op not in KNOWN:
            unknown.setdefault(node.op, []).append(node.name)
    if unknown:
        listed = "; ".join(f"{op} in {', '.join(sorted(where))}" for op, where in unknown.items())
        raise UnsupportedOpError(f"{title}: no counterpart for {listed}")


def _needed(nodes: list[Node], output: str, title: str) -> list[Node]:
    """What the first output depends on."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted & set(node.outputs):
            wanted |= set(node.inputs)
            kept.append(node)
    if left := sorted({node.op for node in kept} & {*GROUPED}):
        names = ", ".join(node.name for node in kept if node.op in left)
        raise UnsupportedOpError(f"{title}: no counterpart for {', '.join(left)} in {names}")
    return kept[::-1]


def _batch(
    given: Any, nodes: list[Node], weights: Arrays, example: Tensor | None, title: str
) -> tuple[Tensor, int | None]:
    """Two samples, and the batch the file is made for; None where it takes any."""
    dims = given.type.tensor_type.shape.dim
    sizes = [one.dim_value if one.HasField("dim_value") else None for one in dims]
    own = sizes[0] if sizes else None
    if example is not None:
        stated = [(a, b) for a, b in zip(sizes[1:], example.shape[1:], strict=False) if a]
        if len(sizes) != example.ndim or any(a != b for a, b in stated):
            raise SpecError.of(f"{title}: example", tuple(example.shape[1:]), f"as {sizes[1:]}")
        shape = tuple(example.shape[1:])
    else:
        if len(sizes) < 2 or not all(size and size > 0 for size in sizes[1:]):
            allowed = "sizes; give an example of one sample"
            raise SpecError.of(f"{title}: sizes of {given.name}", sizes[1:], allowed)
        shape = tuple(int(size) for size in sizes[1:] if size)
    if prod(shape) * max(own or 1, 1) > LARGEST_SAMPLE:
        came = (own or 1, *shape)
        raise SpecError.of(f"{title}: sizes", came, f"at most {LARGEST_SAMPLE} elements")
    if given.type.tensor_type.elem_type in WORDS:
        tables = [
            weights[n.inputs[0]]
            for n in nodes
            if given.name in n.inputs[1:2] and n.inputs[0] in weights
        ]
        rows = min((len(table) for table in tables), default=2)
        return torch.randint(rows, (SAMPLES, *shape)), own or None
    return torch.randn(SAMPLES, *shape), own or None


def _check_work(module: OnnxModule, batch: Tensor, own: int | None, title: str) -> None:
    """SpecError where the network would take much memory or long; found on shapes alone."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    sizes = (max(own or 0, len(batch)), *batch.shape[1:])
    made, operations = _Made(title), FlopCounterMode(display=False)
    with _without_log(), torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
        like = torch.empty(sizes, dtype=batch.dtype)
        with operations, made:
            module(like)
    if operations.get_total_flops() > 2 * MOST_RUN_MACS:
        came = operations.get_total_flops() // 2
        raise SpecError.of(f"{title}: MACs of {sizes[0]} samples", came, f"to {MOST_RUN_MACS}")


class _Made(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the elements that operators make; SpecError as soon as there are too many."""

    def __init__(self, title: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.title, self.elements = title, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            several = result if isinstance(result, tuple | list) else (result,)
            self.elements += sum(one.numel() for one in several if isinstance(one, Tensor))
        if self.elements > MOST_RUN_ELEMENTS:
            where = f"{self.title}: elements of all operators"
            raise SpecError.of(where, self.elements, f"at most {MOST_RUN_ELEMENTS}")
        return result


@contextmanager
def _without_log() -> Iterator[None]:
    """Torch writes a traceback into its log where shapes do not fit; a sentence says it here."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _check_samples(module: OnnxModule, batch: Tensor, own: int | None, title: str) -> None:
    """SpecError where a file made for another batch gives a sample's output another value."""
    if own is None or own == len(batch):
        return
    with torch.no_grad():
        together = module(batch)
        times = -(-own // len(batch))
        alone = module(torch.cat([batch] * times)[:own])
    count = min(own, len(batch))
    if together.shape[:1] != batch.shape[:1] or not torch.allclose(
        together[:count], alone[:count], rtol=TOLERANCE, atol=TOLERANCE
    ):
        raise SpecError(f"{title}: made for a batch of {own} alone; export it with one of any size")
