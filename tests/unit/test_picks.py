"""Named picks: each is what its name says, and says why."""

import numpy as np
import pytest

from explorer.errors import SpecError
from explorer.search.front import Objective
from explorer.search.picks import PICKS, choose
from explorer.session import Session

MEMORY = Objective(name="peak_live_bytes", unit="byte", sense="min", reference=9e9, scale=1e4)
ENERGY = Objective(name="step_energy_j", unit="J", sense="min", reference=9.0, scale=1.0)


def objectives(name, scale):
    return Objective(name=name, unit="1", sense="max", reference=0.0, scale=scale), MEMORY, ENERGY


VALUES = np.array(
    [
        [0.800, 9e4, 0.9],
        [0.795, 8e4, 0.5],
        [0.785, 5e4, 0.3],
        [0.700, 2e4, 0.2],
        [0.300, 1e4, 0.1],
    ]
)
EVERYONE = np.ones(len(VALUES), dtype=bool)


@pytest.mark.parametrize(
    ("which", "row"), [("min-memory", 4), ("max-accuracy", 0), ("best-that-fits", 0), ("knee", 3)]
)
def test_a_pick_is_what_its_name_says(which, row):
    assert choose(which, VALUES, objectives("accuracy", 0.5), EVERYONE).row == row


@pytest.mark.parametrize(
    ("name", "scale", "row", "words"),
    [
        ("accuracy", 0.5, 1, "one point of accuracy"),
        ("proxy_score", 1.0, 1, "1 % of the range of proxy score"),
        ("proxy_score", 2.0, 2, "1 % of the range of proxy score"),
        ("proxy_score", 0.1, 0, "1 % of the range of proxy score"),
    ],
)
def test_near_is_a_point_of_accuracy_or_a_hundredth_of_the_range(name, scale, row, words):
    picked = choose("cheapest-near-best", VALUES, objectives(name, scale), EVERYONE)
    assert picked.row == row
    assert words in picked.reason


def test_the_best_that_fits_leaves_out_what_does_not():
    fits = np.array([False, False, True, True, True])
    picked = choose("best-that-fits", VALUES, objectives("accuracy", 0.5), fits)
    assert picked.row == 2
    assert "3 of 5 members that fit: 78.5%" in picked.reason
    with pytest.raises(SpecError, match="none does"):
        choose("best-that-fits", VALUES, objectives("accuracy", 0.5), ~EVERYONE)


def test_of_equal_scores_the_cheaper_is_picked():
    twice = np.array([[0.8, 2e4, 0.9], [0.8, 3e4, 0.4]])
    fits = np.ones(2, dtype=bool)
    assert choose("max-accuracy", twice, objectives("accuracy", 0.5), fits).row == 1


@pytest.mark.parametrize("which", PICKS)
def test_every_pick_of_a_search_is_a_member_with_one_sentence(which):
    front = Session(model="digits-cnn", policy="none").search(50)
    picked = front.pick(which)
    assert picked.row in front.rows
    assert front.table.feasible[picked.row]
    assert picked.reason
    assert "\n" not in picked.reason


def test_an_unknown_pick_and_an_empty_front_are_refused():
    with pytest.raises(SpecError, match="cheapest-near-best"):
        choose("luck", VALUES, objectives("accuracy", 0.5), EVERYONE)
    with pytest.raises(SpecError, match="at least one member"):
        choose("knee", VALUES[:0], objectives("accuracy", 0.5), EVERYONE[:0])
