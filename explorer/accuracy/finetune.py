"""Real fine-tuning of a policy on episodes: the only place that mints measured accuracy.

Adam, constant rate, pseudo-queries in turn (`reference` protocol of our pilot). Masks on
the gradients keep every entry outside the policy bit-identical. Below the first trained
layer nothing is differentiated, and since views are fixed its activations are computed
once. The rate is tuned per policy on other episodes: about `0.3 / sum|g|`, because the
first Adam step then promises 0.3 of loss; a common rate would rank rates, not policies.
"""

import copy
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from explorer.accuracy.episodes import (
    MEASURED_STREAM,
    TUNING_STREAM,
    Episode,
    prototype_logits,
    pseudo_query_loss,
    sample_episode,
)
from explorer.accuracy.fisher import score_table
from explorer.accuracy.records import DesignRecord, MeasuredRun, Protocol, Tuning
from explorer.accuracy.scores import ScoreTable
from explorer.accuracy.tasks import TaskData, load_task
from explorer.accuracy.torch_bridge import GraphModule, model_module, slice_mask, state_digest
from explorer.design import Design, TrainingSetup, UpdatePolicy
from explorer.document import Named
from explorer.errors import ExplorerError, SpecError
from explorer.graph import INPUT, ModelGraph

FIRST_STEP_LOSS = 0.3
RATE_FACTORS = (1 / 3, 1.0, 3.0)
RATE_EXTENSIONS = 2
PREFIX_CHUNK = 50

Progress = Callable[[int, int], None]


class CancelledError(ExplorerError):
    """A measurement was stopped before its last episode; nothing was recorded."""


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """Query accuracy and negative log-likelihood before and after, and the training losses."""

    accuracy_before: float
    accuracy: float
    nll_before: float
    nll: float
    losses: tuple[float, ...]


def finetune(
    module: GraphModule,
    graph: ModelGraph,
    policy: UpdatePolicy,
    episode: Episode,
    *,
    scores: ScoreTable | None = None,
    learning_rate: float,
    steps: int = 40,
) -> EpisodeResult:
    """Fine-tune a copy of `module` on an episode and test it on the episode's queries.

    Without `scores`, channels chosen by a criterion are chosen on the episode's own
    support, as a device would.
    """
    start = first_trained_position(graph, policy)
    prefix = Prefix.of(module, episode, start)
    before = _test(module, prefix, episode)
    student, losses = train_copy(
        module,
        graph,
        policy,
        episode,
        scores=scores,
        learning_rate=learning_rate,
        steps=steps,
        prefix=prefix,
    )
    after = _test(student, prefix, episode) if losses else before
    return EpisodeResult(
        accuracy_before=before[0],
        accuracy=after[0],
        nll_before=before[1],
        nll=after[1],
        losses=losses,
    )


def train_copy(
    module: GraphModule,
    graph: ModelGraph,
    policy: UpdatePolicy,
    episode: Episode,
    *,
    scores: ScoreTable | None = None,
    learning_rate: float,
    steps: int = 40,
    prefix: "Prefix | None" = None,
) -> tuple[GraphModule, tuple[float, ...]]:
    """A trained copy of `module`, in evaluation mode, and the loss of each step.

    Without `prefix` every step starts from the images; the losses are the same.
    """
    student = copy.deepcopy(module)
    parameters = free_parameters(student, graph, policy, _resolved(module, graph, policy, episode, scores))
    if not parameters:
        return student, ()
    cut = Prefix.of(module, episode, 0) if prefix is None else prefix
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    losses = []
    _set_mode(student, graph, first_trained_position(graph, policy), training=True)
    for step in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = _loss(student, cut, episode, step % len(episode.views))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    _set_mode(student, graph, 0, training=False)
    return student, tuple(losses)


def gradient_l1(
    module: GraphModule,
    graph: ModelGraph,
    policy: UpdatePolicy,
    episode: Episode,
    scores: ScoreTable | None = None,
) -> float:
    """Sum of absolute loss gradients over the entries a policy trains, before any step."""
    student = copy.deepcopy(module)
    parameters = free_parameters(student, graph, policy, _resolved(module, graph, policy, episode, scores))
    if not parameters:
        return 0.0
    _loss(student, Prefix.of(module, episode, 0), episode, 0).backward()  # type: ignore[no-untyped-call]
    return sum(float(p.grad.abs().sum()) for p in parameters if p.grad is not None)


def chosen_channels(
    policy: UpdatePolicy, scores: ScoreTable | None
) -> tuple[tuple[int, ...], ...]:
    """Indices of the trained slices of each layer [L]; listed, or the best under `scores`."""
    if policy.channels is not None:
        return policy.channels
    if scores is None:
        if _needs_scores(policy):
            raise SpecError.of("scores", scores, f"a score table for selection {policy.selection}")
        return tuple(tuple(range(count)) for count in policy.slices)
    return tuple(
        tuple(int(i) for i in scores.order(layer, policy.selection, policy.channel_axis)[:count])
        for layer, count in enumerate(policy.slices)
    )


def free_parameters(
    module: GraphModule,
    graph: ModelGraph,
    policy: UpdatePolicy,
    channels: tuple[tuple[int, ...], ...],
) -> list[nn.Parameter]:
    """Freeze a module except for what a policy trains, and return that.

    A layer trained in part keeps a hook that zeroes the gradient outside its slices.
    """
    if policy.layer_names != graph.weighted:
        raise SpecError.of(f"policy {policy.family}", policy.layer_names[:3], f"layers of {graph.name}")
    module.requires_grad_(False)
    trained: list[nn.Parameter] = []
    for index, name in enumerate(graph.weighted):
        layer = module.get_submodule(name)
        norm = _norm_module(module, graph, name)
        if policy.slices[index]:
            weight = layer.weight
            assert isinstance(weight, nn.Parameter)
            trained.append(weight.requires_grad_(True))
            if policy.slices[index] < policy.slice_counts[index]:
                mask = slice_mask(weight, graph[name].groups, policy.channel_axis, channels[index])
                weight.register_hook(_masking(mask))
        if policy.update_bias[index]:
            owner = norm if layer.bias is None and norm is not None else layer
            assert isinstance(owner.bias, nn.Parameter)
            trained.append(owner.bias.requires_grad_(True))
        if policy.update_norm[index] and norm is not None:
            assert isinstance(norm.weight, nn.Parameter)
            trained.append(norm.weight.requires_grad_(True))
    return trained


def first_trained_position(graph: ModelGraph, policy: UpdatePolicy) -> int:
    """Position in `graph.layers` of the earliest layer with a trained entry, or their number."""
    position = {layer.name: index for index, layer in enumerate(graph.layers)}
    for index, name in enumerate(graph.weighted):
        norm = graph.norm_of(name)
        own_bias = policy.update_bias[index] and graph[name].has_bias
        if policy.slices[index] or own_bias:
            return position[name]
        if norm is not None and (policy.update_bias[index] or policy.update_norm[index]):
            return position[norm]
    return len(graph.layers)


@dataclass(frozen=True, eq=False)
class Prefix:
    """Tensors alive at a layer of the graph, for the fixed images of an episode.

    Each is a mapping of tensor name to values; `views` has one for each view.
    """

    start: int
    support: Mapping[str, Tensor]
    views: tuple[Mapping[str, Tensor], ...]
    queries: Mapping[str, Tensor]

    @classmethod
    def of(cls, module: GraphModule, episode: Episode, start: int) -> "Prefix":
        """Run the layers below `start` once."""
        return cls(
            start,
            _forward(module, episode.support, start),
            tuple(_forward(module, view, start) for view in episode.views),
            _forward(module, episode.queries, start),
        )


def measure(
    graph: ModelGraph,
    task_name: str,
    policy: UpdatePolicy,
    *,
    episodes: int = 10,
    seed: int = 0,
    protocol: Protocol | None = None,
    tuning_episodes: int = 4,
    module: GraphModule | None = None,
    on_episode: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> MeasuredRun:
    """Tune the rate, fine-tune on `episodes` paired episodes, and record what came out.

    `on_episode(done, total)` follows every fine-tuning, tuning ones included; a true
    `cancelled()` raises CancelledError. `module` None loads the network's own weights.
    """
    if episodes < 1 or tuning_episodes < 1:
        raise SpecError.of("episodes, tuning episodes", (episodes, tuning_episodes), "from 1")
    began = time.perf_counter()
    task = load_task(task_name)
    if task.input_shape != graph.input_shape:
        raise SpecError.of(f"input of task {task_name}", task.input_shape, f"{graph.input_shape}")
    network = model_module(graph) if module is None else module
    rules = Protocol(query_count=task.query_count) if protocol is None else protocol
    trains = first_trained_position(graph, policy) < len(graph.layers)
    tick = _Ticker(
        episodes + trains * tuning_episodes * len(RATE_FACTORS), on_episode, cancelled
    )
    with one_thread():
        tuning = Tuning(episodes=0, rates=(), accuracies=())
        rate = 0.0
        if trains:
            tuning = _tune(network, graph, policy, task, seed, tuning_episodes, rules, tick)
            rate = best_rate(dict(zip(tuning.rates, tuning.accuracies, strict=True)))
        results = []
        for index in range(episodes):
            tick.check()
            episode = _episode(task, seed, index, MEASURED_STREAM, rules)
            results.append(
                finetune(network, graph, policy, episode, learning_rate=rate, steps=rules.steps)
            )
            tick.done()
    before = np.array([result.accuracy_before for result in results])
    after = np.array([result.accuracy for result in results])
    return MeasuredRun(
        model=Named(name=graph.name, digest=graph.digest),
        weights_digest=state_digest(network),
        task=task_name,
        design=DesignRecord.of(measured_design(policy, rules)),
        seed=seed,
        episodes=episodes,
        protocol=rules,
        learning_rate=rate,
        tuning=tuning,
        accuracy_before=float(before.mean()),
        accuracy=float(after.mean()),
        standard_error=_standard_error(after),
        standard_error_gain=_standard_error(after - before),
        nll_before=float(np.mean([result.nll_before for result in results])),
        nll=float(np.mean([result.nll for result in results])),
        per_episode_accuracy_before=tuple(before.tolist()),
        per_episode_accuracy=tuple(after.tolist()),
        wall_time_s=time.perf_counter() - began,
        versions=_versions(),
    )


def measured_design(policy: UpdatePolicy, protocol: Protocol) -> Design:
    """A policy with the setup a measurement runs under: support and view in one batch, Adam."""
    batch = 2 * protocol.ways * protocol.shots
    setup = TrainingSetup(micro_batch=batch, optimizer="adam", update_timing="deferred")
    return Design(policy=policy, setup=setup)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, so that equal seeds give equal numbers anywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Ticker:
    """Counts fine-tunings and asks whether to go on."""

    def __init__(
        self, total: int, on_episode: Progress | None, cancelled: Callable[[], bool] | None
    ) -> None:
        self._count, self._total = 0, total
        self._on_episode, self._cancelled = on_episode, cancelled

    def check(self) -> None:
        if self._cancelled is not None and self._cancelled():
            raise CancelledError(f"stopped after {self._count} of {self._total} fine-tunings")

    def expect(self, more: int) -> None:
        self._total += more

    def done(self) -> None:
        self._count += 1
        if self._on_episode is not None:
            self._on_episode(self._count, self._total)


def _tune(
    module: GraphModule,
    graph: ModelGraph,
    policy: UpdatePolicy,
    task: TaskData,
    seed: int,
    count: int,
    rules: Protocol,
    tick: _Ticker,
) -> Tuning:
    """Mean accuracy of each rate on tuning episodes, rates rising.

    Three rates around `0.3 / sum|g|`; while the best is at an end, up to two more beyond it.
    """
    episodes = [_episode(task, seed, index, TUNING_STREAM, rules) for index in range(count)]
    slopes = [gradient_l1(module, graph, policy, episode) for episode in episodes]
    base = FIRST_STEP_LOSS / max(float(np.mean(slopes)), np.finfo(np.float32).tiny)

    def reached(rate: float) -> float:
        accuracies = []
        for episode in episodes:
            tick.check()
            result = finetune(
                module, graph, policy, episode, learning_rate=rate, steps=rules.steps
            )
            accuracies.append(result.accuracy)
            tick.done()
        return float(np.mean(accuracies))

    tried = {base * factor: reached(base * factor) for factor in RATE_FACTORS}
    for _ in range(RATE_EXTENSIONS):
        best = best_rate(tried)
        if best not in (min(tried), max(tried)):
            break
        beyond = best * (RATE_FACTORS[0] if best == min(tried) else RATE_FACTORS[-1])
        tick.expect(count)
        tried[beyond] = reached(beyond)
    rates = tuple(sorted(tried))
    return Tuning(episodes=count, rates=rates, accuracies=tuple(tried[rate] for rate in rates))


def best_rate(tried: Mapping[float, float]) -> float:
    """The rate of the highest accuracy; of equal ones the lowest, since nll suffers first."""
    return min(tried, key=lambda rate: (-tried[rate], rate))


def _episode(task: TaskData, seed: int, index: int, stream: int, rules: Protocol) -> Episode:
    return sample_episode(
        task,
        seed=seed,
        index=index,
        stream=stream,
        ways=rules.ways,
        shots=rules.shots,
        query_count=rules.query_count,
    )


def _resolved(
    module: GraphModule,
    graph: ModelGraph,
    policy: UpdatePolicy,
    episode: Episode,
    scores: ScoreTable | None,
) -> tuple[tuple[int, ...], ...]:
    if scores is None and _needs_scores(policy):
        scores = score_table(module, graph, [episode])
    return chosen_channels(policy, scores)


def _needs_scores(policy: UpdatePolicy) -> bool:
    partial = any(0 < t < w for t, w in zip(policy.slices, policy.slice_counts, strict=True))
    return policy.channels is None and policy.selection != "first" and partial


def _norm_module(module: GraphModule, graph: ModelGraph, name: str) -> nn.Module | None:
    norm = graph.norm_of(name)
    return None if norm is None else module.get_submodule(norm)


def _masking(mask: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient * mask


def _set_mode(module: GraphModule, graph: ModelGraph, start: int, *, training: bool) -> None:
    """Batch norms from `start` on use batch statistics while training; frozen ones never."""
    for layer in graph.layers[start:]:
        module.get_submodule(layer.name).train(training)


def _forward(module: GraphModule, images: Tensor, start: int) -> dict[str, Tensor]:
    with torch.no_grad():
        parts = [module.run({INPUT: part}, stop=start) for part in images.split(PREFIX_CHUNK)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _loss(module: GraphModule, prefix: Prefix, episode: Episode, view: int) -> Tensor:
    embeddings = _embeddings(module, prefix, prefix.views[view])
    return pseudo_query_loss(embeddings, episode.support_labels, episode.ways)


def _embeddings(module: GraphModule, prefix: Prefix, others: Mapping[str, Tensor]) -> Tensor:
    both = {name: torch.cat((prefix.support[name], others[name])) for name in others}
    return module.run(both, start=prefix.start)[module.graph.layers[-1].name]


def _test(module: GraphModule, prefix: Prefix, episode: Episode) -> tuple[float, float]:
    """Accuracy and mean negative log-likelihood of the queries."""
    with torch.no_grad():
        embeddings = _embeddings(module, prefix, prefix.queries)
        support, queries = embeddings.tensor_split([len(episode.support_labels)])
        logits = prototype_logits(support, episode.support_labels, episode.ways, queries)
        right = (logits.argmax(1) == episode.query_labels).double().mean()
        return float(right), float(functional.cross_entropy(logits, episode.query_labels))


def _standard_error(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None


def _versions() -> dict[str, str]:
    try:
        own = metadata.version("ondevice-explorer")
    except metadata.PackageNotFoundError:
        own = "not installed"
    return {
        "explorer": own,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
