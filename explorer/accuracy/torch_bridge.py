"""A model graph as a torch module whose submodules carry the layers' names.

`module.get_submodule(layer.name)` is the convolution, linear layer or norm of that
layer. Layers run in graph order and a tensor is dropped after its last reader, so a
run can also stop in the middle and be taken up again from the tensors alive there.
"""

import copy
import hashlib
import json
import platform
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from explorer.accuracy.downloads import fetched
from explorer.accuracy.modules import OPERATORS, check_runs
from explorer.accuracy.pretraining import Pretraining
from explorer.accuracy.tasks import SignalTask, TaskData
from explorer.accuracy.upstream import float_weights
from explorer.adapters import adapted, trained_parts
from explorer.errors import MissingDataError, SpecError, shown
from explorer.graph import INPUT, ModelGraph
from explorer.low_rank import Adapter
from explorer.paths import DATA_VARIABLE, data_cache, explorer_data, write_whole

T = TypeVar("T", bound=TaskData | SignalTask)

ADAPTER_SEED = 0
DEVICES = ("cpu", "cuda")


class GraphModule(nn.Module):
    """A model graph that runs; made by `build_module`.

    `pretraining` says how its weights were meta-trained, where `explorer pretrain` made them.
    """

    def __init__(self, graph: ModelGraph) -> None:
        super().__init__()
        self.pretraining: Pretraining | None = None
        check_runs(graph)
        self.graph = graph
        for layer in graph.layers:
            self._place(layer.name, OPERATORS[layer.op](graph, layer))
        self._drops = _tensors_to_drop(graph)

    def _place(self, name: str, operator: nn.Module) -> None:
        *path, leaf = name.split(".")
        parent: nn.Module = self
        for part in path:
            child = parent._modules.get(part)
            if child is None:
                child = nn.Module()
                parent.add_module(part, child)
            parent = child
        holder = parent._modules.get(leaf)
        if type(holder) is nn.Module:  # made above for a layer inside this one
            for inner, child in holder.named_children():
                operator.add_module(inner, child)
        elif hasattr(parent, leaf):
            raise SpecError.of("layer.name", name, "a name torch does not use itself")
        parent.add_module(leaf, operator)

    def run(
        self,
        tensors: Mapping[str, Tensor],
        start: int = 0,
        stop: int | None = None,
        keep: Collection[str] = (),
    ) -> dict[str, Tensor]:
        """Run layers `start` to `stop` of the graph from the tensors alive at `start`.

        Returns the tensors alive at `stop` by name, and those named in `keep`.
        """
        live = dict(tensors)
        for position in range(start, len(self.graph.layers) if stop is None else stop):
            layer = self.graph.layers[position]
            inputs = (live[name] for name in self.graph.producers(layer))
            live[layer.name] = self.get_submodule(layer.name)(*inputs)
            for name in self._drops[position]:
                if name not in keep:
                    live.pop(name, None)
        return live

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] to embeddings or logits [N, F]."""
        return self.run({INPUT: images})[self.graph.layers[-1].name]


def _tensors_to_drop(graph: ModelGraph) -> tuple[tuple[str, ...], ...]:
    last_reader = {
        name: position
        for position, layer in enumerate(graph.layers)
        for name in graph.producers(layer)
    }
    drops: list[list[str]] = [[] for _ in graph.layers]
    for name, position in last_reader.items():
        drops[position].append(name)
    return tuple(tuple(names) for names in drops)


def build_module(graph: ModelGraph) -> GraphModule:
    """The network in torch, in evaluation mode, with torch's initial weights.

    Channels-last weights: training steps of these networks took a half to a quarter of the
    time on one CPU thread.
    """
    module = GraphModule(graph).eval()
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def adapted_module(module: GraphModule, adapters: tuple[Adapter, ...]) -> GraphModule:
    """The network with adapters, on a copy of the module's weights.

    The last weight of each adapter starts at 0, so the outputs are those of `module`; the other
    weights are drawn from a fixed seed. Without adapters the module itself.
    """
    if not adapters:
        return module
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(ADAPTER_SEED)
        grown = build_module(adapted(module.graph, adapters)).to(device_of(module))
    grown.load_state_dict(grown.state_dict() | module.state_dict())
    for adapter in adapters:
        nn.init.zeros_(grown.get_parameter(f"{trained_parts(adapter)[-1]}.weight"))
    return grown


def save_weights(module: GraphModule, path: Path) -> None:
    """Write every parameter and buffer as safetensors, stamped with the graph's digest.

    How they were meta-trained goes along.
    """
    stamp = {"digest": module.graph.digest}
    if module.pretraining is not None:
        stamp["pretraining"] = module.pretraining.to_json()
    tensors = {name: value.cpu().contiguous() for name, value in module.state_dict().items()}
    write_whole(path, save(tensors, metadata=stamp))


def load_weights(module: GraphModule, path: Path) -> None:
    """Fill a module from our safetensors; SpecError when damaged or made for another graph."""
    if not path.is_file():
        raise MissingDataError(f"no weight file {path}")
    try:
        with safe_open(path, framework="pt") as archive:
            stamp = archive.metadata() or {}
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError):
        raise SpecError(f"{path.name}: cannot be read as safetensors") from None
    if stamp.get("digest") != module.graph.digest:
        raise SpecError.of(f"{path.name}: model digest", stamp.get("digest"), module.graph.digest)
    _check_tensors(tensors, module.state_dict(), path.name)
    record = stamp.get("pretraining")
    pretraining = None if record is None else Pretraining.of_json(record, path.name)
    module.load_state_dict(tensors)
    module.pretraining = pretraining


def _check_tensors(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], place: str) -> None:
    """SpecError unless a file has all tensors of a module, of its kinds and shapes, and finite."""
    if odd := sorted(tensors.keys() ^ wanted.keys()):
        here = "has" if odd[0] in tensors else "lacks"
        raise SpecError(f"{place}: {here} {shown(odd[0])}, unlike the network")
    for name, own in wanted.items():
        kind, shape = tensors[name].dtype, tuple(tensors[name].shape)
        if (kind, shape) != (own.dtype, tuple(own.shape)):
            allowed = f"{own.dtype} of shape {tuple(own.shape)}"
            raise SpecError.of(f"{place}: {name}", f"{kind} of shape {shape}", allowed)
        if not tensors[name].isfinite().all():
            raise SpecError(f"{place}: {name}: got a number that is not finite")


def loaded_module(graph: ModelGraph, path: Path) -> GraphModule:
    """The network with the weights of a file, such as `explorer pretrain` writes."""
    module = build_module(graph)
    load_weights(module, path)
    return module


def unseen_task(task: T, module: GraphModule) -> T:
    """A task with only those classes that a module was not meta-trained on."""
    record = module.pretraining
    if record is None or record.task != task.name or not isinstance(task, TaskData):
        return task
    held_out = [i for i in task.held_out if task.class_names[i] in record.held_out_classes]
    return replace(task, held_out=tuple(held_out))


def load_float_arrays(
    module: GraphModule, arrays: Mapping[str, NDArray[np.float32]], origin: str
) -> None:
    """Fill a vision network (batch norm folded into biases) from arrays of a file `origin`.

    `Lnn.weight`, `Lnn.bias` are in execution order, the 1000-way ImageNet classifier
    last; the graph's weighted layers take them in the same order.
    """
    graph = module.graph
    stems = sorted(name.removesuffix(".weight") for name in arrays if name.endswith(".weight"))
    for position, name in enumerate(graph.weighted):
        layer = module.get_submodule(name)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        source = arrays[f"{stems[position]}.weight"] if position < len(stems) else None
        if source is None or source.size != layer.weight.numel() or layer.bias is None:
            raise MissingDataError(f"{origin} has no weights for {name} of {graph.name}")
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(source).view_as(layer.weight))
            layer.bias.copy_(torch.from_numpy(arrays[f"{stems[position]}.bias"]))


def model_module(graph: ModelGraph) -> GraphModule:
    """The network with its trained weights: shipped, fetched, or from EXPLORER_DATA.

    A form other than the entry's, such as another norm, has a file of its own digest. Raises
    MissingDataError when none of these fit; never random weights.
    """
    module = build_module(graph)
    ours = Path(graph.weights) if graph.weights else _own_weights(graph)
    if graph.weights and not ours.is_file():
        raise MissingDataError(f"no weights for {graph.name}: {ours} does not exist")
    if ours.is_file():
        try:
            load_weights(module, ours)
        except SpecError as error:
            raise MissingDataError(
                f"no weights for {graph.name} in this form (norm {graph.norm}): {error}"
            ) from None
        return module
    upstream = graph.name.removesuffix("-tinytrain")
    if paths := fetched(upstream):
        load_float_arrays(module, float_weights(paths[0]), paths[0].name)
        return module
    own_data = explorer_data()
    converted = None if own_data is None else own_data / "models" / f"{upstream}.float32.npz"
    if converted is None or not converted.is_file():
        raise MissingDataError(
            f"no weights for {graph.name}: explorer fetch {upstream} gets them, or "
            f"{DATA_VARIABLE} names a folder with models/{upstream}.float32.npz"
        )
    with np.load(converted, allow_pickle=False) as archive:
        load_float_arrays(module, archive, converted.name)
    return module


def _own_weights(graph: ModelGraph) -> Path:
    """Where our weights of a catalogue entry lie: those of this very form, else the entry's."""
    folder = data_cache() / "models"
    of_form = folder / f"{graph.name}-{graph.digest}.safetensors"
    return of_form if of_form.is_file() else folder / f"{graph.name}.safetensors"


def state_digest(module: nn.Module) -> str:
    """Twelve hexadecimal digits over all weights, to tell two trainings apart."""
    sha = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        sha.update(json.dumps([name, list(value.shape)]).encode())
        sha.update(value.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:12]


def placed(module: GraphModule, device: str) -> GraphModule:
    """The module on `cpu` or `cuda`: itself where it is there already, else a copy."""
    if device not in DEVICES:
        raise SpecError.of("device", device, ", ".join(DEVICES))
    if device == "cuda" and not torch.cuda.is_available():
        raise SpecError("device: got 'cuda', but torch finds no CUDA device here; use cpu")
    if device_of(module).type == device:
        return module
    return copy.deepcopy(module).to(device)


def device_of(module: nn.Module) -> torch.device:
    """Where a module's weights are."""
    return next(module.parameters()).device


def software_versions(module: nn.Module) -> dict[str, str]:
    """What a result of a module was made with."""
    try:
        own = metadata.version("ondevice-explorer")
    except metadata.PackageNotFoundError:
        own = "not installed"
    versions = {
        "explorer": own,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    if device_of(module).type == "cuda":
        versions["cuda"] = torch.cuda.get_device_name()
    return versions


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, so that equal seeds give equal numbers anywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def seeded(module: nn.Module, seed: int) -> Iterator[None]:
    """Draw dropout masks from a seed, and leave torch's generators as they were."""
    device = device_of(module)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
