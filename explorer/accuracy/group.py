"""Policies that are fine-tuned on the same episode or lesson together, so that they share its work.

It climbs the network once: at the first trained layer of a policy that policy gets
off and is trained from the tensors there, at each of its rates. Losses and accuracies are those
of a policy alone.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from explorer.accuracy.apply import needs_scores
from explorer.accuracy.course import Course
from explorer.accuracy.episodes import Episode, Outcome, Prefix
from explorer.accuracy.fisher import score_table
from explorer.accuracy.lessons import Lesson, LessonPrefix
from explorer.accuracy.progress import Ticker
from explorer.accuracy.records import Tuning
from explorer.accuracy.scores import ScoreTable
from explorer.accuracy.torch_bridge import GraphModule, adapted_module
from explorer.accuracy.trainer import (
    EpisodeResult,
    finetune,
    first_position,
    loss_slope,
)
from explorer.adapters import policy_with_adapters
from explorer.design import UpdatePolicy
from explorer.graph import ModelGraph
from explorer.phases import Phase

FIRST_STEP_LOSS = 0.3
RATE_FACTORS = (1 / 3, 1.0, 3.0)
RATE_EXTENSIONS = 2
SMALLEST_SLOPE = 1e-30


@dataclass(eq=False)
class Trainee:
    """A policy on the network that has its adapters, and the seconds spent on it alone."""

    module: GraphModule
    graph: ModelGraph
    policy: UpdatePolicy
    start: int
    spent_s: float = 0.0

    @property
    def trains(self) -> bool:
        """Whether anything does."""
        return self.start < len(self.graph.layers)


def trainees_of(
    module: GraphModule,
    graph: ModelGraph,
    policies: Sequence[UpdatePolicy],
    phases: Sequence[Phase] = (),
) -> list[Trainee]:
    """One for each policy; those with the same adapters share a network."""
    networks = {
        adapters: adapted_module(module, adapters)
        for adapters in dict.fromkeys(policy.adapters for policy in policies)
    }
    trainees = []
    for policy in policies:
        wide_graph, wide = policy_with_adapters(graph, policy)
        start = first_position(wide_graph, wide, phases)
        trainees.append(Trainee(networks[policy.adapters], wide_graph, wide, start))
    return trainees


def train_all(
    trainees: Sequence[Trainee],
    episode: Episode | Lesson,
    rates: Sequence[Sequence[float]],
    tick: Ticker,
    *,
    steps: int,
    test_at: Collection[int] = (),
    optimizer: str = "adam",
    schedule: str = "constant",
    phases: Sequence[Phase] = (),
) -> list[list[EpisodeResult]]:
    """What each trainee reaches on an episode or lesson at each of its rates."""
    results: list[list[EpisodeResult]] = [[] for _ in trainees]
    before: dict[GraphModule, Outcome] = {}
    trained = [index for index, wanted in enumerate(rates) if wanted]
    for index, prefix, scores in _climbing(trainees, trained, episode):
        trainee = trainees[index]
        for rate in rates[index]:
            tick.check()
            began = time.perf_counter()
            result = finetune(
                trainee.module,
                trainee.graph,
                trainee.policy,
                episode,
                scores=scores,
                learning_rate=rate,
                steps=steps,
                test_at=test_at,
                optimizer=optimizer,
                schedule=schedule,
                phases=phases,
                prefix=prefix,
                before=before.get(trainee.module),
            )
            before[trainee.module] = result.before
            results[index].append(result)
            trainee.spent_s += time.perf_counter() - began
            tick.done()
    return results


def tune_all(
    trainees: Sequence[Trainee],
    episodes: Sequence[Episode | Lesson],
    course: Course,
    tick: Ticker,
) -> list[Tuning]:
    """Mean accuracy of each rate on tuning episodes, rates rising; none where nothing trains.

    Three rates around `0.3 / sum|g|`; while the best is at an end, up to two more beyond it.
    """
    if not episodes:
        return [Tuning(episodes=0, rates=(), accuracies=())] * len(trainees)
    optimizer = course.setup.optimizer
    slopes = np.mean([_slopes(trainees, episode, optimizer) for episode in episodes], axis=0)
    base = FIRST_STEP_LOSS / np.maximum(slopes, SMALLEST_SLOPE)
    tried: list[dict[float, float]] = [{} for _ in trainees]
    wanted = [
        tuple(float(rate) * factor for factor in RATE_FACTORS) if trainee.trains else ()
        for trainee, rate in zip(trainees, base, strict=True)
    ]
    for extension in range(RATE_EXTENSIONS + 1):
        if extension:
            wanted = [_beyond(rates) for rates in tried]
            tick.expect(len(episodes) * sum(map(len, wanted)))
        if not any(wanted):
            break
        reached = [
            train_all(
                trainees,
                episode,
                wanted,
                tick,
                steps=course.rules.steps,
                optimizer=optimizer,
                schedule=course.schedule,
                phases=course.phases,
            )
            for episode in episodes
        ]
        for index, rates in enumerate(wanted):
            for number, rate in enumerate(rates):
                accuracies = [results[index][number].accuracy for results in reached]
                tried[index][rate] = float(np.mean(accuracies))
    return [
        Tuning(
            episodes=len(episodes) if rates else 0,
            rates=tuple(sorted(rates)),
            accuracies=tuple(rates[rate] for rate in sorted(rates)),
        )
        for rates in tried
    ]


def best_rate(tried: Mapping[float, float]) -> float:
    """The rate of the highest accuracy; of equal ones the lowest, since nll suffers first."""
    return float(min(tried, key=lambda rate: (-tried[rate], rate)))


def _beyond(tried: Mapping[float, float]) -> tuple[float, ...]:
    """The rate beyond the end that is best so far; none when the best is inside."""
    if not tried:
        return ()
    best = best_rate(tried)
    if best not in (min(tried), max(tried)):
        return ()
    return (best * (RATE_FACTORS[0] if best == min(tried) else RATE_FACTORS[-1]),)


def _slopes(trainees: Sequence[Trainee], episode: Episode | Lesson, optimizer: str) -> list[float]:
    """How fast the loss of the first step falls with each policy's rate."""
    episode = episode.first_step()
    slopes = [0.0] * len(trainees)
    trained = [index for index, trainee in enumerate(trainees) if trainee.trains]
    for index, prefix, scores in _climbing(trainees, trained, episode):
        trainee = trainees[index]
        slopes[index] = loss_slope(
            trainee.module, trainee.graph, trainee.policy, episode, scores, prefix, optimizer
        )
    return slopes


def climb(
    module: GraphModule, episode: Episode | Lesson, starts: Iterable[int]
) -> Iterator[Prefix | LessonPrefix]:
    """An episode at each of `starts`, rising: layers run once for all who begin there."""
    prefix = episode.cut(module, 0)
    for start in sorted(set(starts)):
        prefix = prefix.moved_to(module, start)
        yield prefix


def _climbing(
    trainees: Sequence[Trainee], indices: Sequence[int], episode: Episode | Lesson
) -> Iterator[tuple[int, Prefix | LessonPrefix, ScoreTable | None]]:
    """Each of `indices` with the episode at its first trained layer, and scores if one needs them.

    Networks come one after the other; layers below and scores are run once for each.
    """
    networks = dict.fromkeys(trainees[index].module for index in indices)
    for network in networks:
        members = [index for index in indices if trainees[index].module is network]
        scores = None
        if any(needs_scores(trainees[index].policy) for index in members):
            scores = score_table(network, network.graph, [episode])
        starts = [trainees[index].start for index in members]
        for prefix in climb(network, episode, starts):
            for index in members:
                if trainees[index].start == prefix.start:
                    yield index, prefix, scores
