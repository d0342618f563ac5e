"""Named studies: killed and gone on with, and shared by workers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import optuna
import pytest

from explorer.search.named import SAME_AS, StudyPlace, _storage
from explorer.session import Session

DIGITS = Session(model="digits-cnn", policy="none")
WORKER_SCRIPT = Path(__file__).parents[1] / "search_worker.py"
SEARCH = [sys.executable, "-m", "explorer", "search", "digits-cnn", "gap9"]
BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
DRIVER = next((name for name in ("psycopg", "psycopg2") if find_spec(name)), None)


def told(name, storage=None):
    opened = _storage(StudyPlace(name=name, storage=storage))
    trials = optuna.load_study(study_name=name, storage=opened).get_trials()
    if storage is not None:
        opened.remove_session()
        opened.engine.dispose()
    return [trial for trial in trials if trial.state.name == "COMPLETE"]


def assert_nothing_evaluated_twice(trials):
    """Genes of every trial that is not marked as a twin are its own; twins have equal values."""
    by_number = {trial.number: trial for trial in trials}
    evaluated = [trial for trial in trials if SAME_AS not in trial.user_attrs]
    genes = [tuple(sorted(trial.params.items())) for trial in evaluated]
    assert len(set(genes)) == len(genes)
    for trial in trials:
        if SAME_AS in trial.user_attrs:
            twin = by_number[trial.user_attrs[SAME_AS]]
            assert (twin.params, twin.values) == (trial.params, trial.values)


def wait_for(condition, processes):
    deadline = time.monotonic() + 120
    while not condition():
        assert all(process.poll() is None for process in processes), "a worker ended"
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.02)


def shared(folder, name, storage, trials, count):
    """What `count` workers that start together print."""
    go = folder / "go"
    readies = [folder / f"ready-{at}" for at in range(count)]
    workers = [
        subprocess.Popen(
            [sys.executable, str(WORKER_SCRIPT), name, storage or "", str(trials), ready, go],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for ready in readies
    ]
    wait_for(lambda: all(ready.exists() for ready in readies), workers)
    go.touch()
    answers = []
    for worker in workers:
        out, err = worker.communicate(timeout=300)
        assert worker.returncode == 0, err
        answers.append([int(word) for word in out.split()])
    return answers


def test_a_killed_search_loses_nothing_told_and_evaluates_nothing_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    journal, out = tmp_path / "kept.journal", tmp_path / "front.json"
    process = subprocess.Popen([*SEARCH, "--trials", "100000", "--study", "kept"], cwd=tmp_path)
    wait_for(lambda: journal.is_file() and journal.read_bytes().count(b'"values"') > 40, [process])
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = told("kept")
    assert len(before) > 10
    trials = len(before) + 60
    options = ["--trials", str(trials), "--study", "kept", "--out", str(out)]
    subprocess.run([*SEARCH, *options], cwd=tmp_path, check=True, timeout=300)
    after = told("kept")
    assert len(after) == trials
    kept = {trial.number: trial for trial in after}
    for trial in before:
        same = kept[trial.number]
        assert (same.params, same.values, same.user_attrs) == (
            trial.params,
            trial.values,
            trial.user_attrs,
        )
    assert_nothing_evaluated_twice(after)
    assert len(json.loads(out.read_text())["candidates"]) >= trials


@pytest.mark.parametrize(("kind", "count"), [("journal", 110), ("sqlite", 8)])
def test_two_processes_share_a_study_and_never_exceed_its_trials(
    tmp_path, monkeypatch, kind, count
):
    monkeypatch.chdir(tmp_path)
    storage = f"sqlite:///{tmp_path / 'shared.db'}" if kind == "sqlite" else None
    answers = shared(tmp_path, "shared", storage, count, 2)
    trials = told("shared", storage)
    assert len(trials) == count
    assert answers == [[count, count]] * 2
    assert_nothing_evaluated_twice(trials)


@pytest.fixture
def postgres():
    """The URL of a server of our own, on a socket."""
    if BINARIES is None or not (BINARIES / "initdb").exists():
        pytest.skip("no PostgreSQL here: initdb was not found")
    if DRIVER is None:
        pytest.skip("no PostgreSQL driver here: install psycopg")
    is_root = os.geteuid() == 0
    if is_root and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and runuser was not found")
    as_user = ["runuser", "-u", "postgres", "--"] if is_root else []
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        if is_root:
            shutil.chown(folder, "postgres")
        data = f"{folder}/data"
        control = [*as_user, str(BINARIES / "pg_ctl"), "-D", data, "-w"]
        make = [str(BINARIES / "initdb"), "-D", data, "-U", "postgres", "-A", "trust"]
        quiet = {"cwd": folder, "check": True, "stdout": subprocess.DEVNULL, "timeout": 120}
        subprocess.run([*as_user, *make], **quiet)
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        log = ["-l", f"{folder}/log"]
        subprocess.run([*control, *log, "-o", options, "start"], **quiet)
        try:
            yield f"postgresql+{DRIVER}://postgres@/postgres?host={folder}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **quiet)


def test_four_workers_share_a_study_in_postgresql(tmp_path, postgres):
    answers = shared(tmp_path, "four", postgres, 60, 4)
    trials = told("four", postgres)
    assert len(trials) == 60
    assert answers == [[60, 60]] * 4
    assert_nothing_evaluated_twice(trials)


def test_a_fresh_named_study_draws_what_one_in_memory_draws(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = DIGITS.search(60, seed=3, study="fresh", warm=False)
    plain = DIGITS.search(60, seed=3, warm=False)
    assert np.array_equal(named.table.values, plain.table.values)


@pytest.mark.parametrize("sampler", ["random", "nsga2"])
def test_going_on_draws_other_genes_than_before(tmp_path, monkeypatch, sampler):
    monkeypatch.chdir(tmp_path)
    for trials in (50, 100):
        DIGITS.search(trials, sampler, study="on", warm=False)
    trials = told("on")
    assert len(trials) == 100
    twins = [trial for trial in trials if SAME_AS in trial.user_attrs]
    assert len(twins) < 20
    assert_nothing_evaluated_twice(trials)


def test_told_designs_are_screened_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    screened = []
    plain = type(DIGITS.problem).screen

    def counted(self, designs, labels=None):
        screened.append(len(designs))
        return plain(self, designs, labels)

    known = len(DIGITS.compare())
    monkeypatch.setattr(type(DIGITS.problem), "screen", counted)
    DIGITS.search(150, study="once", warm=False)
    assert sum(screened) <= 150 + known


def test_a_half_line_of_a_killed_process_is_dropped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    DIGITS.search(25, study="torn", warm=False)
    with Path("torn.journal").open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    assert DIGITS.search(50, study="torn", warm=False).trial_count == 50
    assert len(told("torn")) == 50


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("explorer.search.named.LOCK_GRACE_S", 3)
    DIGITS.search(5, study="locked", warm=False)
    Path("locked.journal.lock").symlink_to("locked.journal")
    assert DIGITS.search(10, study="locked", warm=False).trial_count == 10
