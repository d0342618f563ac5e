"""Future-guided self-distillation (Huang et al., 2025, Algorithm 2): one step that looks ahead.

What a policy leaves frozen takes a step on the true labels, in a copy whose optimizer state
lasts through the run. What that network answers are soft labels of the loss:

    (1 - alpha) of the loss on the labels + alpha of the loss on the soft labels

Dropout masks of the look-ahead are drawn aside, so alpha = 0 trains exactly as without it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from explorer.accuracy.torch_bridge import GraphModule, seeded
from explorer.phases import Distillation

Network = Callable[[Tensor], Tensor]
Rule = Callable[[Mapping[str, nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """Samples of one weight update, how their loss is taken and what they answer.

    `loss(logits, part)` and `soft_loss(logits, soft, part)` are what the samples of a part
    add to the mean loss of the batch; `answer` makes soft labels of logits.
    """

    inputs: Tensor
    micro_batch: int
    loss: Callable[[Tensor, slice], Tensor]
    soft_loss: Callable[[Tensor, Tensor, slice], Tensor]
    answer: Callable[[Tensor], Tensor]

    def backward(
        self, network: Network, soft: Tensor | None = None, soft_ratio: float = 0.0
    ) -> Tensor:
        """Add the gradients of the batch's mean loss, a micro-batch at a time; that loss."""
        losses = []
        for start in range(0, len(self.inputs), self.micro_batch):
            part = slice(start, start + self.micro_batch)
            given = None if soft is None else soft[part]
            loss = self.mixed(network(self.inputs[part]), part, given, soft_ratio)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def mixed(self, logits: Tensor, part: slice, soft: Tensor | None, soft_ratio: float) -> Tensor:
        """The loss of a part, with its share of the soft labels where there are some."""
        hard = self.loss(logits, part)
        if soft is None:
            return hard
        return (1 - soft_ratio) * hard + soft_ratio * self.soft_loss(logits, soft, part)


class LookAhead:
    """Steps of a student that look ahead with all that does not train."""

    def __init__(self, student: GraphModule, rule: Rule, seed: int = 0) -> None:
        self._student = student
        self._named: dict[str, Tensor] = dict(student.named_parameters())
        self._copies = {
            name: nn.Parameter(value.detach().clone()) for name, value in self._named.items()
        }
        self.optimizer = rule(self._copies)
        self._aside = np.random.default_rng([seed, 1])
        self.begin()

    def begin(self) -> None:
        """Look ahead from now on with what does not train now."""
        self._own = [name for name, value in self._named.items() if value.requires_grad]
        self._ahead = [name for name in self._named if name not in self._own]

    def backward(self, batch: Batch, distillation: Distillation) -> Tensor:
        """Add the gradients of a step to what trains; its loss."""
        if not self._ahead:
            return batch.backward(self._student)
        ratio = distillation.soft_label_ratio
        if distillation.reuse_forward:
            return self._of_one_forward(batch, ratio)
        return batch.backward(self._student, self._soft_labels(batch), ratio)

    def _soft_labels(self, batch: Batch) -> Tensor:
        future = self._future()
        self._let_train(self._own, False)

        def network(part: Tensor) -> Tensor:
            return self._run(future, part)

        with seeded(self._student, int(self._aside.integers(2**31))):
            batch.backward(network)
            soft = self._answer_after_step(future, batch)
        self._let_train(self._own, True)
        return soft

    def _of_one_forward(self, batch: Batch, soft_ratio: float) -> Tensor:
        """Both backward passes on the tensors of one forward pass of the whole batch."""
        future, whole = self._future(), slice(None)
        self._let_train(self._ahead, True)
        logits = self._student(batch.inputs)
        hard = batch.loss(logits, whole)
        frozen = [self._named[name] for name in self._ahead]
        gradients = torch.autograd.grad(hard, frozen, retain_graph=True)
        for copied, gradient in zip(future.values(), gradients, strict=True):
            copied.grad = gradient
        with seeded(self._student, int(self._aside.integers(2**31))):
            soft = self._answer_after_step(future, batch)
        loss = batch.mixed(logits, whole, soft, soft_ratio)
        trained = [self._named[name] for name in self._own]
        for parameter, gradient in zip(trained, torch.autograd.grad(loss, trained), strict=True):
            parameter.grad = gradient
        self._let_train(self._ahead, False)
        return loss.detach()

    def _future(self) -> dict[str, nn.Parameter]:
        """Copies of the frozen parameters as they are now."""
        future = {name: self._copies[name] for name in self._ahead}
        with torch.no_grad():
            for name, copied in future.items():
                copied.copy_(self._named[name])
        return future

    def _answer_after_step(self, future: dict[str, nn.Parameter], batch: Batch) -> Tensor:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            return batch.answer(self._run(future, batch.inputs))

    def _run(self, future: dict[str, nn.Parameter], inputs: Tensor) -> Tensor:
        answer = functional_call(self._student, dict[str, Tensor](future), (inputs,))
        assert isinstance(answer, Tensor)
        return answer

    def _let_train(self, names: list[str], trains: bool) -> None:
        for name in names:
            self._named[name].requires_grad_(trains)
