"""The offline stage for signals: a network trained on a task's source domain.

All of it under weighted cross-entropy, Adam and a rate that falls along a cosine, on three
quarters of the source. The held-out quarter is the same in every run, so that `measure` can
say what was forgotten.
"""

from dataclasses import dataclass

import numpy as np

from explorer.accuracy.episodes import Outcome
from explorer.accuracy.lessons import check_outputs, make_lesson
from explorer.accuracy.progress import Cancelled, Progress, Ticker
from explorer.accuracy.tasks import SignalTask
from explorer.accuracy.torch_bridge import GraphModule, one_thread, placed
from explorer.accuracy.trainer import train_copy
from explorer.design import LayerAxes, TrainingSetup, everything
from explorer.errors import SpecError

SOURCE_BATCH = 16
SOURCE_STEPS = 300
LEARNING_RATE = 3e-3
SOURCE_STREAM = 3


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
    seed: int = 0,
    device: str = "cpu",
    on_step: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> SourceTraining:
    """Train a copy of `module`, whose input a task must have (`task_for`), and test it.

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
        )
        before, after = (lesson.cut(net, 0).test(net) for net in (module, student))
    return SourceTraining(
        module=student,
        before=before,
        after=after,
        trained_count=len(trained),
        held_out_count=len(held_out),
    )
