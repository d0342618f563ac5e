"""Lessons: labelled signals of the target to adapt on, others to test on, and the source's.

The supervised counterpart of an episode: the network's own logits, weighted cross-entropy,
batches in shuffled order, each step's loss a mean over the effective batch however it is
split into micro-batches. Only the first logits are used where a network has more outputs than
the task has classes. Equal seeds give equal splits and equal batches.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from explorer.accuracy.episodes import MEASURED_STREAM, Outcome, run_between
from explorer.accuracy.look_ahead import Batch
from explorer.accuracy.metrics import scores
from explorer.accuracy.protocols import LESSON_SCORED, LessonProtocol
from explorer.accuracy.tasks import SignalTask
from explorer.accuracy.torch_bridge import GraphModule, device_of
from explorer.design import TrainingSetup
from explorer.errors import SpecError
from explorer.graph import INPUT
from explorer.units import IntArray

LESSON_SETUP = TrainingSetup(micro_batch=8, optimizer="sgd-momentum", update_timing="deferred")


@dataclass(frozen=True, eq=False, kw_only=True)
class Lesson:
    """One adaptation problem of K classes.

    `signals` [S, ...] and `labels` [S] are trained on in the batches `batches` [steps, B] of
    indices; `test_signals` and `source_signals`, which may be none, are tested on.
    `class_weights` [K] make every class count alike.
    """

    signals: Tensor
    labels: Tensor
    test_signals: Tensor
    test_labels: Tensor
    source_signals: Tensor
    source_labels: Tensor
    class_weights: Tensor
    batches: Tensor
    micro_batch: int

    def to(self, device: torch.device) -> "Lesson":
        """The same on a device."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if torch.is_tensor(value)
        }
        return replace(self, **moved)

    def cut(self, module: GraphModule, start: int) -> "LessonPrefix":
        """The lesson with its signals run up to layer `start`."""
        return LessonPrefix.of(module, self, start)

    def first_step(self) -> "Lesson":
        """The same with no more than its first step and scores need: no tests."""
        return replace(
            self, test_signals=self.test_signals[:1], source_signals=self.source_signals[:0]
        )

    def scored(self) -> Tensor:
        """Signals that channel scores are taken on."""
        return self.signals[:LESSON_SCORED]

    def score_loss(self, logits: Tensor) -> tuple[Tensor, int]:
        """Mean loss of those signals, and how many it is a mean over."""
        labels = self.labels[:LESSON_SCORED]
        return self.loss(logits, labels) / self.class_weights[labels].sum(), len(labels)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Weighted cross-entropy, summed; logits [n, at least K]."""
        known = logits[:, : len(self.class_weights)]
        return functional.cross_entropy(known, labels, weight=self.class_weights, reduction="sum")


@dataclass(frozen=True, eq=False)
class LessonPrefix:
    """A lesson's signals run up to a layer of the graph: tensors alive there, by name."""

    lesson: Lesson
    start: int
    signals: Mapping[str, Tensor]
    tests: Mapping[str, Tensor]
    source: Mapping[str, Tensor]

    @classmethod
    def of(cls, module: GraphModule, lesson: Lesson, start: int) -> "LessonPrefix":
        """Run the layers below position `start`; 0 keeps the signals."""
        lesson = lesson.to(device_of(module))
        parts = (lesson.signals, lesson.test_signals, lesson.source_signals)
        return cls(lesson, 0, *({INPUT: part} for part in parts)).moved_to(module, start)

    def moved_to(self, module: GraphModule, start: int) -> "LessonPrefix":
        """The same lesson further up; nothing to train on where nothing is left to train.

        Nor is anything run of a source that has no signals, which some operators refuse.
        """
        trains = start < len(module.graph.layers)
        has_source = len(self.lesson.source_signals) > 0
        return LessonPrefix(
            self.lesson,
            start,
            run_between(module, self.signals, self.start, start) if trains else {},
            run_between(module, self.tests, self.start, start),
            run_between(module, self.source, self.start, start) if has_source else {},
        )

    def backward(self, module: GraphModule, step: int) -> Tensor:
        """Add the gradients of one step's mean loss, a micro-batch at a time; the loss."""
        lesson = self.lesson
        batch = lesson.batches[step]
        whole = lesson.class_weights[lesson.labels[batch]].sum()
        losses = []
        for part in torch.split(batch, lesson.micro_batch):
            cut = {name: kept[part] for name, kept in self.signals.items()}
            logits = module.run(cut, start=self.start)[module.graph.layers[-1].name]
            loss = lesson.loss(logits, lesson.labels[part]) / whole
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def batch(self, step: int) -> Batch:
        """One step's signals for a step that looks ahead; soft labels are not weighted."""
        lesson = self.lesson
        chosen = lesson.batches[step]
        labels = lesson.labels[chosen]
        whole, classes = lesson.class_weights[labels].sum(), len(lesson.class_weights)

        def soft_loss(logits: Tensor, soft: Tensor, _: slice) -> Tensor:
            total = functional.cross_entropy(logits[:, :classes], soft, reduction="sum")
            return total / len(labels)

        return Batch(
            inputs=lesson.signals[chosen],
            micro_batch=lesson.micro_batch,
            loss=lambda logits, part: lesson.loss(logits, labels[part]) / whole,
            soft_loss=soft_loss,
            answer=lambda logits: logits[:, :classes].softmax(1),
        )

    def test(self, module: GraphModule) -> Outcome:
        """How the held-out signals of both domains are classified.

        Signals run in the parts the prefix was made in, so the cut changes no digit.
        """
        lesson = self.lesson
        logits = self._logits(module, self.tests)
        source: Mapping[str, float | None] = {}
        if len(lesson.source_labels):
            source = _scores(self._logits(module, self.source), lesson.source_labels)
        metrics = _scores(logits, lesson.test_labels)
        accuracy = metrics["accuracy"]
        assert accuracy is not None
        nll = float(functional.cross_entropy(logits, lesson.test_labels))
        return Outcome(accuracy, nll, metrics, source)

    def _logits(self, module: GraphModule, tensors: Mapping[str, Tensor]) -> Tensor:
        layers = module.graph.layers
        logits = run_between(module, tensors, self.start, len(layers))[layers[-1].name]
        return logits[:, : len(self.lesson.class_weights)]


def sample_lesson(
    task: SignalTask,
    rules: LessonProtocol,
    setup: TrainingSetup,
    *,
    seed: int,
    index: int,
    stream: int = MEASURED_STREAM,
) -> Lesson:
    """Repeat `index` of a seed: a split of the target, and the batches of every step.

    Streams other than the measured one split what that repeat adapts on once more, so its
    tests are not looked at before the measurement.
    """
    adapted, tested = task.target_split(seed, index)
    if stream != MEASURED_STREAM:
        adapted, tested = task.part(adapted, seed + stream, index)
    rng = np.random.default_rng([seed, stream, index])
    source = task.source_split()[1]
    return make_lesson(task, adapted, tested, source, setup=setup, steps=rules.steps, rng=rng)


def make_lesson(
    task: SignalTask,
    trained: IntArray,
    tested: IntArray,
    source: IntArray | None = None,
    *,
    setup: TrainingSetup,
    steps: int,
    rng: np.random.Generator,
) -> Lesson:
    """A lesson of some signals of a task, by index; batches are drawn from `rng`."""
    none = np.array([], dtype=np.int64)
    return Lesson(
        **_labelled(task, "", trained),
        **_labelled(task, "test_", tested),
        **_labelled(task, "source_", none if source is None else source),
        class_weights=class_weights(task, trained),
        batches=torch.from_numpy(batches(len(trained), steps, setup.effective_batch, rng)),
        micro_batch=setup.micro_batch,
    )


def class_weights(task: SignalTask, index: IntArray) -> Tensor:
    """Weights [K] by which the classes of some signals count alike; mean 1 over the signals."""
    counts = np.bincount(task.labels[index], minlength=len(task.class_names))
    present = counts > 0
    weights = np.where(present, len(index) / (present.sum() * np.maximum(counts, 1)), 0.0)
    return torch.from_numpy(weights.astype(np.float32))


def batches(count: int, steps: int, batch: int, rng: np.random.Generator) -> IntArray:
    """Indices of `count` signals for each step [steps, batch], all of them before any again."""
    passes = -(-steps * batch // count)
    order = np.concatenate([rng.permutation(count) for _ in range(passes)])
    drawn: IntArray = order[: steps * batch].reshape(steps, batch)
    return drawn


def check_outputs(module: GraphModule, task: SignalTask) -> None:
    """SpecError unless a network ends in at least as many logits as a task has classes."""
    graph = module.graph
    last = graph.layers[-1]
    if last.op == "global_avgpool" or last.out_shape[0] < len(task.class_names):
        raise SpecError.of(
            f"output of {graph.name}",
            f"{last.op} {last.out_shape}",
            f"a classifier of at least {len(task.class_names)} classes for task {task.name}",
        )


def _labelled(task: SignalTask, prefix: str, index: IntArray) -> dict[str, Tensor]:
    return {
        f"{prefix}signals": torch.from_numpy(task.signals[index]),
        f"{prefix}labels": torch.from_numpy(task.labels[index]),
    }


def _scores(logits: Tensor, labels: Tensor) -> dict[str, float | None]:
    return scores(logits.double().cpu().numpy(), labels.cpu().numpy())
