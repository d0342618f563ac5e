"""Channel scores of a network on a task: one forward and backward pass an episode.

The batch is the plain support and its first view, N images; the loss is the mean
cross-entropy of the Q = N/2 pseudo-queries. On a task of signals it is what a repeat adapts
on, Q = N, under the loss it is trained with. F1 (TinyTrain, Kwon et al., ICML 2024) of
output channel o is `1/(2N) * sum_n (sum_d a*g)^2`, where `a` is the activation after the
layer's norm and ReLU (before a residual add), d runs over positions, and `g` is the
gradient of the summed loss, Q times that of the mean. Which activation is meant was not
published; ReLU's output or its input made 1 % of difference in our pilot. Gradient sums
are of the mean loss, as training sees it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from explorer import catalog
from explorer.accuracy.course import Course, task_protocol
from explorer.accuracy.episodes import SCORE_STREAM, Episode
from explorer.accuracy.lessons import LESSON_SETUP, Lesson
from explorer.accuracy.protocols import AnyProtocol, Protocol
from explorer.accuracy.scores import CHANNEL_COLUMNS, ScoreTable
from explorer.accuracy.slices import LayerWeights, layer_weights
from explorer.accuracy.tasks import task_for
from explorer.accuracy.torch_bridge import (
    GraphModule,
    device_of,
    model_module,
    one_thread,
    placed,
    state_digest,
    unseen_task,
)
from explorer.errors import SpecError
from explorer.graph import INPUT, ModelGraph
from explorer.layer import ACTIVATIONS, WHOLE_OPS
from explorer.units import FloatArray


def score_table(
    module: GraphModule,
    graph: ModelGraph,
    episodes: Iterable[Episode | Lesson],
    meta: Mapping[str, object] | None = None,
) -> ScoreTable:
    """Mean scores over episodes; no weight is changed and no gradient is left behind.

    `meta` is kept beside the model, its digest and the number of episodes.
    """
    totals: dict[str, list[FloatArray]] = {}
    count = 0
    for count, episode in enumerate(episodes, start=1):  # noqa: B007 - the last value is used
        for name, columns in _episode_scores(module, graph, episode).items():
            sums = totals.get(name, [np.zeros_like(column) for column in columns])
            totals[name] = [a + b for a, b in zip(sums, columns, strict=True)]
    if not count:
        raise SpecError.of("episodes", count, "at least one")
    means = {name: tuple(column / count for column in columns) for name, columns in totals.items()}
    made = {"model": graph.name, "digest": graph.digest, "episodes": count}
    return ScoreTable(graph.weighted, means, {**(meta or {}), **made})


def task_scores(
    graph: ModelGraph,
    task_name: str,
    *,
    episodes: int = 20,
    seed: int = 0,
    protocol: AnyProtocol | None = None,
    module: GraphModule | None = None,
    device: str = "cpu",
) -> ScoreTable:
    """Mean scores of a network on a task, from draws that no measurement uses.

    `protocol` None means the task's usual one, of images 5-shot; queries and steps are not used.
    `module` and `device` are as in `explorer.measure`.
    """
    network = placed(model_module(graph) if module is None else module, device)
    task = unseen_task(task_for(task_name, graph.input_shape), network)
    rules = task_protocol(task) if protocol is None else protocol
    course = Course(network, task, rules, LESSON_SETUP, seed)
    drawn = (course.draw(index, SCORE_STREAM) for index in range(episodes))
    if isinstance(rules, Protocol):
        size = {"ways": rules.ways, "shots": rules.shots, "sampler": rules.sampler}
    else:
        size = {"classes": len(task.class_names)}
    meta = {
        "task": catalog.task_key(task_name),
        "seed": seed,
        **size,
        "data_digest": task.digest,
        "weights_digest": state_digest(network),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    with one_thread():
        return score_table(network, graph, drawn, meta)


def activation_of(graph: ModelGraph, name: str) -> str:
    """The tensor F1 looks at: the layer's output after its norm and its ReLU."""
    tensor = graph.norm_of(name) or name
    for layer in graph.layers:
        if layer.op in ACTIVATIONS and layer.inputs == (tensor,):
            return layer.name
    return tensor


def _episode_scores(
    module: GraphModule, graph: ModelGraph, episode: Episode | Lesson
) -> dict[str, list[FloatArray]]:
    episode = episode.to(device_of(module))
    watched = [activation_of(graph, name) for name in graph.weighted]
    parts = [_parts(module, graph, name) for name in graph.weighted]
    wanted = [
        tensor for part in parts for tensor in (*part.tensors, part.bias) if tensor is not None
    ]
    before = [tensor.requires_grad for tensor in wanted]
    for tensor in wanted:
        tensor.requires_grad_(True)
    with torch.enable_grad():
        live = module.run({INPUT: episode.scored()}, keep=set(watched))
        loss, queries = episode.score_loss(live[graph.layers[-1].name])
        activations = [live[name] for name in watched]
        gradients = torch.autograd.grad(loss, [*activations, *wanted])
    for tensor, flag in zip(wanted, before, strict=True):
        tensor.requires_grad_(flag)
    rows: dict[str, list[FloatArray]] = {name: [] for name in CHANNEL_COLUMNS}
    remaining = iter(gradients[len(activations) :])
    for activation, slope, name, part in zip(
        activations, gradients[: len(activations)], graph.weighted, parts, strict=True
    ):
        fisher = _fisher(activation.detach(), slope * queries, graph[name].axis)
        rows["fisher_out"].append(_array(_merged(fisher, graph, name)))
        slopes = [next(remaining) for _ in part.tensors]
        offset = None if part.bias is None else next(remaining)
        channels = torch.zeros(graph[name].channels) if offset is None else offset.abs()
        rows["grad_l1_bias"].append(_array(_merged(channels, graph, name)))
        for axis in ("out", "in"):
            for column, values in (
                ("grad_l1", [slope.abs() for slope in slopes]),
                ("grad_sq", [slope.square() for slope in slopes]),
                ("weight_sq", [tensor.detach().square() for tensor in part.tensors]),
            ):
                rows[f"{column}_{axis}"].append(_array(part.sums(values, axis)))
    return rows


def _parts(module: GraphModule, graph: ModelGraph, name: str) -> LayerWeights:
    """Weights of a layer, and its bias or the offset of the norm behind it."""
    part, norm = layer_weights(module, name), graph.norm_of(name)
    if part.bias is not None or norm is None:
        return part
    offset = module.get_submodule(norm).bias
    assert isinstance(offset, nn.Parameter)
    return replace(part, bias=offset)


def _merged(values: Tensor, graph: ModelGraph, name: str) -> Tensor:
    """Channel values as those of slices: their sum for weights that train as a whole."""
    return values.sum()[None] if graph[name].op in WHOLE_OPS else values


def _fisher(activation: Tensor, gradient: Tensor, axis: int) -> Tensor:
    """F1 of each output channel [C] from activations and gradients [N, ...].

    `axis` is that of the channels in a sample. A tensor of weights has one sample.
    """
    products = (activation * gradient).movedim(axis + 1, 1)
    summed = products.reshape(*products.shape[:2], -1).sum(2)
    return summed.square().sum(0) / (2 * len(activation))


def _array(values: Tensor) -> FloatArray:
    array: FloatArray = values.to(torch.float64).cpu().numpy()
    return array
