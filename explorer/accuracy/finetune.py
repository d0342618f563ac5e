"""Measured accuracy: a policy fine-tuned on paired episodes, its rate tuned on others.

The only place that mints it. The rate is tuned per policy: about `0.3 / sum|g|`, because
the first Adam step then promises 0.3 of loss; a common rate would rank rates, not policies.
On a task of signals an episode is a repeat: a lesson (explorer.accuracy.lessons), tuned on
parts of what the first repeats adapt on. One rate serves all repeats.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from explorer import catalog
from explorer.accuracy.course import Course, measured_design, measured_setup, task_protocol
from explorer.accuracy.episodes import TUNING_STREAM, Outcome
from explorer.accuracy.group import RATE_FACTORS, best_rate, train_all, trainees_of, tune_all
from explorer.accuracy.progress import Cancelled, Progress, Ticker
from explorer.accuracy.protocols import AnyProtocol
from explorer.accuracy.records import (
    AccuracyCurve,
    DesignRecord,
    DivergedError,
    MeasuredRun,
    Metric,
    Tuning,
    standard_error,
)
from explorer.accuracy.tasks import task_for
from explorer.accuracy.torch_bridge import (
    GraphModule,
    model_module,
    one_thread,
    placed,
    software_versions,
    state_digest,
    unseen_task,
)
from explorer.accuracy.trainer import EpisodeResult
from explorer.design import TrainingSetup, UpdatePolicy
from explorer.document import Named
from explorer.errors import SpecError
from explorer.graph import ModelGraph

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
    (curve,) = accuracy_curves(
        graph,
        task_name,
        (policy,),
        steps=steps,
        episodes=episodes,
        seed=seed,
        protocol=protocol,
        setup=setup,
        tuning_episodes=tuning_episodes,
        module=module,
        device=device,
        on_episode=on_episode,
        cancelled=cancelled,
    )
    return curve


def accuracy_curves(
    graph: ModelGraph,
    task_name: str,
    policies: Sequence[UpdatePolicy],
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
) -> tuple[AccuracyCurve, ...]:
    """The same for several policies at once, which share what each episode costs them all.

    The wall time of a run is that of its own trainings and an equal part of the rest.
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
    designs = [DesignRecord.of(measured_design(policy, rules, setup)) for policy in policies]
    course = Course(network, task, rules, measured_setup(rules, setup), seed)
    trainees = trainees_of(network, graph, policies, course.phases)
    rate = course.learning_rate
    tuned = 0 if rate else sum(trainee.trains for trainee in trainees)
    tuned *= tuning_episodes * len(RATE_FACTORS)
    tick = Ticker("fine-tunings", episodes * len(trainees) + tuned, on_episode, cancelled)
    with one_thread():
        count = tuning_episodes if tuned else 0
        drawn = [course.draw(index, TUNING_STREAM) for index in range(count)]
        tunings = tune_all(trainees, drawn, course, tick)
        drawn.clear()
        rates = [_chosen_rate(tuning) for tuning in tunings]
        if rate:
            rates = [rate if trainee.trains else 0.0 for trainee in trainees]
        single = [(rate,) for rate in rates]
        reached = [
            train_all(
                trainees,
                course.draw(index),
                single,
                tick,
                steps=rules.steps,
                test_at=wanted,
                optimizer=course.setup.optimizer,
                schedule=course.schedule,
                phases=course.phases,
            )
            for index in range(episodes)
        ]
    shared_s = time.perf_counter() - began - sum(trainee.spent_s for trainee in trainees)
    weights_digest, versions = state_digest(network), software_versions(network)
    curves = []
    for number, trainee in enumerate(trainees):
        results = [of_episode[number][0] for of_episode in reached]
        before = np.array([result.accuracy_before for result in results])
        after = np.array([result.accuracy for result in results])
        nll = float(np.mean([result.nll for result in results]))
        if not np.isfinite(nll):
            policy, at = policies[number].family, f"learning rate {rates[number]:g}"
            raise DivergedError(f"policy {policy}: the loss after fine-tuning at {at} is {nll}")
        run = MeasuredRun(
            model=Named(name=graph.name, digest=graph.digest),
            weights_digest=weights_digest,
            task=catalog.task_key(task_name),
            design=designs[number],
            seed=seed,
            episodes=episodes,
            protocol=rules,
            learning_rate=rates[number],
            tuning=tunings[number],
            accuracy_before=float(before.mean()),
            accuracy=float(after.mean()),
            standard_error=standard_error(after),
            standard_error_gain=standard_error(after - before),
            nll_before=float(np.mean([result.nll_before for result in results])),
            nll=nll,
            per_episode_accuracy_before=tuple(before.tolist()),
            per_episode_accuracy=tuple(after.tolist()),
            wall_time_s=trainee.spent_s + shared_s / len(trainees),
            versions=versions,
            data_digest=task.digest,
            metrics=_metrics(results, lambda tested: tested.metrics),
            source=_metrics(results, lambda tested: tested.source),
        )
        curve = tuple(result.curve for result in results)
        curves.append(AccuracyCurve(run=run, steps=wanted, per_episode_accuracy=curve))
    return tuple(curves)


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


def _chosen_rate(tuning: Tuning) -> float:
    """The best rate tried; 0 where nothing trains."""
    tried = dict(zip(tuning.rates, tuning.accuracies, strict=True))
    return best_rate(tried) if tried else 0.0
