"""Real fine-tuning of a policy on episodes: the only place that mints measured accuracy.

Adam, constant rate, pseudo-queries in turn (the protocol of our pilot). Masks on
the gradients keep every entry outside the policy bit-identical. Below the first trained
layer nothing is differentiated, and since views are fixed its activations are computed
once. The rate is tuned per policy on other episodes: about `0.3 / sum|g|`, because the
first Adam step then promises 0.3 of loss; a common rate would rank rates, not policies.
"""

import copy
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn

from explorer.accuracy.apply import apply_to_copy, needs_scores
from explorer.accuracy.episodes import (
    TUNING_STREAM,
    Episode,
    Prefix,
    protocol_episode,
)
from explorer.accuracy.fisher import score_table
from explorer.accuracy.records import (
    FIXED,
    VARYING_MOST,
    DesignRecord,
    MeasuredRun,
    Protocol,
    Tuning,
)
from explorer.accuracy.scores import ScoreTable
from explorer.accuracy.tasks import SHOTS, TaskData, task_for
from explorer.accuracy.torch_bridge import (
    GraphModule,
    adapted_module,
    model_module,
    one_thread,
    state_digest,
)
from explorer.adapters import policy_with_adapters
from explorer.design import Design, TrainingSetup, UpdatePolicy
from explorer.device import first_problem
from explorer.document import Named
from explorer.errors import ExplorerError, SpecError
from explorer.graph import ModelGraph

FIRST_STEP_LOSS = 0.3
RATE_FACTORS = (1 / 3, 1.0, 3.0)
RATE_EXTENSIONS = 2
SMALLEST_SLOPE = 1e-30

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
    module, graph, policy = _with_adapters(module, graph, policy)
    start = first_trained_position(graph, policy)
    prefix = Prefix.of(module, episode, start)
    before = prefix.test(module)
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
    after = prefix.test(student) if losses else before
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
    prefix: Prefix | None = None,
) -> tuple[GraphModule, tuple[float, ...]]:
    """A trained copy of `module`, in evaluation mode, and the loss of each step.

    Without `prefix` every step starts from the images; the losses are the same.
    """
    module, graph, policy = _with_adapters(module, graph, policy)
    student, parameters = _student(module, graph, policy, episode, scores)
    if not parameters:
        return student, ()
    cut = Prefix.of(module, episode, 0) if prefix is None else prefix
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    losses = []
    _set_mode(student, graph, first_trained_position(graph, policy), training=True)
    for step in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = cut.loss(student, step % len(episode.views))
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
    module, graph, policy = _with_adapters(module, graph, policy)
    student, parameters = _student(module, graph, policy, episode, scores)
    if not parameters:
        return 0.0
    Prefix.of(module, episode, 0).loss(student, 0).backward()  # type: ignore[no-untyped-call]
    return sum(float(p.grad.abs().sum()) for p in parameters if p.grad is not None)


def first_trained_position(graph: ModelGraph, policy: UpdatePolicy) -> int:
    """Position of the earliest layer with a trained entry, or the number of layers.

    Counted in the layers of the network with the policy's adapters.
    """
    graph, policy = policy_with_adapters(graph, policy)
    position = {layer.name: index for index, layer in enumerate(graph.layers)}
    for index, name in enumerate(graph.weighted):
        norm = graph.norm_of(name)
        own_bias = policy.update_bias[index] and graph[name].has_bias
        if policy.slices[index] or own_bias:
            return position[name]
        if norm is not None and (policy.update_bias[index] or policy.update_norm[index]):
            return position[norm]
    return len(graph.layers)


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
    task = task_for(task_name, graph.input_shape)
    network = model_module(graph) if module is None else module
    rules = task_protocol(task) if protocol is None else protocol
    weights_digest = state_digest(network)
    design = DesignRecord.of(measured_design(policy, rules))
    network, wide, policy = _with_adapters(network, graph, policy)
    trains = first_trained_position(wide, policy) < len(wide.layers)
    tick = _Ticker(episodes + trains * tuning_episodes * len(RATE_FACTORS), on_episode, cancelled)
    with one_thread():
        tuning = Tuning(episodes=0, rates=(), accuracies=())
        rate = 0.0
        if trains:
            tuning = _tune(network, wide, policy, task, seed, tuning_episodes, rules, tick)
            rate = best_rate(dict(zip(tuning.rates, tuning.accuracies, strict=True)))
        results = []
        for index in range(episodes):
            tick.check()
            episode = protocol_episode(task, rules, seed=seed, index=index)
            results.append(
                finetune(network, wide, policy, episode, learning_rate=rate, steps=rules.steps)
            )
            tick.done()
    before = np.array([result.accuracy_before for result in results])
    after = np.array([result.accuracy for result in results])
    return MeasuredRun(
        model=Named(name=graph.name, digest=graph.digest),
        weights_digest=weights_digest,
        task=task_name,
        design=design,
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
        data_digest=task.digest,
    )


def task_protocol(task: TaskData, sampler: str = FIXED, **changes: int | None) -> Protocol:
    """What runs on a task use unless told otherwise, so that they can be paired.

    `changes` replaces ways, shots or query_count where it is not None.
    """
    usual = {"ways": task.ways, "shots": SHOTS, "query_count": task.query_count}
    usual = usual if sampler == FIXED else VARYING_MOST
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        return Protocol.model_validate({**usual, **given, "sampler": sampler})
    except ValidationError as error:
        raise SpecError(f"protocol: {first_problem(error)}") from None


def measured_design(policy: UpdatePolicy, protocol: Protocol) -> Design:
    """A policy with the setup a measurement runs under: support and view in one batch, Adam."""
    batch = 2 * protocol.support_count
    setup = TrainingSetup(micro_batch=batch, optimizer="adam", update_timing="deferred")
    return Design(policy=policy, setup=setup)


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
    episodes = [
        protocol_episode(task, rules, seed=seed, index=index, stream=TUNING_STREAM)
        for index in range(count)
    ]
    slopes = [gradient_l1(module, graph, policy, episode) for episode in episodes]
    base = FIRST_STEP_LOSS / max(float(np.mean(slopes)), SMALLEST_SLOPE)

    def reached(rate: float) -> float:
        accuracies = []
        for episode in episodes:
            tick.check()
            result = finetune(module, graph, policy, episode, learning_rate=rate, steps=rules.steps)
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
    return float(min(tried, key=lambda rate: (-tried[rate], rate)))


def _with_adapters(
    module: GraphModule, graph: ModelGraph, policy: UpdatePolicy
) -> tuple[GraphModule, ModelGraph, UpdatePolicy]:
    """The network that has a policy's adapters; the same three when there are none."""
    return adapted_module(module, policy.adapters), *policy_with_adapters(graph, policy)


def _student(
    module: GraphModule,
    graph: ModelGraph,
    policy: UpdatePolicy,
    episode: Episode,
    scores: ScoreTable | None,
) -> tuple[GraphModule, list[nn.Parameter]]:
    """A copy of a module that trains a policy, and its trained parameters."""
    if scores is None and needs_scores(policy):
        scores = score_table(module, graph, [episode])
    student = copy.deepcopy(module)
    return student, apply_to_copy(student, graph, policy, scores)


def _set_mode(module: GraphModule, graph: ModelGraph, start: int, *, training: bool) -> None:
    """Batch norms from `start` on use batch statistics while training; frozen ones never."""
    for layer in graph.layers[start:]:
        module.get_submodule(layer.name).train(training)


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
