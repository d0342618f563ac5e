"""Fronts and hypervolume against closed forms and brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from explorer.search.front import (
    Objective,
    anchored,
    hypervolume,
    is_non_dominated,
    knee_index,
)


def minimise(count, reference=1.0):
    return tuple(
        Objective(name=f"f{i}", unit="1", sense="min", reference=reference, scale=1.0)
        for i in range(count)
    )


points = arrays(np.float64, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(0, 1))


def brute_force(values):
    better = np.all(values[:, None] <= values, axis=2) & np.any(values[:, None] < values, axis=2)
    return ~better.any(axis=0)


@given(points)
@settings(deadline=None, derandomize=True, max_examples=200)
def test_non_dominated_is_brute_force(values):
    distinct = np.unique(values, axis=0)
    assert np.array_equal(is_non_dominated(distinct, minimise(3)), brute_force(distinct))


def test_of_equal_rows_only_the_first_is_on_the_front():
    values = np.array([[0.5, 0.5], [0.5, 0.5], [0.2, 0.9]])
    assert is_non_dominated(values, minimise(2)).tolist() == [True, False, True]


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_staircase_has_a_closed_form(steps):
    low = np.arange(steps) / steps
    values = np.stack([low, 1 - low - 1 / steps], axis=1)
    expected = 1 - (steps * (steps - 1) / 2) / steps**2
    assert hypervolume(values, minimise(2)) == pytest.approx(expected)


@given(points, st.integers(0, 2**31))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_order_and_rescaling_change_nothing_and_a_point_never_hurts(values, seed):
    rng = np.random.default_rng(seed)
    whole = hypervolume(values, minimise(3))
    assert hypervolume(rng.permutation(values), minimise(3)) == pytest.approx(whole)
    scaled = tuple(
        Objective(name=o.name, unit="1", sense="min", reference=7.0, scale=7.0) for o in minimise(3)
    )
    assert hypervolume(values * 7, scaled) == pytest.approx(whole)
    assert hypervolume(values[:-1], minimise(3)) <= whole + 1e-12


def test_a_maximised_objective_is_mirrored():
    best = Objective(name="a", unit="1", sense="max", reference=0.0, scale=1.0)
    values = np.array([[0.25, 0.5], [0.75, 0.75]])
    objectives = (best, minimise(1)[0])
    assert is_non_dominated(values, objectives).tolist() == [True, True]
    assert hypervolume(values, objectives) == pytest.approx(0.25 * 0.5 + 0.5 * 0.25)


def test_anchors_scale_and_bound_an_objective():
    objective = anchored("m", "byte", "min", np.array([100.0, 300.0]))
    assert (objective.scale, objective.reference) == (200.0, pytest.approx(310.0))
    flat = anchored("m", "byte", "max", np.array([5.0, 5.0]))
    assert flat.scale == 5.0


def test_knee_is_nearest_to_the_ideal_corner():
    assert knee_index(np.array([[0.0, 1.0], [0.2, 0.2], [1.0, 0.0]])) == 1
