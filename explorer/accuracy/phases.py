"""Training in phases on labelled signals, with or without future-guided self-distillation.

For networks that end in logits of several labels, each true or not. One AdamW goes through
all phases, and what a phase freezes has no gradient, so it stays as it is to the bit. Steps
of a distilled phase look ahead (explorer.accuracy.look_ahead); their loss is

    (1 - alpha) BCE_weighted(z, y) + alpha BCE(z, sigmoid(answer of the look-ahead))
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from explorer.accuracy.apply import apply_to_copy
from explorer.accuracy.look_ahead import Batch, LookAhead
from explorer.accuracy.torch_bridge import GraphModule, device_of, one_thread, seeded
from explorer.design import UpdatePolicy
from explorer.errors import SpecError
from explorer.phases import Procedure

SLOW_PARAMETERS = ("log_step", "log_decay", "frequency")  # of S4D: a lower rate, no decay

OnEpoch = Callable[[int, float, GraphModule], None]


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
    with one_thread(), seeded(run.student, rules.seed):
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
        self._optimizer = _optimizer(dict(student.named_parameters()), recipe)
        self._look_ahead = LookAhead(
            student, lambda named: _optimizer(named, recipe), seed=recipe.seed
        )
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
        self._look_ahead.begin()

    def set_rate(self, factor: float) -> None:
        """The learning rate of an epoch, as a factor on the first one."""
        for optimizer in (self._optimizer, self._look_ahead.optimizer):
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
        self._optimizer.zero_grad(set_to_none=True)
        batch = self._batch(inputs, labels)
        if self._distillation is None:
            loss = float(batch.backward(self.student))
        else:
            loss = float(self._look_ahead.backward(batch, self._distillation))
        if not np.isfinite(loss):
            rate = self._recipe.learning_rate
            raise SpecError.of("learning_rate", rate, "a lower one; the loss is not finite")
        self._optimizer.step()
        return loss

    def _batch(self, inputs: Tensor, labels: Tensor) -> Batch:
        """Binary cross-entropy, whose soft labels are probabilities and not weighted."""

        def loss(logits: Tensor, wanted: Tensor, weight: float) -> Tensor:
            mean = label_loss(logits, wanted, positive_weight=weight, active=self._active)
            return mean * (len(wanted) / len(labels))

        return Batch(
            inputs=inputs,
            micro_batch=self._recipe.micro_batch or len(inputs),
            loss=lambda logits, part: loss(
                logits, labels[part], self._recipe.positive_weight_ratio
            ),
            soft_loss=lambda logits, soft, _: loss(logits, soft, 1.0),
            answer=torch.sigmoid,
        )


def _optimizer(named: Mapping[str, Tensor], recipe: Recipe) -> torch.optim.AdamW:
    slow = [value for name, value in named.items() if name.endswith(SLOW_PARAMETERS)]
    usual = [value for name, value in named.items() if not name.endswith(SLOW_PARAMETERS)]
    rate = recipe.learning_rate
    groups = [
        {"params": usual, "lr": rate, "weight_decay": recipe.weight_decay_ratio},
        {"params": slow, "lr": rate * recipe.slow_rate_ratio, "weight_decay": 0.0},
    ]
    groups = [{**group, "first_rate": group["lr"]} for group in groups if group["params"]]
    return torch.optim.AdamW(groups)
