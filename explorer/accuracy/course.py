"""What a run is measured on: episodes or lessons drawn under a protocol, and with which setup."""

from dataclasses import dataclass

from pydantic import ValidationError

from explorer.accuracy.episodes import MEASURED_STREAM, Episode, protocol_episode
from explorer.accuracy.lessons import LESSON_SETUP, Lesson, check_outputs, sample_lesson
from explorer.accuracy.protocols import FIXED, VARYING_MOST, AnyProtocol, LessonProtocol, Protocol
from explorer.accuracy.tasks import SHOTS, SignalTask, Task
from explorer.accuracy.torch_bridge import GraphModule
from explorer.design import Design, TrainingSetup, UpdatePolicy
from explorer.device import first_problem
from explorer.document import choices_of
from explorer.errors import SpecError
from explorer.phases import Phase

LESSON_CHANGES = {"steps", "full_steps", "position", "learning_rate"}


@dataclass(frozen=True, eq=False)
class Course:
    """Draws what runs are measured on, and says how they train on it.

    SpecError where the protocol is not of the task's kind, or the module not for the task.
    """

    module: GraphModule
    task: Task
    rules: AnyProtocol
    setup: TrainingSetup
    seed: int

    def __post_init__(self) -> None:
        if isinstance(self.task, SignalTask) != isinstance(self.rules, LessonProtocol):
            kind = "lessons" if isinstance(self.task, SignalTask) else "episodes"
            raise SpecError.of("protocol", self.rules.words, f"{kind}, as task {self.task.name} is")
        if isinstance(self.task, SignalTask):
            check_outputs(self.module, self.task)
            if self.setup.norm not in (None, self.module.graph.norm):
                raise SpecError.of(
                    "norm", self.setup.norm, f"{self.module.graph.norm}, as the weights are"
                )

    @property
    def schedule(self) -> str:
        """How the rate goes: constant or cosine."""
        return self.rules.schedule if isinstance(self.rules, LessonProtocol) else "constant"

    @property
    def phases(self) -> tuple[Phase, ...]:
        """How the steps are split between a policy and full training; none where they are not."""
        return self.rules.phases

    @property
    def learning_rate(self) -> float | None:
        """The one rate of all designs; None where each has its own, tuned."""
        return self.rules.learning_rate if isinstance(self.rules, LessonProtocol) else None

    def draw(self, index: int, stream: int = MEASURED_STREAM) -> Episode | Lesson:
        """Episode or lesson `index`; streams never share a draw."""
        if isinstance(self.task, SignalTask):
            assert isinstance(self.rules, LessonProtocol)
            return sample_lesson(
                self.task, self.rules, self.setup, seed=self.seed, index=index, stream=stream
            )
        assert isinstance(self.rules, Protocol)
        return protocol_episode(self.task, self.rules, seed=self.seed, index=index, stream=stream)


def task_protocol(task: Task, sampler: str = FIXED, **changes: float | str | None) -> AnyProtocol:
    """What runs on a task use unless told otherwise, so that they can be paired.

    `changes` replaces, where it is not None, steps; of images ways, shots or query_count; of
    signals full_steps, position and learning_rate.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        if isinstance(task, SignalTask):
            if given.keys() - LESSON_CHANGES or sampler != FIXED:
                raise SpecError.of(
                    f"protocol of task {task.name}",
                    given or sampler,
                    "steps, full_steps; ways, shots, queries and a sampler are for images",
                )
            return LessonProtocol.model_validate(given)
        if given.keys() & (LESSON_CHANGES - {"steps"}):
            allowed = "steps, ways, shots, queries; full_steps, position and lr are for signals"
            raise SpecError.of(f"protocol of task {task.name}", given, allowed)
        usual = {"ways": task.ways, "shots": SHOTS, "query_count": task.query_count}
        usual = usual if sampler == FIXED else VARYING_MOST
        return Protocol.model_validate({**usual, **given, "sampler": sampler})
    except ValidationError as error:
        raise SpecError(f"protocol: {first_problem(error)}") from None


def measured_design(
    policy: UpdatePolicy, protocol: AnyProtocol, setup: TrainingSetup | None = None
) -> Design:
    """A policy with the setup that a measurement of it runs under.

    SpecError where its steps look ahead on images, whose head has no logits of its own, or
    where nothing trains in a protocol that splits steps with full training.
    """
    if isinstance(protocol, LessonProtocol):
        if protocol.full_steps and not (choices_of(policy) or policy.adapters):
            raise SpecError.of("full_steps", protocol.full_steps, f"0 with {policy.family}")
    elif policy.distillation is not None:
        raise SpecError(
            f"policy {policy.family}: its steps look ahead, which needs a task of signals"
        )
    return Design(policy=policy, setup=measured_setup(protocol, setup))


def measured_setup(protocol: AnyProtocol, setup: TrainingSetup | None = None) -> TrainingSetup:
    """The setup a measurement runs under.

    Episodes: support and view in one batch, Adam. Lessons: `setup`, or a batch of eight and
    SGD with momentum.
    """
    if isinstance(protocol, LessonProtocol):
        return LESSON_SETUP if setup is None else setup
    batch = 2 * protocol.support_count
    return TrainingSetup(micro_batch=batch, optimizer="adam", update_timing="deferred")
