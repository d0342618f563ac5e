"""The masked trainer: a policy really trained on an episode or lesson, for all families alike.

Episodes: Adam, constant rate, pseudo-queries in turn (the protocol of our pilot). Lessons:
the design's optimizer and micro-batches, and a rate that may fall along a cosine. Masks on
the gradients keep every entry outside the policy bit-identical. Below the first trained
layer nothing is differentiated, and since inputs are fixed its activations are computed
once. Everything runs where the module is.
"""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi

import torch
from torch import Tensor, nn

from explorer.accuracy.apply import apply_to_copy, needs_scores
from explorer.accuracy.episodes import Episode, Outcome, Prefix
from explorer.accuracy.fisher import score_table
from explorer.accuracy.lessons import Lesson, LessonPrefix
from explorer.accuracy.look_ahead import LookAhead
from explorer.accuracy.scores import ScoreTable
from explorer.accuracy.torch_bridge import GraphModule, adapted_module, seeded
from explorer.adapters import policy_with_adapters
from explorer.design import LayerAxes, UpdatePolicy, everything
from explorer.errors import SpecError
from explorer.graph import ModelGraph
from explorer.phases import FULL, OWN, Phase

AfterStep = Callable[[int, GraphModule], None]
MOMENTUM = 0.9
DROPOUT_SEED = 0


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """The tests before and after, and the training losses.

    `curve` holds the accuracies at the steps that were asked for.
    """

    before: Outcome
    after: Outcome
    losses: tuple[float, ...]
    curve: tuple[float, ...] = ()

    @property
    def accuracy_before(self) -> float:
        """Accuracy before any step."""
        return self.before.accuracy

    @property
    def accuracy(self) -> float:
        """Accuracy after the last step."""
        return self.after.accuracy

    @property
    def nll_before(self) -> float:
        """Mean negative log-likelihood before any step."""
        return self.before.nll

    @property
    def nll(self) -> float:
        """The same after the last step."""
        return self.after.nll


def finetune(
    module: GraphModule,
    graph: ModelGraph,
    policy: UpdatePolicy,
    episode: Episode | Lesson,
    *,
    scores: ScoreTable | None = None,
    learning_rate: float,
    steps: int = 40,
    test_at: Collection[int] = (),
    optimizer: str = "adam",
    schedule: str = "constant",
    phases: Sequence[Phase] = (),
    prefix: Prefix | LessonPrefix | None = None,
    before: Outcome | None = None,
) -> EpisodeResult:
    """Fine-tune a copy of `module` on an episode or lesson and test it on what that holds out.

    It is also tested after each step of `test_at`, 0 to `steps`, for the result's `curve`.

    Without `scores`, channels chosen by a criterion are chosen on the episode's own
    support, as a device would. Who has the episode at the policy's first trained layer, or the
    test of the module before, gives them as `prefix` and `before`.
    """
    module, graph, policy = adapted_to(module, graph, policy)
    start = first_position(graph, policy, phases)
    prefix = episode.cut(module, start) if prefix is None else prefix
    before = prefix.test(module) if before is None else before
    reached = dict.fromkeys(test_at, before.accuracy)

    def test(step: int, student: GraphModule) -> None:
        if step in reached:
            _set_mode(student, graph, 0, training=False)
            reached[step] = prefix.test(student).accuracy
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
        optimizer=optimizer,
        schedule=schedule,
        phases=phases,
    )
    return EpisodeResult(
        before=before,
        after=prefix.test(student) if losses else before,
        losses=losses,
        curve=tuple(reached[step] for step in test_at),
    )


def train_copy(
    module: GraphModule,
    graph: ModelGraph,
    policy: UpdatePolicy,
    episode: Episode | Lesson,
    *,
    scores: ScoreTable | None = None,
    learning_rate: float,
    steps: int = 40,
    prefix: Prefix | LessonPrefix | None = None,
    after_step: AfterStep | None = None,
    optimizer: str = "adam",
    schedule: str = "constant",
    phases: Sequence[Phase] = (),
    policies: Mapping[str, UpdatePolicy] | None = None,
) -> tuple[GraphModule, tuple[float, ...]]:
    """A trained copy of `module`, in evaluation mode, and the loss of each step.

    Without `prefix` every step starts from the images; the losses are the same.
    `after_step(number, student)` follows every step, from 1. `optimizer` is one of
    explorer.design.OPTIMIZERS, `schedule` constant or cosine. `phases` split the steps between
    the policy (`own`), `policies` by their names and full training; one optimizer goes through
    all of them, and what a phase freezes has no gradient. A policy that distils looks ahead in
    its steps, on lessons.
    """
    module, graph, policy = adapted_to(module, graph, policy)
    start = first_position(graph, policy, phases)
    if start == len(graph.layers):
        return copy.deepcopy(module), ()
    cut = episode.cut(module, 0) if prefix is None else prefix
    student = copy.deepcopy(module)
    rules = [make_optimizer(optimizer, list(student.parameters()), learning_rate)]
    look_ahead = None
    named = {FULL: everything(LayerAxes.of(graph)), OWN: policy, **(policies or {})}
    if unknown := [phase.policy for phase in phases if phase.policy not in named]:
        raise SpecError.of("policy of a phase", unknown[0], ", ".join(named))
    if any(one.distillation is not None for one in named.values()):
        look_ahead = LookAhead(
            student, lambda copies: make_optimizer(optimizer, list(copies.values()), learning_rate)
        )
        rules.append(look_ahead.optimizer)
    if scores is None and needs_scores(policy):
        scores = score_table(module, graph, [episode])
    losses: list[Tensor] = []
    _set_mode(student, graph, start, training=True)
    with seeded(student, DROPOUT_SEED):
        for phase in phases or (Phase(policy=OWN, epoch_count=steps),):
            trained = named[phase.policy]
            apply_to_copy(student, graph, trained, scores)
            if look_ahead is not None:
                look_ahead.begin()
            for step in range(len(losses), len(losses) + phase.epoch_count):
                if schedule == "cosine":
                    for rule in rules:
                        set_rate(rule, learning_rate * (1 + cos(pi * step / steps)) / 2)
                rules[0].zero_grad(set_to_none=True)
                if look_ahead is None or trained.distillation is None:
                    losses.append(cut.backward(student, step))
                else:
                    assert isinstance(cut, LessonPrefix)
                    losses.append(look_ahead.backward(cut.batch(step), trained.distillation))
                rules[0].step()
                if after_step is not None:
                    after_step(step + 1, student)
    _set_mode(student, graph, 0, training=False)
    return student, tuple(torch.stack(losses).tolist())


def make_optimizer(
    name: str, parameters: list[nn.Parameter], learning_rate: float
) -> torch.optim.Optimizer:
    """sgd, sgd-momentum (0.9) or adam, without weight decay, as masks need."""
    if name == "adam":
        return torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    momentum = MOMENTUM if name == "sgd-momentum" else 0.0
    return torch.optim.SGD(parameters, lr=learning_rate, momentum=momentum)


def set_rate(rule: torch.optim.Optimizer, learning_rate: float) -> None:
    """Another rate for all parameters."""
    for group in rule.param_groups:
        group["lr"] = learning_rate


def loss_slope(
    module: GraphModule,
    graph: ModelGraph,
    policy: UpdatePolicy,
    episode: Episode | Lesson,
    scores: ScoreTable | None = None,
    prefix: Prefix | LessonPrefix | None = None,
    optimizer: str = "adam",
) -> float:
    """How fast the loss falls at first with the rate of an optimizer, over trained entries.

    The first step of Adam is the rate times the sign of the gradient, so sum |g|. That of
    gradient descent is the rate times the gradient, so sum g^2; momentum 0.9 makes steps ten
    times as long before long.
    """
    module, graph, policy = adapted_to(module, graph, policy)
    student, parameters = _student(module, graph, policy, episode, scores)
    if not parameters:
        return 0.0
    cut = episode.cut(module, 0) if prefix is None else prefix
    cut.backward(student, 0)
    gradients = [p.grad for p in parameters if p.grad is not None]
    if optimizer == "adam":
        return float(sum(gradient.abs().sum() for gradient in gradients))
    longer = 1 / (1 - MOMENTUM) if optimizer == "sgd-momentum" else 1.0
    return longer * float(sum(gradient.square().sum() for gradient in gradients))


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


def first_position(graph: ModelGraph, policy: UpdatePolicy, phases: Sequence[Phase] = ()) -> int:
    """The same over phases, for a run; a step that looks ahead trains a copy of the rest."""
    ahead = policy.distillation is not None
    if ahead or any(phase.policy != OWN for phase in phases):
        return 0
    return first_trained_position(graph, policy)


def adapted_to(
    module: GraphModule, graph: ModelGraph, policy: UpdatePolicy
) -> tuple[GraphModule, ModelGraph, UpdatePolicy]:
    """The network that has a policy's adapters; the same three when there are none."""
    return adapted_module(module, policy.adapters), *policy_with_adapters(graph, policy)


def _student(
    module: GraphModule,
    graph: ModelGraph,
    policy: UpdatePolicy,
    episode: Episode | Lesson,
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
