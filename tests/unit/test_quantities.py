"""Objectives and limits: words, units, what a search makes of them."""

import json

import numpy as np
import pytest

from explorer.cli import run
from explorer.errors import SpecError
from explorer.export import FrontDocument, load_front, pick, pick_reason
from explorer.search.exact import exact_share, reason_against
from explorer.search.front import hypervolume, is_non_dominated
from explorer.search.quantities import WORDS, column_of, parse_limit
from explorer.session import Session
from explorer.units import format_quantity, parse_quantity

DIGITS = Session(model="digits-cnn", policy="none")


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("5mJ", "J", 5e-3),
        ("5 mJ", "J", 5e-3),
        ("2e-3", "J", 2e-3),
        ("64KiB", "byte", 65536),
        ("64kB", "byte", 64000),
        ("1.5 MiB", "byte", 1.5 * 2**20),
        ("2 GiB", "byte", 2.0**31),
        ("300us", "s", 3e-4),
        ("300 µs", "s", 3e-4),
        ("2min", "s", 120),
        ("20k", "parameter", 20_000),
        ("22.5MMAC", "MAC", 22.5e6),
        ("70%", "1", 0.7),
        ("0.5", "1", 0.5),
    ],
)
def test_quantities_are_read_in_their_units(text, unit, value):
    assert parse_quantity(text, unit) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "unit"),
    [("5 ms", "J"), ("-1", "s"), ("0", "s"), ("", "byte"), ("1.2.3", "1"), ("k", "J")],
)
def test_what_is_no_quantity_of_the_unit_is_refused(text, unit):
    with pytest.raises(ValueError, match=r".*"):
        parse_quantity(text, unit)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (5e-3, "J", "5.00 mJ"),
        (20_000, "parameter", "20.0 k"),
        (0.5, "1", "0.5"),
        (2048, "byte", "2.00 KiB"),
        (3629 * 2**20, "byte", "3.54 GiB"),
    ],
)
def test_quantities_are_written_with_their_units(value, unit, text):
    assert format_quantity(value, unit) == text


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("energy=5ms", "limit energy: got '5ms', allowed: a number above zero, plain or with kJ"),
        ("energy", "quantity=value"),
        ("heat=5", "quantity=value with one of score"),
    ],
)
def test_a_wrong_limit_says_what_is_allowed(limit, words):
    with pytest.raises(SpecError, match=words):
        DIGITS.with_objectives(("score", "memory"), (limit,))
    assert parse_limit("time=5ms") == ("time", pytest.approx(5e-3))


@pytest.mark.parametrize(
    "words",
    [
        ("score",),
        ("score", "heat"),
        ("score", "proxy"),
        ("memory", "peak"),
        "score",
        ("energy", "energy"),
        ("score", "memory", "energy", "time", "macs", "trained-parameters"),
    ],
)
def test_wrong_objectives_are_refused(words):
    with pytest.raises(SpecError, match="objectives"):
        Session(model="digits-cnn", policy="none", objectives=words)


def test_the_usual_objectives_are_what_they_were():
    names = [(one.name, one.unit, one.sense) for one in DIGITS.problem.objectives]
    assert names == [
        ("proxy_score", "1", "max"),
        ("peak_live_bytes", "byte", "min"),
        ("step_energy_j", "J", "min"),
    ]
    assert DIGITS.problem.notes == ()


@pytest.mark.parametrize(
    "words",
    [
        ("proxy", "memory", "trained-parameters"),
        ("score", "time"),
        ("score", "macs", "above-inference", "energy", "trained-parameters"),
        ("memory", "energy"),
    ],
)
def test_a_front_is_not_dominated_in_what_was_asked(words):
    session = DIGITS.with_objectives(words, ("proxy=0.3",) if "score" not in words else ())
    front = session.search(50)
    objectives = session.problem.objectives
    assert len(objectives) == len(words)
    costs = front.table.costs
    known = {
        "proxy_score": front.table.score,
        "training_macs": costs.forward_macs + costs.input_grad_macs + costs.weight_grad_macs,
    }
    values = np.stack(
        [known.get(one.name, getattr(costs, one.name, None)) for one in objectives], axis=1
    )
    feasible = np.flatnonzero(front.table.feasible)
    best = feasible[is_non_dominated(values[feasible], objectives)]
    assert set(best) == set(front.rows)
    document = FrontDocument.model_validate_json(session.front_document(front).to_json())
    assert document.hypervolume == pytest.approx(hypervolume(values[best], objectives))
    for name in ("knee", "min-memory", "max-accuracy", "cheapest-near-best"):
        assert pick(document, name).on_front
        assert front.pick(name).reason == pick_reason(document, name)


def test_the_least_memory_is_found_where_memory_is_no_objective():
    front = DIGITS.with_objectives(("score", "energy")).search(25)
    rows = front.rows
    assert front.pick("min-memory").row in rows[front.table.peak_live_bytes[rows].argmin() :]
    least = front.table.peak_live_bytes[front.pick("min-memory").row]
    assert least == front.table.peak_live_bytes[rows].min()


@pytest.mark.parametrize(
    ("limit", "column", "bound", "sign"),
    [
        ("energy=100uJ", "step_energy_j", 1e-4, 1),
        ("trained-parameters=5k", "trained_parameter_count", 5000, 1),
        ("time=2ms", "step_time_s", 2e-3, 1),
        ("peak=40KiB", "peak_live_bytes", 40 * 1024, 1),
        ("proxy=0.5", "score", 0.5, -1),
    ],
)
def test_a_limit_holds_on_the_whole_front(limit, column, bound, sign):
    free = DIGITS.search(50)
    session = DIGITS.with_objectives(DIGITS.objectives, (limit,))
    front = session.search(50)
    values, before = (
        sign * getattr(one.table if column == "score" else one.table.costs, column)[one.rows]
        for one in (front, free)
    )
    assert len(values)
    assert values.max() <= sign * bound
    assert before.max() > sign * bound  # the limit cuts something off
    assert front.hypervolume < free.hypervolume
    (record,) = session.front_document(front).limits
    assert (record.value, record.sense) == (pytest.approx(bound), "most" if sign > 0 else "least")


def test_time_is_left_out_beside_energy_where_power_is_constant():
    session = Session(
        model="digits-cnn",
        device="stm32h743",
        policy="none",
        objectives=("score", "time", "energy"),
    )
    assert [one.name for one in session.problem.objectives] == ["proxy_score", "step_energy_j"]
    assert "0.42 W" in session.problem.notes[0]
    alone = session.with_objectives(("score", "time"))
    assert [one.name for one in alone.problem.objectives] == ["proxy_score", "step_time_s"]


def test_accuracy_is_not_promised_where_none_is_predicted():
    with pytest.raises(SpecError, match="accuracy: no metric is predicted here"):
        _ = DIGITS.with_objectives(("accuracy", "memory")).problem


@pytest.mark.parametrize(("column", "name"), [("accuracy", "accuracy"), ("macro_f1", "macro F1")])
def test_a_proxy_that_is_none_is_called_by_the_metric_that_is_predicted(column, name):
    assert column_of("accuracy", column) == column
    with pytest.raises(SpecError, match=f"the score is the predicted {name} here; take accuracy"):
        column_of("proxy", column)


@pytest.mark.parametrize(
    ("objectives", "limits", "words"),
    [
        (("memory", "energy"), (), "no score"),
        (("score", "energy"), (), "memory is not among the objectives"),
        (("score", "memory", "energy"), ("time=5ms",), "a limit on step_time_s"),
        (("score", "memory", "energy"), ("proxy=0.5",), "a limit on proxy_score"),
    ],
)
def test_the_exact_front_is_refused_with_its_reason(objectives, limits, words):
    session = DIGITS.with_objectives(objectives, limits)
    assert words in reason_against(session.problem)
    with pytest.raises(SpecError, match=words):
        session.exact_front(time_limit_s=1)


@pytest.mark.parametrize(
    ("objectives", "limits"),
    [
        (("score", "memory", "trained-parameters"), ()),
        (("score", "memory", "macs"), ("macs=1M",)),
        (("score", "memory", "energy"), ("energy=100uJ", "peak=40KiB")),
    ],
)
def test_no_search_beats_the_exact_front_of_other_objectives_and_limits(objectives, limits):
    session = DIGITS.with_objectives(objectives, limits)
    exact = session.exact_front(time_limit_s=4)
    front = session.search(100)
    assert exact.table.feasible.all()
    assert front.hypervolume <= exact.hypervolume_limit * (1 + 1e-9)
    share = exact_share(front, exact)
    assert 0.8 < share <= 1


def test_the_terminal_takes_objectives_and_limits(tmp_path, capsys):
    path = tmp_path / "front.json"
    command = ["search", "digits-cnn", "gap9", "--trials", "25", "--out", str(path), "--exact"]
    command += ["--objectives", "proxy,energy,trained-parameters", "--limit", "energy=100uJ"]
    command += ["--limit", "trained-parameters=5k", "--memory-limit", "60000"]
    assert run(command) == 0
    told = capsys.readouterr().out
    assert "no share of an exact front: memory is not among the objectives" in " ".join(
        told.split()
    )
    data = json.loads(path.read_text())
    assert [one["name"] for one in data["limits"]] == [
        "peak_live_bytes",
        "step_energy_j",
        "trained_parameter_count",
    ]
    document = load_front(path)
    assert document.exact_hypervolume_ratio is None
    members = [one for one in document.candidates if one.on_front]
    assert all(one.cost["step"]["energy_j"] <= 1e-4 for one in members)
    assert (
        run(["export", str(path), "--pick", "min-memory", "--out", str(tmp_path / "p.json")]) == 0
    )
    assert run(["search", "digits-cnn", "gap9", "--objectives", "proxy,heat"]) == 2
    assert ", ".join(WORDS) in capsys.readouterr().err


def test_a_front_document_without_the_newer_fields_is_still_read():
    document = DIGITS.front_document(DIGITS.search(10))
    data = json.loads(document.to_json())
    for field in ("limits", "notes"):
        del data[field]
    for candidate in data["candidates"]:
        del candidate["feasible"]
    old = FrontDocument.model_validate(data)
    assert [one.fits for one in old.candidates] == [one.fits for one in document.candidates]
    assert pick(old, "best-that-fits").policy == pick(document, "best-that-fits").policy
