"""The offline stage for signals: a network trained on a task's source domain.

All of it, or in phases one segment of it (mu-Training), under weighted cross-entropy, Adam and
a rate that falls along one cosine, on three quarters of the source and, where asked, on altered
views of them. The held-out quarter is the same in every run, so that `measure` can say what was
forgotten.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from explorer.accuracy.episodes import Outcome
from explorer.accuracy.lessons import Lesson, batches, check_outputs, make_lesson
from explorer.accuracy.progress import Cancelled, Progress, Ticker
from explorer.accuracy.tasks import SignalTask
from explorer.accuracy.tasks._signals import Signals
from explorer.accuracy.torch_bridge import GraphModule, one_thread, placed
from explorer.accuracy.trainer import train_copy
from explorer.design import LayerAxes, TrainingSetup, UpdatePolicy, everything
from explorer.errors import SpecError
from explorer.phases import Procedure

SOURCE_BATCH = 16
SOURCE_STEPS = 300
LEARNING_RATE = 3e-3
SOURCE_STREAM = 3
GAIN_SPREAD = 0.2  # of a channel's gain in a view
DROPPED_RATIO = 0.15  # of the channels of a view
NOISE_RATIO = 0.05  # of the standard deviation of all signals


@dataclass(frozen=True, eq=False, kw_only=True)
class SourceTraining:
    """A network trained on the source, and how it does on the source's held-out part."""

    module: GraphModule
    before: Outcome
    after: Outcome
    trained_count: int
    held_out_count: int


def train_source(
    module: GraphModule,
    task: SignalTask,
    *,
    steps: int = SOURCE_STEPS,
    batch: int = SOURCE_BATCH,
    learning_rate: float = LEARNING_RATE,
    views: int = 0,
    procedure: Procedure | None = None,
    policies: Mapping[str, UpdatePolicy] | None = None,
    seed: int = 0,
    device: str = "cpu",
    on_step: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> SourceTraining:
    """Train a copy of `module`, whose input a task must have (`task_for`), and test it.

    With `views` every signal is there so many times more, altered (`altered`). A `procedure`
    shares the steps among its phases, which train `policies` by their names, or all of it.
    SpecError when the task has no source domain, or the network too few outputs.
    """
    if not 0 < learning_rate < np.inf:
        raise SpecError.of("learning rate", learning_rate, "a number above 0")
    trained, held_out = task.source_split()
    if not len(trained):
        raise SpecError(
            f"task {task.name} has no source domain; mark the signals of the new domain in "
            f"`target`, and the others are the source"
        )
    check_outputs(module, task)
    module = placed(module, device)
    setup = TrainingSetup(micro_batch=batch, optimizer="adam", update_timing="deferred")
    rng = np.random.default_rng([seed, SOURCE_STREAM])
    lesson = make_lesson(task, trained, held_out, setup=setup, steps=steps, rng=rng)
    if views:
        lesson = _with_views(lesson, views, steps, batch, rng)
    tick = Ticker("steps", steps, on_step, cancelled)

    def after_step(_: int, __: GraphModule) -> None:
        tick.done()
        tick.check()

    with one_thread():
        student, _ = train_copy(
            module,
            module.graph,
            everything(LayerAxes.of(module.graph)),
            lesson,
            learning_rate=learning_rate,
            steps=steps,
            after_step=after_step,
            optimizer=setup.optimizer,
            schedule="cosine",
            phases=() if procedure is None else procedure.lasting(steps).phases,
            policies=policies,
        )
        before, after = (lesson.cut(net, 0).test(net) for net in (module, student))
    return SourceTraining(
        module=student,
        before=before,
        after=after,
        trained_count=len(trained),
        held_out_count=len(held_out),
    )


def altered(signals: Signals, rng: np.random.Generator) -> Signals:
    """A view of each of some signals [n, ..., T], as another electrode set and moment gives it.

    Shifted along time, around its ends; other gains of its channels, some of them 0; and noise.
    """
    count, length = len(signals), signals.shape[-1]
    channels = (*signals.shape[:-1], 1)
    places = (np.arange(length) + rng.integers(0, length, (count, 1))) % length
    shifted = np.stack([row[..., place] for row, place in zip(signals, places, strict=True)])
    gains = 1 + GAIN_SPREAD * rng.standard_normal(channels)
    gains *= rng.random(channels) >= DROPPED_RATIO
    noise = NOISE_RATIO * signals.std() * rng.standard_normal(signals.shape)
    view: Signals = (shifted * gains + noise).astype(np.float32)
    return view


def _with_views(
    lesson: Lesson, views: int, steps: int, batch: int, rng: np.random.Generator
) -> Lesson:
    plain = lesson.signals.numpy()
    whole = np.concatenate([plain, *(altered(plain, rng) for _ in range(views))])
    return replace(
        lesson,
        signals=torch.from_numpy(whole),
        labels=lesson.labels.repeat(views + 1),
        batches=torch.from_numpy(batches(len(whole), steps, batch, rng)),
    )
