"""Measuring some of a front: what is chosen, resumed, kept apart, and how the front moves."""

import json
import signal
from dataclasses import replace

import numpy as np
import pytest

from explorer import refining
from explorer.accuracy.progress import CancelledError
from explorer.accuracy.protocols import Protocol
from explorer.accuracy.records import Ledger
from explorer.cli import run
from explorer.errors import SpecError
from explorer.export import FrontDocument
from explorer.refining import Measure, refine
from explorer.search.control import SearchControl
from explorer.search.judge import design_keys, features
from explorer.search.refinement import ALONG, DISAGREED, measured_front, most_informative
from explorer.session import Session

DIGITS = Session(model="digits-cnn", policy="none")
TINY = Protocol(ways=2, shots=1, query_count=2, steps=2)


@pytest.fixture(scope="module")
def front():
    return DIGITS.search(50)


@pytest.fixture
def how(tmp_path):
    return Measure(episodes=2, tuning_episodes=1, protocol=TINY, ledger=tmp_path / "runs.jsonl")


def test_half_lies_along_the_front_and_half_where_criteria_disagree(front):
    table, judge = front.table, DIGITS.problem.judge
    chosen = most_informative(table, judge, 7, "gn")
    assert [choice.why for choice in chosen] == [ALONG] * 4 + [DISAGREED] * 3
    rows = np.array([choice.row for choice in chosen])
    assert len(set(rows)) == 7
    assert not np.isfinite(table.worth.measured[rows]).any()
    assert table.designs.trains[rows].all()
    assert table.on_front[rows[:4]].all()
    members = np.flatnonzero(
        table.on_front & ~np.isfinite(table.worth.measured) & table.designs.trains
    )
    # both ends, and the two between them a third of the way from each
    order = members[np.argsort(table.score[members], kind="stable")]
    place = [int(np.flatnonzero(table.score[order] == table.score[row])[0]) for row in rows[:4]]
    assert place[0] == 0
    assert place[-1] == len(order) - 1
    assert np.allclose(np.diff(place), (len(order) - 1) / 3, atol=1)
    # ranks from the plain definition, over the unmeasured of the front and of the next layer
    rest = table.take(np.flatnonzero(~table.on_front))
    layer = np.flatnonzero(~table.on_front)[np.flatnonzero(rest.on_front)]
    near = np.concatenate([members, layer])
    near = near[~np.isfinite(table.worth.measured[near]) & table.designs.trains[near]]
    criteria = features(judge.table, table.designs, table.costs)
    ranks = np.array([[np.sum(c[near] < c[row]) for row in near] for c in criteria.values()])
    spread = dict(zip(near.tolist(), ranks.std(axis=0), strict=True))
    least = min(spread[row] for row in rows[4:])
    others = [spread[row] for row in near.tolist() if row not in rows]
    assert least >= np.quantile(others, 0.8)


def test_fewer_are_chosen_when_fewer_are_left(front):
    table = front.table.take(front.rows[:3])
    chosen = most_informative(table, DIGITS.problem.judge, 50, "gn")
    assert 1 <= len(chosen) <= 3
    assert most_informative(front.table, DIGITS.problem.judge, 50, "bn") != ()
    other = replace(DIGITS._setup(), norm="none")
    foreign = DIGITS.problem.screen(front.table.designs.under([other] * len(front.table)))
    assert most_informative(foreign, DIGITS.problem.judge, 5, "gn") == ()


def test_the_measured_front_is_brute_force(front):
    table = front.table
    known = np.flatnonzero(np.isfinite(table.worth.measured))
    costs = np.stack([table.peak_live_bytes, table.step_energy_j, -table.worth.measured], axis=1)
    best = measured_front(table)
    for row in range(len(table)):
        beaten = any(
            (costs[other] <= costs[row]).all() and (costs[other] < costs[row]).any()
            for other in known
        )
        assert best[row] == (row in known and not beaten)


def test_measured_designs_stay_beside_a_score_that_was_not_earned(front, how):
    seen = []
    after = refine(DIGITS, front, 3, how, on_tuned=lambda *at: seen.append(at))
    moved = after.refinement
    assert "at least 19 runs" in moved.reason_against
    assert (len(moved.choices), moved.episodes) == (3, 2)
    runs = Ledger(how.ledger).read().runs
    assert [run.accuracy for run in runs] == [one.accuracy for one in moved.choices]
    assert all((run.protocol, run.episodes) == (TINY, 2) for run in runs)
    assert {design for design, *_ in seen} == {0, 1, 2}
    # another protocol is another scale: what was known before is not mixed in
    rows = [one.row for one in moved.choices]
    measured = np.isfinite(after.table.worth.measured)
    keys = np.array([hash(key) for key in design_keys(after.table.designs)])
    assert np.array_equal(measured, np.isin(keys, keys[rows]))
    assert after.table.score_name == front.table.score_name
    assert np.array_equal(after.table.score, front.table.score)
    assert (moved.left_count, moved.entered_count) == (0, 0)
    assert moved.hypervolume_after == pytest.approx(front.hypervolume)
    document = FrontDocument.model_validate_json(DIGITS.front_document(after).to_json())
    record = document.refinement
    assert [one.candidate for one in record.choices] == rows
    assert record.reason_against == moved.reason_against
    for one in record.choices:
        assert document.candidates[one.candidate].accuracy.name.startswith("proxy score")


def test_nothing_is_measured_twice(front, how, monkeypatch):
    first = refine(DIGITS, front, 2, how)

    def refuse(*_, **__):
        raise AssertionError("measured again")

    monkeypatch.setattr("explorer.accuracy.finetune.measure", refuse)
    again = refine(DIGITS, front, 2, how)
    assert again.refinement.choices == first.refinement.choices
    assert len(Ledger(how.ledger).read()) == 2


def test_a_stopped_measurement_keeps_what_was_done(front, how):
    control = SearchControl()

    def stop(design, designs, done, total):
        if design == 1:
            control.stop()

    with pytest.raises(CancelledError):
        refine(DIGITS, front, 3, how, on_tuned=stop, control=control)
    assert len(Ledger(how.ledger).read()) == 1
    assert len(refine(DIGITS, front, 3, how).refinement.choices) == 3


def test_an_earned_calibration_becomes_the_objective_and_the_search_goes_on(
    front, tmp_path, monkeypatch
):
    counts = []

    def earned(graph, runs, table, metric):
        counts.append(len(runs))
        found = real(graph, runs, table, metric)
        return replace(found, evidence=replace(found.evidence, lead_low=0.1))

    real = refining.calibrate_runs
    monkeypatch.setattr(refining, "calibrate_runs", earned)
    how = Measure(episodes=1, tuning_episodes=1, ledger=tmp_path / "runs.jsonl")
    after = refine(DIGITS, front, 1, how, trials=25)
    moved = after.refinement
    assert counts == [103]  # a run of one episode calibrates nothing
    assert moved.reason_against == ""
    assert after.table.score_name == "accuracy"
    assert after.trial_count == front.trial_count + 25
    assert len(after.table) == len(front.table) + 25
    assert moved.kept_count + moved.left_count == len(front)
    assert moved.kept_count + moved.entered_count == len(after)
    assert moved.hypervolume_after >= moved.hypervolume_before > 0
    (choice,) = moved.choices
    assert after.table.score[choice.row] == choice.accuracy
    assert after.table.score_kind[choice.row].word == "measured"
    assert choice.score_before == front.table.score[choice.row]
    assert DIGITS.front_document(after).objectives[0].name == "accuracy"


def test_the_proxy_stays_where_it_was_insisted_on(front, how):
    session = DIGITS.with_objectives(("proxy", "memory", "energy"))
    after = refine(session, front, 1, how)
    assert "proxy score" in after.refinement.reason_against


def test_a_front_of_another_network_is_refused(front, how):
    with pytest.raises(SpecError, match="not of mcunet-5fps"):
        refine(Session(policy="none"), front, 1, how)
    with pytest.raises(SpecError, match="measure: got 0"):
        refine(DIGITS, front, 0, how)


def test_the_terminal_measures_and_says_how_the_front_moved(tmp_path, capsys, monkeypatch):
    from functools import partial

    monkeypatch.setattr(
        "explorer.cli.questions.Measure", partial(Measure, tuning_episodes=1, protocol=TINY)
    )
    out, ledger = tmp_path / "front.json", tmp_path / "runs.jsonl"
    command = ["search", "digits-cnn", "gap9", "--trials", "25", "--measure", "2"]
    command += ["--episodes", "2", "--ledger", str(ledger), "--out", str(out)]
    assert run(command) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "measured on 2 episodes" in told
    assert "the score stays as it was: " in told
    record = json.loads(out.read_text())["refinement"]
    assert len(record["choices"]) == len(Ledger(ledger).read()) == 2
    assert run(["validate", str(out)]) == 0
    assert run(["search", "digits-cnn", "gap9", "--measure", "-1"]) == 2


def test_ctrl_c_while_measuring_keeps_the_screened_front(tmp_path, capsys, monkeypatch):
    def stopped(*_, cancelled, **__):
        assert not cancelled()
        signal.raise_signal(signal.SIGINT)
        assert cancelled()
        raise CancelledError("cancelled after 3 of 9 fine-tunings")

    monkeypatch.setattr("explorer.accuracy.finetune.measure", stopped)
    ledger = str(tmp_path / "runs.jsonl")
    command = ["search", "digits-cnn", "gap9", "--trials", "10", "--measure", "1"]
    assert run([*command, "--ledger", ledger, "--json"]) == 130
    out, err = capsys.readouterr()
    assert err == "explorer: stopped while measuring; the same command goes on\n"
    document = json.loads(out)
    assert "cancelled after 3 of 9" in document["notes"][-1]
    assert document["refinement"] is None


def test_runs_on_other_data_are_not_those_of_this_data(front, how):
    first = refine(DIGITS, front, 1, how)
    (run,) = Ledger(how.ledger).read()
    other = run.model_copy(update={"data_digest": "0" * 12, "accuracy": 0.987})
    how.ledger.unlink()
    Ledger(how.ledger).append(other)
    again = refine(DIGITS, front, 1, how)
    assert again.refinement.choices == first.refinement.choices
    assert len(Ledger(how.ledger).read()) == 2
