"""Procedures: phases, their order and their share of the learning rate."""

from math import pi, sin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from explorer.accuracy.course import measured_design
from explorer.accuracy.protocols import LessonProtocol, Protocol
from explorer.accuracy.records import DesignRecord
from explorer.errors import SpecError
from explorer.phases import (
    PROCEDURES,
    SCHEDULES,
    Phase,
    Procedure,
    begin,
    integrated,
    procedure_named,
    rear,
    sandwich,
    schedule,
)
from explorer.session import Session


def phases_of(procedure: Procedure) -> list[tuple[str, int]]:
    return [(phase.policy, phase.epoch_count) for phase in procedure.phases]


def test_published_procedures():
    expected = {
        "standard": [("full", 300)],
        "begin": [("mu-train", 100), ("full", 200)],
        "rear": [("full", 200), ("mu-train", 100)],
        "sandwich": [("mu-train", 50), ("full", 200), ("mu-train", 50)],
        "integrated": [("full", 150), ("mu-distilled", 75), ("mu-distilled:trains=ends", 75)],
        "fine-tuning": [("mu-finetune", 50)],
    }
    assert {name: phases_of(procedure_named(name)) for name in PROCEDURES} == expected


def test_phases_without_an_epoch_are_left_out():
    assert phases_of(rear(300, 0)) == [("full", 300)]
    assert phases_of(sandwich(10, 1)) == [("full", 10), ("mu-train", 1)]
    assert phases_of(integrated(0, 4))[0] == ("mu-distilled", 4)


# what a late phase gets of one cosine over 300 epochs, in percent
@pytest.mark.parametrize(
    ("full_epochs", "share"), [(50, 67), (100, 39), (150, 18), (200, 5.8), (250, 0.75)]
)
def test_a_rear_phase_gets_little_of_a_shared_cosine(full_epochs, share):
    procedure = rear(full_epochs, 300 - full_epochs)
    late = procedure.rate_shares()[1]
    at = full_epochs / 300
    assert late == pytest.approx(1 - at - sin(pi * at) / pi, abs=0.002)
    assert 100 * late == pytest.approx(share, rel=0.04)


def test_each_phase_may_have_a_cosine_of_its_own():
    shared, own = begin(20, 10), Procedure(phases=begin(20, 10).phases, shared_cosine=False)
    assert [len(factors) for factors in own.rate_factors()] == [10, 20]
    assert all(factors[0] == 1 for factors in own.rate_factors())
    assert shared.rate_factors()[0] + shared.rate_factors()[1] == tuple(
        sorted(sum(shared.rate_factors(), ()), reverse=True)
    )
    assert own.rate_shares()[0] == pytest.approx(5.5 / 16)  # (N + 1) / 2 of N epochs


@given(epochs=st.integers(1, 60), mu_epochs=st.integers(1, 60), count=st.integers(1, 2000))
def test_a_procedure_of_other_length_keeps_the_shares_of_its_phases(epochs, mu_epochs, count):
    whole = sandwich(epochs, mu_epochs)
    scaled = whole.lasting(count * whole.epoch_count)
    assert phases_of(scaled) == [(name, count * own) for name, own in phases_of(whole)]
    assert whole.lasting(count).epoch_count == count


def test_source_schedules_distil_unless_told_otherwise():
    found = {name: phases_of(schedule(name).lasting(1000)) for name in SCHEDULES}
    assert found == {
        "standard": [("full", 1000)],
        "begin": [("mu-distilled", 333), ("full", 667)],
        "rear": [("full", 667), ("mu-distilled", 333)],
        "sandwich": [("mu-distilled", 167), ("full", 666), ("mu-distilled", 167)],
        "integrated": [("full", 500), ("mu-distilled", 250), ("mu-distilled:trains=ends", 250)],
    }
    assert phases_of(schedule("rear", "mu-train"))[-1] == ("mu-train", 100)
    with pytest.raises(SpecError, match="standard, begin, rear, sandwich, integrated"):
        schedule("fine-tuning")


def test_wrong_procedures_are_named():
    with pytest.raises(SpecError, match="mu-train"):
        Phase(policy="mu-train", epoch_count=-1)
    with pytest.raises(SpecError, match="at least one"):
        Procedure(phases=(Phase(policy="full", epoch_count=0),))
    with pytest.raises(SpecError, match="sandwich"):
        procedure_named("club")


def test_steps_that_look_ahead_are_measured_on_signals_alone():
    policy = Session(model="tdssm", policy="mu-distilled:alpha=0.3").chosen_policy
    kept = DesignRecord.of(measured_design(policy, LessonProtocol()))
    assert kept.distillation.soft_label_ratio == 0.3
    with pytest.raises(SpecError, match="a task of signals"):
        measured_design(policy, Protocol())


@pytest.mark.parametrize(
    ("position", "phases"),
    [
        ("begin", [("own", 20), ("full", 40)]),
        ("rear", [("full", 40), ("own", 20)]),
        ("sandwich", [("own", 10), ("full", 40), ("own", 10)]),
    ],
)
def test_a_protocol_says_the_steps_of_each_phase(position, phases):
    rules = LessonProtocol(steps=60, full_steps=40, position=position)
    assert [(phase.policy, phase.epoch_count) for phase in rules.phases] == phases
    assert f"{phases[0][1]} {phases[0][0]}, {phases[1][1]} {phases[1][0]}" in rules.words
    assert LessonProtocol.model_validate_json(rules.to_json()) == rules
    assert LessonProtocol(steps=60).phases == Protocol().phases == ()


def test_steps_of_full_training_leave_some_to_the_design():
    with pytest.raises(ValidationError, match="full_steps: got 9, allowed: below 9"):
        LessonProtocol(steps=9, full_steps=9)
    idle = Session(model="tdssm", policy="none").chosen_policy
    with pytest.raises(SpecError, match="full_steps"):
        measured_design(idle, LessonProtocol(full_steps=1))
