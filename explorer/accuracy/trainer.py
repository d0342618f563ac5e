"""The masked trainer: a policy really trained on an episode, for every family alike.

Adam, constant rate, pseudo-queries in turn (the protocol of our pilot). Masks on
the gradients keep every entry outside the policy bit-identical. Below the first trained
layer nothing is differentiated, and since views are fixed its activations are computed
once. Everything runs where the module is.
"""

import copy
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import nn

from explorer.accuracy.apply import apply_to_copy, needs_scores
from explorer.accuracy.episodes import Episode, Prefix
from explorer.accuracy.fisher import score_table
from explorer.accuracy.scores import ScoreTable
from explorer.accuracy.torch_bridge import GraphModule, adapted_module
from explorer.adapters import policy_with_adapters
from explorer.design import UpdatePolicy
from explorer.graph import ModelGraph

AfterStep = Callable[[int, GraphModule], None]


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """Query accuracy and negative log-likelihood before and after, and the training losses.

    `curve` holds the accuracies at the steps that were asked for.
    """

    accuracy_before: float
    accuracy: float
    nll_before: float
    nll: float
    losses: tuple[float, ...]
    curve: tuple[float, ...] = ()


def finetune(
    module: GraphModule,
    graph: ModelGraph,
    policy: UpdatePolicy,
    episode: Episode,
    *,
    scores: ScoreTable | None = None,
    learning_rate: float,
    steps: int = 40,
    test_at: Collection[int] = (),
    prefix: Prefix | None = None,
    before: tuple[float, float] | None = None,
) -> EpisodeResult:
    """Fine-tune a copy of `module` on an episode and test it on the episode's queries.

    It is also tested after each step of `test_at`, 0 to `steps`, for the result's `curve`.

    Without `scores`, channels chosen by a criterion are chosen on the episode's own
    support, as a device would. Who has the episode at the policy's first trained layer, or the
    test of the module before, gives them as `prefix` and `before`.
    """
    module, graph, policy = adapted_to(module, graph, policy)
    start = first_trained_position(graph, policy)
    prefix = Prefix.of(module, episode, start) if prefix is None else prefix
    before = prefix.test(module) if before is None else before
    reached = dict.fromkeys(test_at, before[0])

    def test(step: int, student: GraphModule) -> None:
        if step in reached:
            _set_mode(student, graph, 0, training=False)
            reached[step] = prefix.test(student)[0]
            _set_mode(student, graph, start, training=True)

    student, losses = train_copy(
        module,
        graph,
        policy,
        episode,
        scores=scores,
        learning_rate=learning_rate,
        steps=steps,
        prefix=prefix,
        after_step=test,
    )
    after = prefix.test(student) if losses else before
    return EpisodeResult(
        accuracy_before=before[0],
        accuracy=after[0],
        nll_before=before[1],
        nll=after[1],
        losses=losses,
        curve=tuple(reached[step] for step in test_at),
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
    after_step: AfterStep | None = None,
) -> tuple[GraphModule, tuple[float, ...]]:
    """A trained copy of `module`, in evaluation mode, and the loss of each step.

    Without `prefix` every step starts from the images; the losses are the same.
    `after_step(number, student)` follows every step, from 1.
    """
    module, graph, policy = adapted_to(module, graph, policy)
    student, parameters = _student(module, graph, policy, episode, scores)
    if not parameters:
        return student, ()
    cut = Prefix.of(module, episode, 0) if prefix is None else prefix
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    losses = []
    _set_mode(student, graph, first_trained_position(graph, policy), training=True)
    for step in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = cut.loss(student, step % cut.view_count)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.detach())
        if after_step is not None:
            after_step(step + 1, student)
    _set_mode(student, graph, 0, training=False)
    return student, tuple(torch.stack(losses).tolist())


def gradient_l1(
    module: GraphModule,
    graph: ModelGraph,
    policy: UpdatePolicy,
    episode: Episode,
    scores: ScoreTable | None = None,
    prefix: Prefix | None = None,
) -> float:
    """Sum of absolute loss gradients over the entries a policy trains, before any step."""
    module, graph, policy = adapted_to(module, graph, policy)
    student, parameters = _student(module, graph, policy, episode, scores)
    if not parameters:
        return 0.0
    cut = Prefix.of(module, episode, 0) if prefix is None else prefix
    cut.loss(student, 0).backward()  # type: ignore[no-untyped-call]
    return float(sum(p.grad.abs().sum() for p in parameters if p.grad is not None))


def first_trained_position(graph: ModelGraph, policy: UpdatePolicy) -> int:
    """Position of the earliest layer with a trained entry, or the number of layers.

    Counted in the layers of the network with the policy's adapters.
    """
    graph, policy = policy_with_adapters(graph, policy)
    position = {layer.name: index for index, layer in enumerate(graph.layers)}
    trained = []
    for index, name in enumerate(graph.weighted):
        norm = graph.norm_of(name)
        own_bias = policy.update_bias[index] and graph[name].has_bias
        if policy.slices[index] or own_bias:
            trained.append(position[name])
        if norm is not None and (policy.update_bias[index] or policy.update_norm[index]):
            trained.append(position[norm])
    return min(trained, default=len(graph.layers))


def adapted_to(
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
