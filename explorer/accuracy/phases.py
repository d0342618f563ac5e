"""Training in phases on labelled signals, with or without future-guided self-distillation.

For networks that end in logits of several labels, each true or not. One AdamW goes through
all phases, and what a phase freezes has no gradient, so it stays as it is to the bit. The
look-ahead of a distilled step (Huang et al., 2025, Algorithm 2) is taken by a copy of the
frozen parameters with optimizer state of its own, which lasts through the run:

    soft = sigmoid(f(x; look-ahead step on the true labels))
    loss = (1 - alpha) BCE_weighted(z, y) + alpha BCE(z, soft)

Its dropout masks are drawn aside, so alpha = 0 trains exactly as without the look-ahead.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from explorer.accuracy.apply import apply_to_copy
from explorer.accuracy.torch_bridge import GraphModule, device_of, one_thread
from explorer.design import UpdatePolicy
from explorer.errors import SpecError
from explorer.phases import Distillation, Procedure

SLOW_PARAMETERS = ("log_step", "log_decay", "frequency")  # of S4D: a lower rate, no decay

OnEpoch = Callable[[int, float, GraphModule], None]
Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How phases are trained; the defaults are those of the authors' scripts.

    The poles and steps of S4D learn `slow_rate_ratio` times as fast, without decay. True
    labels weigh `positive_weight_ratio` times as much as false ones. `active` says which
    labels count in the loss, all if None. Without `micro_batch` a batch runs at once.
    """

    learning_rate: float = 0.003
    slow_rate_ratio: float = 1 / 3
    weight_decay_ratio: float = 0.01
    positive_weight_ratio: float = 6.0
    batch: int = 32
    micro_batch: int | None = None
    active: tuple[bool, ...] | None = None
    seed: int = 0


def train_phases(
    module: GraphModule,
    procedure: Procedure,
    policies: Sequence[UpdatePolicy],
    inputs: Tensor,
    labels: Tensor,
    *,
    recipe: Recipe | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[GraphModule, tuple[tuple[float, ...], ...]]:
    """A trained copy of `module`, in evaluation mode, and each phase's mean loss by epoch.

    `policies` are those that the phases name, in order, built for the module's graph; they
    train layers wholly. `inputs` [N, ...], `labels` [N, K] in 0..1, both where the module is.
    `on_epoch(number, loss, student)` follows every epoch, from 1.
    """
    rules = recipe or Recipe()
    if len(policies) != len(procedure.phases):
        raise SpecError.of("policies", len(policies), f"one a phase, {len(procedure.phases)}")
    run = _Run(copy.deepcopy(module), rules)
    order = np.random.default_rng(rules.seed)
    losses: list[tuple[float, ...]] = []
    done = 0
    with one_thread(), _seeded(run.student, rules.seed):
        for policy, factors in zip(policies, procedure.rate_factors(), strict=True):
            run.start(policy)
            of_phase = []
            for factor in factors:
                run.set_rate(factor)
                of_phase.append(run.epoch(inputs, labels, order.permutation(len(inputs))))
                done += 1
                if on_epoch is not None:
                    on_epoch(done, of_phase[-1], run.student)
            losses.append(tuple(of_phase))
    run.student.requires_grad_(False)
    return run.student.eval(), tuple(losses)


def label_loss(
    logits: Tensor, labels: Tensor, *, positive_weight: float = 1.0, active: Tensor | None = None
) -> Tensor:
    """Mean binary cross-entropy of logits [N, K] over the labels that count [K]."""
    if active is not None:
        logits, labels = logits[:, active], labels[:, active]
    weight = torch.full_like(logits[0], positive_weight)
    return functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=weight)


class _Run:
    """A student in training: two optimizers, and which parameters move in the phase."""

    def __init__(self, student: GraphModule, recipe: Recipe) -> None:
        self.student, self._recipe = student, recipe
        self._named: dict[str, Tensor] = dict(student.named_parameters())
        self._future: dict[str, Tensor] = {
            name: nn.Parameter(value.detach().clone()) for name, value in self._named.items()
        }
        self._optimizers = [_optimizer(group, recipe) for group in (self._named, self._future)]
        self._aside = np.random.default_rng([recipe.seed, 1])
        active = recipe.active
        self._active = None if active is None else torch.tensor(active, device=device_of(student))

    def start(self, policy: UpdatePolicy) -> None:
        """Begin a phase; SpecError when a layer would train in part."""
        for name, taken, whole in zip(
            policy.layer_names, policy.slices, policy.slice_counts, strict=True
        ):
            if 0 < taken < whole:
                raise SpecError.of(f"trained slices of {name}", taken, f"0 or all {whole}")
        apply_to_copy(self.student, self.student.graph, policy, None)
        self._distillation = policy.distillation
        self._own = [name for name, value in self._named.items() if value.requires_grad]
        self._ahead = [name for name in self._named if name not in self._own]

    def set_rate(self, factor: float) -> None:
        """The learning rate of an epoch, as a factor on the first one."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["first_rate"] * factor

    def epoch(self, inputs: Tensor, labels: Tensor, order: np.ndarray) -> float:
        """Train on every sample once, in that order; the mean loss."""
        self.student.train()
        total = 0.0
        for start in range(0, len(order), self._recipe.batch):
            chosen = torch.as_tensor(order[start : start + self._recipe.batch])
            total += self._step(inputs[chosen], labels[chosen]) * len(chosen)
        return total / len(order)

    def _step(self, inputs: Tensor, labels: Tensor) -> float:
        optimizer = self._optimizers[0]
        optimizer.zero_grad(set_to_none=True)
        distillation = self._distillation
        if distillation is None or not self._ahead:
            loss = self._accumulate(self.student, inputs, labels)
        elif distillation.reuse_forward:
            loss = self._step_of_one_forward(inputs, labels, distillation)
        else:
            soft = self._soft_labels(inputs, labels)
            loss = self._accumulate(
                self.student, inputs, labels, soft, distillation.soft_label_ratio
            )
        if not np.isfinite(loss):
            rate = self._recipe.learning_rate
            raise SpecError.of("learning_rate", rate, "a lower one; the loss is not finite")
        optimizer.step()
        return loss

    def _soft_labels(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """What the network would answer if all that is frozen took a step."""
        future = self._future_parameters()
        self._let_train(self._own, False)

        def network(part: Tensor) -> Tensor:
            answer = functional_call(self.student, future, (part,))
            assert isinstance(answer, Tensor)
            return answer

        with _seeded(self.student, int(self._aside.integers(2**31))):
            self._accumulate(network, inputs, labels)
            soft = self._answer_after_step(future, inputs)
        self._let_train(self._own, True)
        return soft

    def _step_of_one_forward(
        self, inputs: Tensor, labels: Tensor, distillation: Distillation
    ) -> float:
        """Both backward passes on the tensors of one forward pass."""
        future = self._future_parameters()
        self._let_train(self._ahead, True)
        logits = self.student(inputs)
        hard = self._loss(logits, labels)
        frozen = [self._named[name] for name in self._ahead]
        gradients = torch.autograd.grad(hard, frozen, retain_graph=True)
        for copied, gradient in zip(future.values(), gradients, strict=True):
            copied.grad = gradient
        with _seeded(self.student, int(self._aside.integers(2**31))):
            soft = self._answer_after_step(future, inputs)
        loss = self._loss(logits, labels, soft, distillation.soft_label_ratio)
        trained = [self._named[name] for name in self._own]
        for parameter, gradient in zip(trained, torch.autograd.grad(loss, trained), strict=True):
            parameter.grad = gradient
        self._let_train(self._ahead, False)
        return float(loss.detach())

    def _future_parameters(self) -> dict[str, Tensor]:
        """Copies of the frozen parameters as they are now."""
        future = {name: self._future[name] for name in self._ahead}
        with torch.no_grad():
            for name, copied in future.items():
                copied.copy_(self._named[name])
        return future

    def _answer_after_step(self, future: dict[str, Tensor], inputs: Tensor) -> Tensor:
        optimizer = self._optimizers[1]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            answer = functional_call(self.student, future, (inputs,))
            assert isinstance(answer, Tensor)
            return answer.sigmoid()

    def _accumulate(
        self,
        network: Network,
        inputs: Tensor,
        labels: Tensor,
        soft: Tensor | None = None,
        soft_ratio: float = 0.0,
    ) -> float:
        """Gradients of a batch's mean loss, one micro-batch after the other; that loss."""
        size, total = self._recipe.micro_batch or len(inputs), 0.0
        for start in range(0, len(inputs), size):
            part = slice(start, start + size)
            given = None if soft is None else soft[part]
            loss = self._loss(network(inputs[part]), labels[part], given, soft_ratio)
            loss = loss * (len(labels[part]) / len(labels))
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total

    def _loss(
        self, logits: Tensor, labels: Tensor, soft: Tensor | None = None, soft_ratio: float = 0.0
    ) -> Tensor:
        weight = self._recipe.positive_weight_ratio
        hard = label_loss(logits, labels, positive_weight=weight, active=self._active)
        if soft is None:
            return hard
        return (1 - soft_ratio) * hard + soft_ratio * label_loss(logits, soft, active=self._active)

    def _let_train(self, names: Sequence[str], trains: bool) -> None:
        for name in names:
            self._named[name].requires_grad_(trains)


def _optimizer(named: dict[str, Tensor], recipe: Recipe) -> torch.optim.AdamW:
    slow = [value for name, value in named.items() if name.endswith(SLOW_PARAMETERS)]
    usual = [value for name, value in named.items() if not name.endswith(SLOW_PARAMETERS)]
    rate = recipe.learning_rate
    groups = [
        {"params": usual, "lr": rate, "weight_decay": recipe.weight_decay_ratio},
        {"params": slow, "lr": rate * recipe.slow_rate_ratio, "weight_decay": 0.0},
    ]
    groups = [{**group, "first_rate": group["lr"]} for group in groups if group["params"]]
    return torch.optim.AdamW(groups)


@contextmanager
def _seeded(module: nn.Module, seed: int) -> Iterator[None]:
    """Draw dropout masks from a seed, and leave torch's generators as they were."""
    device = device_of(module)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
