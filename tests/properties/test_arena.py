"""Placement ahead of time: near the live bytes, near an independent planner, and sound.

The planner compared with is omnimalloc's `supermalloc`, a search that shares nothing with
ours; what a run-time allocator would take is compared with one written as a heap.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import omnimalloc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer import catalog
from explorer.costmodel.arena import LEFT_OUT, place, place_at_run_time, place_within
from explorer.costmodel.evaluate import arena_plan
from explorer.costmodel.lifetimes import buffer_columns
from explorer.device import load_device
from explorer.family import build_policy
from explorer.session import Session
from tests.helpers import batch_of, policy_of, random_policy

VISION = ("mbv2-w0.35-tinytrain", "mcunet-5fps", "proxyless-w0.3-tinytrain")
KNOWN = ("full", "last-layer", "bias-only", "last-k:k=6")
ALIGNMENT = 16


def fixed_policies(model) -> dict:
    """Full, last layer, biases, last two blocks, a quarter of every layer, eight random ones."""
    session = Session(model=model, policy="none")
    graph, rng = session.graph, np.random.default_rng(0)
    policies = {spec: build_policy(session._context, spec) for spec in KNOWN}
    policies["sparse 25 %"] = policy_of(graph, 0.25)
    return policies | {f"random {n}": random_policy(graph, rng) for n in range(8)}


def buffers_of_fixed_policies(model) -> dict:
    graph, device = catalog.load("model", model).build(), load_device("gap9")
    return {
        name: buffer_columns([b for b, _ in arena_plan(graph, device, batch_of(graph, policy))[0]])
        for name, policy in fixed_policies(model).items()
    }


def live_peak(sizes, births, deaths) -> int:
    return max(sizes[(births <= step) & (step < deaths)].sum() for step in range(deaths.max()))


def assert_sound(columns, plan, alignment=ALIGNMENT) -> None:
    """Step by step: whoever is alive is aligned and ends before the next one starts."""
    sizes, _, deaths = columns
    assert all(offset % alignment == 0 for offset in plan.offsets)
    assert plan.arena_bytes == max(plan.offsets + sizes)
    for step in range(deaths.max()):
        here = [
            (int(offset), int(offset + size))
            for offset, size, birth, death in zip(plan.offsets, *columns, strict=True)
            if birth <= step < death
        ]
        here.sort()
        for (_, end), (start, _) in pairwise(here):
            assert end <= start


def heap_bytes(sizes, births, deaths, alignment) -> int:
    """A heap over time: at every step free what died, then take the lowest hole."""
    unit = [-(-int(size) // alignment) for size in sizes]
    taken: dict[int, range] = {}
    top = 0
    throughout = (births == births.min()) & (deaths == deaths.max())
    for step in range(int(deaths.max())):
        taken = {buffer: cells for buffer, cells in taken.items() if deaths[buffer] > step}
        born = [buffer for buffer in range(len(sizes)) if births[buffer] == step]
        for buffer in sorted(born, key=lambda buffer: not throughout[buffer]):
            starts = sorted({0, *(cells.stop for cells in taken.values())})
            here = next(
                start
                for start in starts
                if all(
                    start + unit[buffer] <= cells.start or cells.stop <= start
                    for cells in taken.values()
                )
            )
            taken[buffer] = range(here, here + unit[buffer])
            top = max(top, here * alignment + int(sizes[buffer]))
    return top


@pytest.mark.parametrize("model", VISION)
def test_arena_is_near_the_live_bytes_and_an_independent_planner(model):
    gaps = []
    for name, columns in buffers_of_fixed_policies(model).items():
        plan = place(*columns, ALIGNMENT)
        assert_sound(columns, plan)
        gaps.append(plan.arena_bytes / live_peak(*columns) - 1)
        rounded = -(-columns[0] // ALIGNMENT) * ALIGNMENT
        theirs = omnimalloc.allocate(
            [
                omnimalloc.Allocation(id=row, size=int(size), start=int(birth), end=int(death))
                for row, (size, birth, death) in enumerate(zip(rounded, *columns[1:], strict=True))
            ],
            "supermalloc",
            validate=True,
        )
        best = max(found.offset + found.size for found in theirs)
        assert plan.arena_bytes <= 1.05 * best, name
    assert np.mean(gaps) <= 0.01
    assert max(gaps) <= 0.05


@pytest.mark.parametrize("model", VISION)
def test_placing_ahead_beats_a_run_time_allocator(model):
    over = []
    for columns in buffers_of_fixed_policies(model).values():
        plan = place_at_run_time(*columns, ALIGNMENT)
        assert_sound(columns, plan)
        assert plan.arena_bytes == heap_bytes(*columns, ALIGNMENT)
        over.append(plan.arena_bytes / place(*columns, ALIGNMENT).arena_bytes - 1)
    assert np.mean(over) > 0.05
    assert min(over) > -0.001


lifetimes = st.tuples(st.integers(1, 300), st.integers(0, 8), st.integers(1, 6))
buffer_lists = st.lists(lifetimes, min_size=1, max_size=20)


@given(buffers=buffer_lists, alignment=st.sampled_from([1, 16]))
@settings(max_examples=150, derandomize=True, deadline=None)
def test_run_time_placement_is_that_of_a_heap(buffers, alignment):
    sizes, births, lengths = np.array(buffers, dtype=np.int64).T
    columns = np.array([sizes, births, births + lengths])
    plan = place_at_run_time(*columns, alignment)
    assert_sound(columns, plan, alignment)
    assert plan.arena_bytes == heap_bytes(*columns, alignment)


@given(buffers=buffer_lists, enough_bytes=st.integers(0, 1500))
@settings(max_examples=150, derandomize=True, deadline=None)
def test_an_arena_that_is_enough_answers_whether_a_limit_holds(buffers, enough_bytes):
    sizes, births, lengths = np.array(buffers, dtype=np.int64).T
    columns = np.array([sizes, births, births + lengths])
    best = place(*columns, ALIGNMENT).arena_bytes
    plan = place(*columns, ALIGNMENT, enough_bytes)
    assert_sound(columns, plan)
    assert (plan.arena_bytes <= enough_bytes) == (best <= enough_bytes)
    assert plan.arena_bytes == best or best < plan.arena_bytes <= enough_bytes


@given(buffers=buffer_lists, limit_bytes=st.integers(0, 1500), seed=st.integers(0, 99))
@settings(max_examples=150, derandomize=True, deadline=None)
def test_what_is_placed_within_a_limit_stays_below_it(buffers, limit_bytes, seed):
    sizes, births, lengths = np.array(buffers, dtype=np.int64).T
    columns = np.array([sizes, births, births + lengths])
    order = np.random.default_rng(seed).permutation(len(sizes))
    plan = place_within(limit_bytes, order, *columns, ALIGNMENT)
    kept = plan.offsets != LEFT_OUT
    assert plan.arena_bytes <= limit_bytes
    assert kept.any() or sizes[order[0]] > limit_bytes
    if kept.any():
        there = replace(plan, offsets=plan.offsets[kept])
        assert_sound(columns[:, kept], there)
    if limit_bytes >= (sizes + ALIGNMENT).sum():
        assert kept.all()


def test_a_hole_too_small_is_the_price_of_not_knowing_what_comes():
    """A short-lived buffer leaves a hole of 96 bytes; the 112 that follow do not fit in it."""
    sizes, births, deaths = np.array([96, 16, 112]), np.array([0, 0, 1]), np.array([1, 2, 3])
    assert place_at_run_time(sizes, births, deaths).arena_bytes == 96 + 16 + 112
    assert place(sizes, births, deaths).arena_bytes == 16 + 112


def test_nothing_to_place():
    none = np.zeros(0, dtype=np.int64)
    for plan in (place(none, none, none), place_at_run_time(none, none, none)):
        assert (len(plan.offsets), plan.arena_bytes) == (0, 0)
