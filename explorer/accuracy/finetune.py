"""Measured accuracy: a policy fine-tuned on paired episodes, its rate tuned on others.

The only place that mints it. The rate is tuned per policy: about `0.3 / sum|g|`, because
the first Adam step then promises 0.3 of loss; a common rate would rank rates, not policies.
"""

import time
from collections.abc import Sequence

import numpy as np
from pydantic import ValidationError

from explorer.accuracy.episodes import (
    MEASURED_STREAM,
    TUNING_STREAM,
    Episode,
    protocol_episode,
)
from explorer.accuracy.group import RATE_FACTORS, best_rate, train_all, trainees_of, tune_all
from explorer.accuracy.progress import Cancelled, Progress, Ticker
from explorer.accuracy.records import (
    FIXED,
    VARYING_MOST,
    AccuracyCurve,
    DesignRecord,
    MeasuredRun,
    Protocol,
    Tuning,
    standard_error,
)
from explorer.accuracy.tasks import SHOTS, TaskData, task_for
from explorer.accuracy.torch_bridge import (
    GraphModule,
    model_module,
    one_thread,
    placed,
    software_versions,
    state_digest,
    unseen_task,
)
from explorer.design import Design, TrainingSetup, UpdatePolicy
from explorer.device import first_problem
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
    protocol: Protocol | None = None,
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
    cpu or cuda.
    """
    return accuracy_curve(
        graph,
        task_name,
        policy,
        steps=(),
        episodes=episodes,
        seed=seed,
        protocol=protocol,
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
    protocol: Protocol | None = None,
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
    protocol: Protocol | None = None,
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
    network = placed(model_module(graph) if module is None else module, device)
    task = unseen_task(task_for(task_name, graph.input_shape), network)
    rules = task_protocol(task) if protocol is None else protocol
    wanted = curve_steps(rules) if steps is None else tuple(steps)
    if any(not 0 <= step <= rules.steps for step in wanted):
        raise SpecError.of("steps of the curve", wanted, f"0 to {rules.steps}")
    designs = [DesignRecord.of(measured_design(policy, rules)) for policy in policies]
    trainees = trainees_of(network, graph, policies)
    tuned = tuning_episodes * len(RATE_FACTORS) * sum(trainee.trains for trainee in trainees)
    tick = Ticker("fine-tunings", episodes * len(trainees) + tuned, on_episode, cancelled)

    def episode(index: int, stream: int) -> Episode:
        return protocol_episode(task, rules, seed=seed, index=index, stream=stream)

    with one_thread():
        drawn = [episode(index, TUNING_STREAM) for index in range(tuning_episodes)] if tuned else []
        tunings = tune_all(trainees, drawn, rules, tick)
        drawn.clear()
        rates = [_chosen_rate(tuning) for tuning in tunings]
        single = [(rate,) for rate in rates]
        reached = [
            train_all(
                trainees,
                episode(index, MEASURED_STREAM),
                single,
                tick,
                steps=rules.steps,
                test_at=wanted,
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
        run = MeasuredRun(
            model=Named(name=graph.name, digest=graph.digest),
            weights_digest=weights_digest,
            task=task_name,
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
            nll=float(np.mean([result.nll for result in results])),
            per_episode_accuracy_before=tuple(before.tolist()),
            per_episode_accuracy=tuple(after.tolist()),
            wall_time_s=trainee.spent_s + shared_s / len(trainees),
            versions=versions,
            data_digest=task.digest,
        )
        curve = tuple(result.curve for result in results)
        curves.append(AccuracyCurve(run=run, steps=wanted, per_episode_accuracy=curve))
    return tuple(curves)


def curve_steps(rules: Protocol) -> tuple[int, ...]:
    """Steps of CURVE_STEPS that a protocol has."""
    return tuple(step for step in CURVE_STEPS if step <= rules.steps)


def task_protocol(task: TaskData, sampler: str = FIXED, **changes: int | None) -> Protocol:
    """What runs on a task use unless told otherwise, so that they can be paired.

    `changes` replaces ways, shots or query_count where it is not None.
    """
    usual = {"ways": task.ways, "shots": SHOTS, "query_count": task.query_count}
    usual = usual if sampler == FIXED else VARYING_MOST
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        return Protocol.model_validate({**usual, **given, "sampler": sampler})
    except ValidationError as error:
        raise SpecError(f"protocol: {first_problem(error)}") from None


def measured_design(policy: UpdatePolicy, protocol: Protocol) -> Design:
    """A policy with the setup a measurement runs under: support and view in one batch, Adam."""
    batch = 2 * protocol.support_count
    setup = TrainingSetup(micro_batch=batch, optimizer="adam", update_timing="deferred")
    return Design(policy=policy, setup=setup)


def _chosen_rate(tuning: Tuning) -> float:
    """The best rate tried; 0 where nothing trains."""
    tried = dict(zip(tuning.rates, tuning.accuracies, strict=True))
    return best_rate(tried) if tried else 0.0
