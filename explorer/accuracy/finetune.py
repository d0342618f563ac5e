"""Measured accuracy: a policy fine-tuned on paired episodes, its rate tuned on others.

The only place that mints it. The rate is tuned per policy: about `0.3 / sum|g|`, because
the first Adam step then promises 0.3 of loss; a common rate would rank rates, not policies.
On a task of signals an episode is a repeat: a lesson (explorer.accuracy.lessons), tuned on
parts of what the first repeats adapt on. One rate serves all repeats.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from explorer.accuracy.episodes import (
    MEASURED_STREAM,
    TUNING_STREAM,
    Episode,
    Outcome,
    protocol_episode,
)
from explorer.accuracy.lessons import LESSON_SETUP, Lesson, check_outputs, sample_lesson
from explorer.accuracy.progress import Cancelled, Progress, Ticker
from explorer.accuracy.records import (
    FIXED,
    VARYING_MOST,
    AccuracyCurve,
    AnyProtocol,
    DesignRecord,
    LessonProtocol,
    MeasuredRun,
    Metric,
    Protocol,
    Tuning,
    standard_error,
)
from explorer.accuracy.tasks import SHOTS, SignalTask, Task, task_for
from explorer.accuracy.torch_bridge import (
    GraphModule,
    model_module,
    one_thread,
    placed,
    software_versions,
    state_digest,
    unseen_task,
)
from explorer.accuracy.trainer import (
    EpisodeResult,
    adapted_to,
    finetune,
    first_trained_position,
    loss_slope,
)
from explorer.design import Design, TrainingSetup, UpdatePolicy
from explorer.device import first_problem
from explorer.document import Named
from explorer.errors import SpecError
from explorer.graph import ModelGraph

FIRST_STEP_LOSS = 0.3
RATE_FACTORS = (1 / 3, 1.0, 3.0)
RATE_EXTENSIONS = 2
SMALLEST_SLOPE = 1e-30

CURVE_STEPS = (0, 1, 2, 5, 10, 20, 40)


def measure(
    graph: ModelGraph,
    task_name: str,
    policy: UpdatePolicy,
    *,
    episodes: int = 10,
    seed: int = 0,
    protocol: AnyProtocol | None = None,
    setup: TrainingSetup | None = None,
    tuning_episodes: int = 4,
    module: GraphModule | None = None,
    device: str = "cpu",
    on_episode: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> MeasuredRun:
    """Tune the rate, fine-tune on `episodes` paired episodes, and record what came out.

    `on_episode(done, total)` follows every fine-tuning, tuning ones included; a true
    `cancelled()` raises CancelledError. `module` None loads the network's own weights; of
    one that `explorer pretrain` made, only classes it never saw are measured. `device` is
    cpu or cuda. `setup` says batch, micro-batch and optimizer on a task of signals; episodes
    of images have a setup of their own.
    """
    return accuracy_curve(
        graph,
        task_name,
        policy,
        steps=(),
        episodes=episodes,
        seed=seed,
        protocol=protocol,
        setup=setup,
        tuning_episodes=tuning_episodes,
        module=module,
        device=device,
        on_episode=on_episode,
        cancelled=cancelled,
    ).run


def accuracy_curve(
    graph: ModelGraph,
    task_name: str,
    policy: UpdatePolicy,
    *,
    steps: Sequence[int] | None = None,
    episodes: int = 10,
    seed: int = 0,
    protocol: AnyProtocol | None = None,
    setup: TrainingSetup | None = None,
    tuning_episodes: int = 4,
    module: GraphModule | None = None,
    device: str = "cpu",
    on_episode: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> AccuracyCurve:
    """A measured run, and the accuracy of the same queries after some of its steps.

    `steps` None means those of CURVE_STEPS that the protocol has. The rest is as in `measure`.
    """
    if episodes < 1 or tuning_episodes < 1:
        raise SpecError.of("episodes, tuning episodes", (episodes, tuning_episodes), "from 1")
    began = time.perf_counter()
    whole = task_for(task_name, graph.input_shape)
    network = placed(model_module(graph) if module is None else module, device)
    task = unseen_task(whole, network)
    rules = task_protocol(task) if protocol is None else protocol
    wanted = curve_steps(rules) if steps is None else tuple(steps)
    if any(not 0 <= step <= rules.steps for step in wanted):
        raise SpecError.of("steps of the curve", wanted, f"0 to {rules.steps}")
    weights_digest = state_digest(network)
    full_design = measured_design(policy, rules, setup)
    course = _Course(network, task, rules, full_design.setup, seed)
    network, wide, policy = adapted_to(network, graph, policy)
    trains = first_trained_position(wide, policy) < len(wide.layers)
    total = episodes + trains * tuning_episodes * len(RATE_FACTORS)
    tick = Ticker("fine-tunings", total, on_episode, cancelled)
    with one_thread():
        tuning = Tuning(episodes=0, rates=(), accuracies=())
        rate = 0.0
        if trains:
            tuning = _tune(network, wide, policy, course, tuning_episodes, tick)
            rate = best_rate(dict(zip(tuning.rates, tuning.accuracies, strict=True)))
        results = []
        for index in range(episodes):
            tick.check()
            episode = course.draw(index)
            results.append(course.finetune(network, wide, policy, episode, rate, wanted))
            tick.done()
    before = np.array([result.accuracy_before for result in results])
    after = np.array([result.accuracy for result in results])
    run = MeasuredRun(
        model=Named(name=graph.name, digest=graph.digest),
        weights_digest=weights_digest,
        task=task_name,
        design=DesignRecord.of(full_design),
        seed=seed,
        episodes=episodes,
        protocol=rules,
        learning_rate=rate,
        tuning=tuning,
        accuracy_before=float(before.mean()),
        accuracy=float(after.mean()),
        standard_error=standard_error(after),
        standard_error_gain=standard_error(after - before),
        nll_before=float(np.mean([result.nll_before for result in results])),
        nll=float(np.mean([result.nll for result in results])),
        per_episode_accuracy_before=tuple(before.tolist()),
        per_episode_accuracy=tuple(after.tolist()),
        wall_time_s=time.perf_counter() - began,
        versions=software_versions(network),
        data_digest=task.digest,
        metrics=_metrics(results, lambda tested: tested.metrics),
        source=_metrics(results, lambda tested: tested.source),
    )
    curves = tuple(result.curve for result in results)
    return AccuracyCurve(run=run, steps=wanted, per_episode_accuracy=curves)


@dataclass(frozen=True, eq=False)
class _Course:
    """Draws what a run is measured on, and fine-tunes on it as its protocol says."""

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

    def draw(self, index: int, stream: int = MEASURED_STREAM) -> Episode | Lesson:
        if isinstance(self.task, SignalTask):
            assert isinstance(self.rules, LessonProtocol)
            return sample_lesson(
                self.task, self.rules, self.setup, seed=self.seed, index=index, stream=stream
            )
        assert isinstance(self.rules, Protocol)
        return protocol_episode(self.task, self.rules, seed=self.seed, index=index, stream=stream)

    def finetune(
        self,
        module: GraphModule,
        graph: ModelGraph,
        policy: UpdatePolicy,
        episode: Episode | Lesson,
        rate: float,
        test_at: Sequence[int] = (),
    ) -> EpisodeResult:
        rules = self.rules
        return finetune(
            module,
            graph,
            policy,
            episode,
            learning_rate=rate,
            steps=rules.steps,
            test_at=test_at,
            optimizer=self.setup.optimizer,
            schedule=rules.schedule if isinstance(rules, LessonProtocol) else "constant",
        )


def _metrics(
    results: Sequence[EpisodeResult], of: Callable[[Outcome], Mapping[str, float | None]]
) -> dict[str, Metric]:
    """Means over repeats of each figure that is defined in one."""
    found = {
        name: Metric.of(
            [of(result.before)[name] for result in results],
            [of(result.after)[name] for result in results],
        )
        for name in of(results[0].before)
    }
    return {name: metric for name, metric in found.items() if metric is not None}


def curve_steps(rules: AnyProtocol) -> tuple[int, ...]:
    """Steps of CURVE_STEPS that a protocol has."""
    return tuple(step for step in CURVE_STEPS if step <= rules.steps)


def task_protocol(task: Task, sampler: str = FIXED, **changes: int | None) -> AnyProtocol:
    """What runs on a task use unless told otherwise, so that they can be paired.

    `changes` replaces steps, and of images ways, shots or query_count, where it is not None.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        if isinstance(task, SignalTask):
            if given.keys() - {"steps"} or sampler != FIXED:
                raise SpecError.of(
                    f"protocol of task {task.name}",
                    given or sampler,
                    "steps; ways, shots, queries and a sampler are for images",
                )
            return LessonProtocol.model_validate(given)
        usual = {"ways": task.ways, "shots": SHOTS, "query_count": task.query_count}
        usual = usual if sampler == FIXED else VARYING_MOST
        return Protocol.model_validate({**usual, **given, "sampler": sampler})
    except ValidationError as error:
        raise SpecError(f"protocol: {first_problem(error)}") from None


def measured_design(
    policy: UpdatePolicy, protocol: AnyProtocol, setup: TrainingSetup | None = None
) -> Design:
    """A policy with the setup a measurement runs under.

    Episodes: support and view in one batch, Adam. Lessons: `setup`, or a batch of eight and
    SGD with momentum.
    """
    if isinstance(protocol, LessonProtocol):
        return Design(policy=policy, setup=LESSON_SETUP if setup is None else setup)
    batch = 2 * protocol.support_count
    own = TrainingSetup(micro_batch=batch, optimizer="adam", update_timing="deferred")
    return Design(policy=policy, setup=own)


def _tune(
    module: GraphModule,
    graph: ModelGraph,
    policy: UpdatePolicy,
    course: _Course,
    count: int,
    tick: Ticker,
) -> Tuning:
    """Mean accuracy of each rate on tuning episodes, rates rising.

    Three rates around `0.3 / sum|g|`; while the best is at an end, up to two more beyond it.
    """
    episodes = [course.draw(index, TUNING_STREAM) for index in range(count)]
    optimizer = course.setup.optimizer
    slopes = [
        loss_slope(module, graph, policy, episode, optimizer=optimizer) for episode in episodes
    ]
    base = FIRST_STEP_LOSS / max(float(np.mean(slopes)), SMALLEST_SLOPE)

    def reached(rate: float) -> float:
        accuracies = []
        for episode in episodes:
            tick.check()
            accuracies.append(course.finetune(module, graph, policy, episode, rate).accuracy)
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
