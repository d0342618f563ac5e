"""What a session finds of a network on a task, and what it leaves out."""

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from explorer import paths
from explorer.accuracy import tasks
from explorer.accuracy.protocols import Protocol
from explorer.accuracy.records import Ledger
from explorer.accuracy.tasks import _folder, load_task
from explorer.app.controls import Controls
from explorer.cli import run as terminal
from explorer.errors import SpecError
from explorer.search import sources
from explorer.search.sources import (
    known_runs,
    left_out,
    measured_runs,
    model_graph,
    own_ledger,
    score_path,
)
from explorer.session import Session

GRAPH = model_graph("digits-cnn")


def test_runs_of_the_commonest_protocol_count(tmp_path, monkeypatch):
    shipped = measured_runs(GRAPH, "digits")
    assert len(shipped) > 50
    ledger = Ledger(tmp_path / "runs" / "digits-cnn-digits.jsonl")
    others = [run.model_copy(update={"protocol": Protocol(ways=3)}) for run in shipped[:2]]
    for run in (others[0], *shipped[:3], others[1]):
        ledger.append(run)
    monkeypatch.setattr(sources, "data_cache", lambda: tmp_path)
    measured_runs.cache_clear()
    try:
        assert measured_runs(GRAPH, "digits") == shipped[:3]
    finally:
        measured_runs.cache_clear()


def test_another_form_of_a_network_has_its_own_score_table():
    usual, small = model_graph("mcunet-5fps"), model_graph("mcunet-5fps:resolution=84")
    assert score_path(usual, "omniglot").name == "mcunet-5fps-omniglot.npz"
    assert score_path(small, "omniglot").name == f"mcunet-5fps-omniglot-{small.digest}.npz"
    assert score_path(usual, "omniglot").is_file()


def test_the_app_offers_the_folder_it_was_given(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for index in range(2):
            (tmp_path / name / f"{index}.png").write_bytes(b"")
    controls = Controls(lambda: None)
    controls.show(Session(model="digits-cnn", task=str(tmp_path)))
    assert controls.task.value == str(tmp_path)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(paths.CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "mine"
    for name in "abc":
        (place / name).mkdir(parents=True)
        for index in range(4):
            paint(place / name / f"{index}.png", index)
    return place


def paint(path, value):
    Image.fromarray(np.full((40, 40, 3), 50 + value, dtype=np.uint8)).save(path)


def run_of(graph, task, **changes):
    like = measured_runs(GRAPH, "digits")[0]
    model = like.model.model_copy(update={"name": graph.name, "digest": graph.digest})
    return like.model_copy(update={"model": model, "task": task, **changes})


def test_own_runs_on_a_folder_are_of_the_images_it_holds_now(own_cache, folder):
    graph = model_graph("mcunet-5fps")
    weights = sources.own_weights(graph)
    ledger, task = own_ledger(graph, str(folder)), str(folder)
    digest = load_task(task, graph.input_shape[-1]).digest
    ledger.append(run_of(graph, task, data_digest=digest, weights_digest=weights))
    ledger.append(run_of(graph, task, data_digest="0" * 12, weights_digest=weights, seed=7))
    assert [run.data_digest for run in known_runs(graph, task)] == [digest]
    (why,) = left_out(graph, task)
    assert why.endswith(f"1 of 2 runs are left out, their data is not what {task} holds now")
    # the images change: what was measured on them is of other images
    paint(folder / "a" / "0.png", 99)
    assert known_runs(graph, task) == ()
    assert "2 of 2 runs" in left_out(graph, task)[0]
    # they are gone: nobody can tell
    for path in (folder / "b").iterdir():
        path.write_bytes(b"no image")
    assert known_runs(graph, task) == ()
    assert "cannot be checked" in left_out(graph, task)[0]


def test_many_files_are_looked_at_when_they_may_have_changed(own_cache, folder, monkeypatch):
    now_s, looks = [100.0], []
    look = tasks.data_state
    monkeypatch.setattr(tasks, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    monkeypatch.setattr(tasks, "data_state", lambda name: looks.append(name) or look(name))
    monkeypatch.setattr(tasks, "FEW_FILES", 5)
    graph = model_graph("mcunet-5fps")
    weights = sources.own_weights(graph)
    ledger, task = own_ledger(graph, str(folder)), str(folder)

    def measure(seed):
        """As a run does: on the data that is there."""
        digest = load_task(task, graph.input_shape[-1]).digest
        ledger.append(run_of(graph, task, data_digest=digest, weights_digest=weights, seed=seed))

    def turn():
        """Runs shown on a turn of a control, and how often all the files were looked at."""
        before = len(looks)
        shown = known_runs(graph, task)
        left_out(graph, task)
        return [run.seed for run in shown], len(looks) - before

    measure(1)
    assert turn()[0] == [1]
    assert [turn() for _ in range(5)] == [([1], 0)] * 5
    paint(folder / "a" / "4.png", 9)  # one more: its folder tells
    assert turn()[0] == []
    assert turn() == ([], 0)
    (folder / "a" / "4.png").unlink()
    assert turn()[0] == [1]
    paint(folder / "a" / "0.png", 99)  # in place: seen a little later
    assert turn() == ([1], 0)
    now_s[0] += tasks.SEEN_S
    assert turn()[0] == []
    paint(folder / "a" / "0.png", 98)  # in place, and then a run is measured: seen at once
    measure(2)
    assert turn()[0] == [2]
    assert turn() == ([2], 0)


def test_a_folder_of_many_images_is_checked_when_one_came_or_went(folder, monkeypatch):
    looks, look = [], _folder.class_files
    monkeypatch.setattr(_folder, "class_files", lambda path: looks.append(path) or look(path))
    monkeypatch.setattr(tasks, "FEW_FILES", 5)
    session = Session(model="mcunet-5fps", task=str(folder))
    before = len(looks)
    for batch in (2, 3, 4):
        session = session.with_batch(batch)
    assert len(looks) == before
    for name in "ab":
        shutil.rmtree(folder / name)
    with pytest.raises(SpecError, match="at least two, one for each class"):
        session.with_batch(5)


def test_own_runs_stand_beside_shipped_ones_of_the_same_data_and_scale(own_cache, capsys):
    shipped = measured_runs(GRAPH, "digits")
    digest = next(run.data_digest for run in reversed(shipped) if run.data_digest)
    ledger = own_ledger(GRAPH, "digits")
    assert left_out(GRAPH, "digits") == ()
    like = shipped[0].model_copy(update={"data_digest": digest, "seed": 5})
    assert (like.weights_digest, like.task) == (shipped[-1].weights_digest, "digits")
    ledger.append(like)
    ledger.append(like.model_copy(update={"data_digest": "1" * 12}))
    ledger.append(like.model_copy(update={"protocol": Protocol(ways=2)}))
    ledger.append(like.model_copy(update={"task": "omniglot"}))
    with ledger.path.open("ab") as file:
        file.write(b'{"model": 3}\n')
    assert known_runs(GRAPH, "digits") == (*shipped, like)
    broken, data, scale = left_out(GRAPH, "digits")
    assert "1 of 5 lines cannot be read and are left out, the first is line 5: " in broken
    assert "1 of 3 runs are left out, their data" in data
    assert "1 of 2 runs are left out, their weights or protocol" in scale
    assert terminal(["compare", "digits-cnn", "gap9", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)
    assert err.splitlines() == [f"note: {why}" for why in (broken, data, scale)]


def test_a_changed_ledger_is_read_again_whatever_the_clock_says(own_cache):
    ledger = own_ledger(GRAPH, "digits")
    like = measured_runs(GRAPH, "digits")[0]
    count = len(known_runs(GRAPH, "digits"))
    for number, now_s in enumerate((4_000_000_000, 1_000, 0), 1):
        ledger.append(like.model_copy(update={"seed": 100 + number}))
        os.utime(ledger.path, (now_s, now_s))
        assert len(known_runs(GRAPH, "digits")) == count + number


def test_own_ledgers_count_in_a_calibration_when_they_are_named(own_cache, tmp_path, capsys):
    shipped = measured_runs(GRAPH, "digits")
    ledger = Ledger(tmp_path / "more.jsonl")
    for seed in (1, 2, 3):
        ledger.append(shipped[seed].model_copy(update={"seed": seed}))
    ledger.append(shipped[0])  # there already
    ledger.append(shipped[5].model_copy(update={"data_digest": "2" * 12}))

    def asked(*more):
        code = terminal(["calibrate", "digits-cnn", "digits", "--json", *more])
        out, err = capsys.readouterr()
        assert code == 0, err
        return json.loads(out)[0], err

    alone, err = asked()
    assert (alone["run_count"], err) == (len(shipped), "")
    more, err = asked("--ledger", str(ledger.path))
    assert more["run_count"] == len(shipped) + 3
    assert "1 of 5 runs are left out, their data" in err
    assert terminal(["calibrate", "digits-cnn", "digits", "--ledger", str(tmp_path / "no")]) == 2
    assert "ledger: no file" in capsys.readouterr().err
    assert terminal(["calibrate", "epidenet", "digits"]) == 2
    assert "runs of" in capsys.readouterr().err


def test_a_calibration_counts_runs_of_one_normalisation(own_cache, tmp_path, capsys):
    other = Session(model="digits-cnn", norm="bn", policy="none").graph
    assert other.digest != GRAPH.digest
    ledger = Ledger(tmp_path / "bn.jsonl")
    for run in measured_runs(GRAPH, "digits")[:60]:
        ledger.append(run_of(other, "digits", design=run.design))
    with_it = ["--ledger", str(ledger.path), "--json"]
    for norm, count in (("bn", 60), ("gn", 103), (None, 103)):
        asked = ["calibrate", "digits-cnn", "digits", *with_it]
        assert terminal(asked + (["--norm", norm] if norm else [])) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert (row["norm"], row["run_count"]) == (norm or "gn", count)
    assert terminal(["calibrate", "epidenet", "eog-saccades", "--norm", "bn"]) == 2
    assert "epidenet (bn) on eog-saccades: 3 runs of 3 families" in capsys.readouterr().err
    assert terminal(["calibrate", "epidenet", "eog-saccades", "--norm", "batch"]) == 2
    assert "norm" in capsys.readouterr().err


def test_a_calibration_is_of_the_scores_that_are_there_now(monkeypatch):
    table = sources.score_table(GRAPH, "digits")
    assert table is not None
    with_scores = sources.calibration_of(GRAPH, "digits")
    monkeypatch.setattr(sources, "score_table", lambda *_: None)
    without = sources.calibration_of(GRAPH, "digits")
    assert set(without.feature_names) < set(with_scores.feature_names)
