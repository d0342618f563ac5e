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

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from explorer.accuracy.episodes import SCORE_STREAM, Episode, sample_episode
from explorer.accuracy.lessons import LESSON_SETUP, Lesson, check_outputs, sample_lesson
from explorer.accuracy.records import LessonProtocol
from explorer.accuracy.scores import CHANNEL_COLUMNS, ScoreTable
from explorer.accuracy.tasks import SHOTS, SignalTask, task_for
from explorer.accuracy.torch_bridge import (
    GraphModule,
    device_of,
    model_module,
    one_thread,
    placed,
    slice_sums,
    state_digest,
    unseen_task,
)
from explorer.errors import SpecError
from explorer.graph import INPUT, ModelGraph
from explorer.units import FloatArray

ACTIVATION_OPS = ("relu", "relu6")


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
    module: GraphModule | None = None,
    device: str = "cpu",
) -> ScoreTable:
    """Mean scores of a network on a task, from draws that no measurement uses; images 5-shot.

    `module` and `device` are as in `explorer.measure`.
    """
    network = placed(model_module(graph) if module is None else module, device)
    task = unseen_task(task_for(task_name, graph.input_shape), network)
    drawn: Iterator[Episode | Lesson]
    if isinstance(task, SignalTask):
        check_outputs(network, task)
        rules, size = LessonProtocol(), {"classes": len(task.class_names)}
        drawn = (
            sample_lesson(task, rules, LESSON_SETUP, seed=seed, index=index, stream=SCORE_STREAM)
            for index in range(episodes)
        )
    else:
        images, size = task, {"ways": task.ways, "shots": SHOTS}
        drawn = (
            sample_episode(images, seed=seed, index=index, stream=SCORE_STREAM)
            for index in range(episodes)
        )
    meta = {
        "task": task_name,
        "seed": seed,
        **size,
        "weights_digest": state_digest(network),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    with one_thread():
        return score_table(network, graph, drawn, meta)


def activation_of(graph: ModelGraph, name: str) -> str:
    """The tensor F1 looks at: the layer's output after its norm and its ReLU."""
    tensor = graph.norm_of(name) or name
    for layer in graph.layers:
        if layer.op in ACTIVATION_OPS and layer.inputs == (tensor,):
            return layer.name
    return tensor


def _episode_scores(
    module: GraphModule, graph: ModelGraph, episode: Episode | Lesson
) -> dict[str, list[FloatArray]]:
    episode = episode.to(device_of(module))
    watched = [activation_of(graph, name) for name in graph.weighted]
    parts = [_parts(module, graph, name) for name in graph.weighted]
    wanted = [tensor for part in parts for tensor in part if tensor is not None]
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
    for activation, slope, name, (weight, offset) in zip(
        activations, gradients[: len(activations)], graph.weighted, parts, strict=True
    ):
        rows["fisher_out"].append(_array(_fisher(activation.detach(), slope * queries)))
        gradient = next(remaining)
        offset_gradient = torch.zeros(len(weight)) if offset is None else next(remaining)
        rows["grad_l1_bias"].append(_array(offset_gradient.abs()))
        for axis in ("out", "in"):
            groups = graph[name].groups
            for column, values in (
                ("grad_l1", gradient.abs()),
                ("grad_sq", gradient.square()),
                ("weight_sq", weight.detach().square()),
            ):
                rows[f"{column}_{axis}"].append(_array(slice_sums(values, groups, axis)))
    return rows


def _parts(module: GraphModule, graph: ModelGraph, name: str) -> tuple[Tensor, Tensor | None]:
    """Weight of a layer, and its bias or the offset of the norm behind it."""
    layer = module.get_submodule(name)
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    norm = graph.norm_of(name)
    if layer.bias is not None or norm is None:
        return layer.weight, layer.bias
    offset = module.get_submodule(norm).bias
    assert isinstance(offset, Tensor)
    return layer.weight, offset


def _fisher(activation: Tensor, gradient: Tensor) -> Tensor:
    """F1 of each output channel [C] from activations and gradients [N, C, ...]."""
    products = (activation * gradient).reshape(*activation.shape[:2], -1).sum(2)
    return products.square().sum(0) / (2 * len(activation))


def _array(values: Tensor) -> FloatArray:
    array: FloatArray = values.to(torch.float64).cpu().numpy()
    return array
