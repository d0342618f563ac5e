"""Episodes of both samplers: every clause of the varying one, against plain loops."""

import math
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer import paths
from explorer.accuracy.course import measured_design, task_protocol
from explorer.accuracy.episodes import (
    MEASURED_STREAM,
    TUNING_STREAM,
    protocol_episode,
    sample_episode,
    sample_varying_episode,
    varying_shots,
)
from explorer.accuracy.protocols import LARGEST_SUPPORT, VARYING, Protocol
from explorer.accuracy.tasks import TaskData, load_task
from explorer.design import LayerAxes, nothing
from explorer.errors import SpecError
from explorer.search.sources import model_graph

PLAIN = Protocol(ways=50, shots=100, query_count=10, sampler=VARYING)
class_sizes = st.lists(st.integers(2, 260), min_size=2, max_size=60)
limits = st.builds(
    Protocol,
    ways=st.integers(2, 60),
    shots=st.integers(1, 120),
    query_count=st.integers(1, 12),
    sampler=st.just(VARYING),
)


def task_of(sizes) -> TaskData:
    """One pixel pair an image, which counts the images, so that each can be recognised."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    index = np.arange(len(labels))
    pixels = np.stack([index // 256, index % 256], 1).astype(np.uint8)
    return TaskData(
        name="counted",
        pixels=pixels.reshape(-1, 1, 1, 2),
        labels=labels,
        class_names=tuple(f"c{index}" for index in range(len(sizes))),
        held_out=tuple(range(len(sizes))),
        channels=1,
        pixel_maximum=1,
        signed=False,
        max_shift=0,
        augment_colour=False,
        query_count=1,
    )


def numbers(images) -> list[int]:
    pairs = images.reshape(-1, 2).numpy().astype(int)
    return (256 * pairs[:, 0] + pairs[:, 1]).tolist()


@settings(max_examples=60, deadline=None)
@given(sizes=class_sizes, rules=limits, seed=st.integers(0, 2**31), index=st.integers(0, 50))
def test_every_clause_of_the_varying_sampler(sizes, rules, seed, index):
    task = task_of(sizes)
    episode = sample_varying_episode(task, rules, seed=seed, index=index)
    most = min(rules.ways, len(sizes))
    assert min(5, most) <= episode.ways <= most
    support, queries = numbers(episode.support), numbers(episode.queries)
    assert len({*support, *queries}) == len(support) + len(queries)
    classes = []
    for way in range(episode.ways):
        own = [*np.array(support)[episode.support_labels.numpy() == way]]
        asked = [*np.array(queries)[episode.query_labels.numpy() == way]]
        (label,) = {int(task.labels[number]) for number in own + asked}
        classes.append((label, len(own), len(asked)))
    labels = [label for label, _, _ in classes]
    assert len(set(labels)) == episode.ways
    wanted = min(rules.query_count, min(sizes[label] for label in labels) // 2)
    for label, shots, asked in classes:
        assert asked == wanted
        assert 1 <= shots <= sizes[label] - asked
    # one image a class always fits, whatever the limit
    assert len(support) <= max(rules.support_count, episode.ways)
    assert len(support) <= sum(1 + min(rules.shots, sizes[label] - wanted) for label in labels)


@settings(max_examples=200, deadline=None)
@given(sizes=class_sizes, rules=limits, seed=st.integers(0, 2**31))
def test_shots_equal_the_published_rule_in_plain_loops(sizes, rules, seed):
    remaining = [size - 1 for size in sizes]
    shots = varying_shots(np.array(sizes), np.array(remaining), rules, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    beta = rng.uniform(0, 1)
    total = sum(math.floor(beta * min(rules.shots, left) + 1) for left in remaining)
    total = max(len(sizes), min(500, rules.ways * rules.shots, total))
    weights = [size * math.exp(rng.uniform(math.log(0.5), math.log(2))) for size in sizes]
    expected = [
        min(math.floor(weight / sum(weights) * (total - len(sizes))) + 1, left)
        for weight, left in zip(weights, remaining, strict=True)
    ]
    # a share at a whole number may round either way
    assert np.abs(shots - expected).max() <= 1
    assert (shots != expected).sum() <= 1
    assert shots.min() >= 1


def test_ways_cover_their_range_and_support_sizes_vary():
    task = task_of([150] * 12)
    drawn = [sample_varying_episode(task, PLAIN, seed=0, index=index) for index in range(120)]
    assert {episode.ways for episode in drawn} == set(range(5, 13))
    sizes = [len(episode.support) for episode in drawn]
    assert max(sizes) <= LARGEST_SUPPORT
    assert min(sizes) < 60
    assert max(sizes) > 400
    counts = torch.bincount(drawn[0].support_labels)
    assert counts.min() < counts.max()  # imbalanced, though the classes are of one size


def test_more_than_fifty_classes_give_at_most_fifty_ways():
    task = task_of([4] * 80)
    ways = [sample_varying_episode(task, PLAIN, seed=1, index=i).ways for i in range(150)]
    assert max(ways) <= 50
    assert max(ways) >= 47


def test_larger_classes_get_more_shots():
    task = task_of([240, 20, 20, 20, 20])
    total = np.zeros(2)
    for index in range(30):
        episode = sample_varying_episode(task, PLAIN, seed=2, index=index)
        classes = task.labels[numbers(episode.support)]
        total += (classes == 0).sum(), (classes == 1).sum()
    assert total[0] > 3 * total[1]


@pytest.mark.parametrize("rules", [PLAIN, Protocol(ways=4, shots=3, query_count=5)])
def test_equal_seeds_give_equal_episodes_under_both_samplers(rules):
    task = task_of([30] * 9)
    first, again, other, tuning, later = (
        protocol_episode(task, rules, seed=seed, index=index, stream=stream)
        for seed, index, stream in (
            (5, 0, MEASURED_STREAM),
            (5, 0, MEASURED_STREAM),
            (6, 0, MEASURED_STREAM),
            (5, 0, TUNING_STREAM),
            (5, 1, MEASURED_STREAM),
        )
    )
    assert numbers(first.support) == numbers(again.support)
    assert numbers(first.queries) == numbers(again.queries)
    assert torch.equal(first.views, again.views)
    for another in (other, tuning, later):
        assert numbers(another.support) != numbers(first.support)


@settings(max_examples=40, deadline=None)
@given(ways=st.integers(2, 9), shots=st.integers(1, 12), queries=st.integers(1, 18))
def test_the_fixed_sampler_is_n_way_k_shot(ways, shots, queries):
    task = task_of([30] * 9)
    rules = Protocol(ways=ways, shots=shots, query_count=queries)
    episode = protocol_episode(task, rules, seed=0, index=0)
    assert torch.bincount(episode.support_labels).tolist() == [shots] * ways
    assert torch.bincount(episode.query_labels).tolist() == [queries] * ways
    direct = sample_episode(task, seed=0, index=0, ways=ways, shots=shots, query_count=queries)
    assert numbers(direct.support) == numbers(episode.support)


def test_a_class_of_one_image_cannot_vary():
    with pytest.raises(SpecError, match="images a class of task counted: got 1"):
        sample_varying_episode(task_of([1, 5, 5, 5, 5]), PLAIN, seed=0, index=0)


def test_protocols_of_a_task():
    task = task_of([30] * 9)
    assert task_protocol(task) == Protocol(ways=5, shots=5, query_count=1)
    assert task_protocol(task, ways=9, shots=None).ways == 9
    assert task_protocol(task, VARYING) == PLAIN
    assert task_protocol(task, VARYING, shots=4).support_count == 200
    assert PLAIN.support_count == LARGEST_SUPPORT
    for changes, words in (
        ({"ways": 1}, "ways"),
        ({"shots": 0}, "shots"),
        ({"query_count": 0}, ""),
    ):
        with pytest.raises(SpecError, match=f"protocol: {words}"):
            task_protocol(task, **changes)
    with pytest.raises(SpecError, match="sampler: got 'both'"):
        task_protocol(task, "both")
    policy = nothing(LayerAxes.of(model_graph("digits-cnn")))
    assert measured_design(policy, PLAIN).setup.micro_batch == 2 * LARGEST_SUPPORT


@pytest.mark.parametrize("name", ["omniglot", "caltech-101"])
def test_twenty_ways_where_there_are_the_classes(name):
    if paths.DATA_VARIABLE not in os.environ:
        pytest.skip(f"{paths.DATA_VARIABLE} is not set")
    task = load_task(name, 84)
    assert task.ways == 5
    rules = task_protocol(task, ways=20)
    episode = protocol_episode(task, rules, seed=0, index=0)
    assert episode.ways == 20
    assert episode.support.shape == (100, 3, 84, 84)
    assert len(episode.queries) == 20 * task.query_count
