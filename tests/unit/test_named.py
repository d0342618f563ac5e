"""Named studies: killed and gone on with, and shared by workers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import optuna
import pytest
from search_worker import quick

from explorer.accuracy.records import DesignRecord, Ledger
from explorer.errors import SpecError
from explorer.search.locks import FileLocks, database_locks
from explorer.search.named import POLICY, WORKER
from explorer.session import Session

DIGITS = Session(model="digits-cnn", policy="none")
KNOWN = len(DIGITS.compare())
WORKER_SCRIPT = Path(__file__).parents[1] / "search_worker.py"
SEARCH = [sys.executable, "-m", "explorer", "search", "digits-cnn", "gap9"]
BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@contextmanager
def loaded(name, storage=None):
    """A study as anyone opens it who knows Optuna alone, a dashboard for one."""
    if storage is None:
        backend = optuna.storages.journal.JournalFileBackend(f"{name}.journal")
        yield optuna.load_study(study_name=name, storage=optuna.storages.JournalStorage(backend))
        return
    opened = optuna.storages.RDBStorage(storage)
    yield optuna.load_study(study_name=name, storage=opened)
    opened.remove_session()
    opened.engine.dispose()


def trials_of(name, storage=None):
    with loaded(name, storage) as study:
        return study.trials


def told(name, storage=None):
    return [trial for trial in trials_of(name, storage) if trial.state.name == "COMPLETE"]


@contextmanager
def workers(folder, name, storage, trials, count, *ledger):
    """Processes that begin together: the script that has them, and their numbers."""
    with subprocess.Popen(
        [sys.executable, WORKER_SCRIPT, name, storage or "", str(trials), str(count), *ledger],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as script:
        yield script, [int(word) for word in script.stdout.readline().split()]


def answers(script):
    """Candidates and told trials each worker saw that lived to its end."""
    out, err = script.communicate(timeout=300)
    assert script.returncode == 0, err
    return [[int(word) for word in line.split()] for line in out.splitlines()]


def wait_for(condition, process):
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "it ended"
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.02)


def test_a_killed_search_loses_nothing_told_and_tells_nothing_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    journal, out = tmp_path / "kept.journal", tmp_path / "front.json"
    process = subprocess.Popen([*SEARCH, "--trials", "100000", "--study", "kept"])
    wait_for(lambda: journal.is_file() and journal.read_bytes().count(b'"values"') > 40, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = told("kept")
    assert len(before) > 10
    trials = len(before) + 60
    options = ["--trials", str(trials), "--study", "kept", "--out", str(out)]
    subprocess.run([*SEARCH, *options], check=True, timeout=300)
    after = told("kept")
    assert len(after) == trials
    assert after[: len(before)] == before
    assert len(json.loads(out.read_text())["candidates"]) >= trials


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_two_processes_share_a_study_and_never_exceed_its_trials(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    storage = f"sqlite:///{tmp_path / 'shared.db'}" if kind == "sqlite" else None
    with workers(tmp_path, "shared", storage, 90, 2) as (script, _):
        assert answers(script) == [[90, 90]] * 2
    trials = trials_of("shared", storage)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 90
    asked = [tuple(trial.params.values()) for trial in trials]
    assert len(set(asked)) > 80, "workers draw alike"


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_two_notebooks_of_one_process_share_a_study(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    storage = f"sqlite:///{tmp_path / 'shared.db'}" if kind == "sqlite" else None
    fronts = []

    def search():
        session = Session(model="digits-cnn", policy="none")
        fronts.append(session.search(90, study="shared", storage=storage, warm=False))

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [front.trial_count for front in fronts] == [90, 90]
    one, other = (front.table.values for front in fronts)
    assert np.array_equal(np.sort(one, axis=0), np.sort(other, axis=0))
    assert len(told("shared", storage)) == 90


def test_a_killed_measurement_is_made_again_and_no_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ledger = tmp_path / "runs.jsonl"
    with workers(tmp_path, "runs", None, 1000, 1, ledger) as (script, (worker,)):
        wait_for(lambda: len(Ledger(ledger).read()) > 2, script)
        os.kill(worker, signal.SIGKILL)
        assert answers(script) == []
    before, measured = told("runs"), Ledger(ledger).read().runs
    count = len(before) + 4
    front = DIGITS.search(count, "random", study="runs", measuring=quick(ledger))
    after = told("runs")
    assert [trial for trial in after if trial.number <= before[-1].number] == before
    assert len(after) == len(front.table) == front.trial_count == count
    runs = Ledger(ledger).read()
    assert runs.runs[: len(measured)] == measured
    assert len(runs.measured()) == len(runs)
    assert {trial.state.name for trial in trials_of("runs")} <= {"COMPLETE", "FAIL"}
    assert sorted(front.table.score) == sorted(trial.values[0] for trial in after)
    assert set(front.table.score) <= {run.accuracy for run in runs}


def test_a_study_of_another_ledger_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    DIGITS.search(1, study="runs", measuring=quick("runs.jsonl"))
    with pytest.raises(SpecError, match="1 of 1 measured designs of the study are not in it"):
        DIGITS.search(2, study="runs", measuring=quick("other.jsonl"))
    with pytest.raises(SpecError, match="episodes was 1, is None"):
        DIGITS.search(2, study="runs")


def test_work_of_a_living_worker_is_left_to_it_and_that_of_a_dead_one_done_again(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    measuring = quick("runs.jsonl")
    DIGITS.search(1, study="runs", measuring=measuring)
    with loaded("runs") as study:
        held = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=study.trials[0].params | {"depth": 1},
            distributions=study.trials[0].distributions,
            user_attrs={WORKER: "other"},
        )
        study.add_trial(held)
    seen = []
    lock = FileLocks(tmp_path / "runs.journal").held("other")
    lock.__enter__()

    def on_batch(done, *_):
        seen.append(done)
        if len(seen) == 2:
            lock.__exit__(None, None, None)

    DIGITS.search(2, "random", study="runs", measuring=measuring, on_batch=on_batch)
    assert seen == [1, 1, 2]
    trials = trials_of("runs")
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert trials[2].params == held.params


def test_locks_keep_out_others_until_they_are_let_go(tmp_path):
    one, other = (FileLocks(tmp_path / "study.db") for _ in range(2))
    with one.held("worker", once=True):
        assert not other.is_free("worker")
        assert other.is_free("another")
    assert other.is_free("worker")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite://", "in memory is not kept"),
        ("sqlite:///:memory:", "in memory is not kept"),
        ("oracle://one/two", "allowed are sqlite, postgresql, mysql"),
        ("sqlite:///none/study.db", "there is no folder"),
    ],
)
def test_a_storage_without_locks_is_refused(tmp_path, monkeypatch, url, reason):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=f"study none: .* cannot be opened: .*{reason}"):
        DIGITS.search(1, study="none", storage=url)


@pytest.fixture
def postgres():
    """The URL of a server of our own, on a socket."""
    if BINARIES is None or not (BINARIES / "initdb").exists():
        pytest.skip("no PostgreSQL here: initdb was not found")
    if not find_spec("psycopg"):
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
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **quiet)


def test_four_workers_measure_on_one_study_in_postgresql(tmp_path, postgres):
    ledger = tmp_path / "runs.jsonl"
    with workers(tmp_path, "four", postgres, 12, 4, ledger) as (script, (first, *_)):
        wait_for(lambda: len(Ledger(ledger).read()) > 3, script)
        os.kill(first, signal.SIGKILL)
        assert answers(script) == [[12, 12]] * 3
    trials = told("four", postgres)
    runs = Ledger(ledger).read()
    assert len(trials) == 12
    assert runs.corrupt_lines == 0
    assert len(runs.measured()) == len(runs)
    reached = {run.design.layers: run.accuracy for run in runs}
    for trial in trials:
        assert trial.values[0] == reached[design_of(trial).layers]


def test_searches_share_a_study_in_postgresql_and_its_locks_are_those_of_the_server(
    tmp_path, postgres
):
    with workers(tmp_path, "quick", postgres, 60, 2) as (script, _):
        assert answers(script) == [[60, 60]] * 2
    assert len(told("quick", postgres)) == 60
    with database_locks(postgres, "one") as mine, database_locks(postgres, "one") as others:
        with mine.held("worker"):
            assert not others.is_free("worker")
        assert others.is_free("worker")


def design_of(trial):
    return DesignRecord.model_validate_json(trial.user_attrs[POLICY])


def test_a_study_is_read_with_optuna_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    front = DIGITS.search(30, study="plain", warm=False)
    with loaded("plain") as study:
        assert study.metric_names == ["proxy_score", "peak_live_bytes", "step_energy_j"]
        assert [way.name for way in study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
        trials, best = study.trials, {tuple(trial.values) for trial in study.best_trials}
    assert np.array_equal([trial.values for trial in trials], front.table.values[KNOWN:])
    assert {len(trial.params) for trial in trials} == {8}
    for trial, row in zip(trials, range(KNOWN, len(front.table)), strict=True):
        assert list(trial.constraints.values()) == front.table.violations[row].tolist()
        assert design_of(trial) == DesignRecord.of(front.table.designs[row])
    feasible = front.table.values[KNOWN:][front.table.feasible[KNOWN:]]
    assert best <= set(map(tuple, feasible.tolist()))


def test_a_fresh_named_study_draws_what_one_in_memory_draws(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = DIGITS.search(60, seed=3, study="fresh", warm=False)
    plain = DIGITS.search(60, seed=3, warm=False)
    assert np.array_equal(named.table.values, plain.table.values)


@pytest.mark.parametrize("sampler", ["random", "nsga2", "qmc"])
def test_going_on_draws_other_genes_than_before(tmp_path, monkeypatch, sampler):
    monkeypatch.chdir(tmp_path)
    for trials in (50, 100):
        DIGITS.search(trials, sampler, study="on", warm=False)
    asked = [tuple(trial.params.values()) for trial in told("on")]
    assert len(asked) == 100
    assert len(set(asked)) > 80


def test_told_designs_are_screened_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    screened = []
    plain = type(DIGITS.problem).screen

    def counted(self, designs, labels=None):
        screened.append(len(designs))
        return plain(self, designs, labels)

    monkeypatch.setattr(type(DIGITS.problem), "screen", counted)
    DIGITS.search(150, study="once", warm=False)
    assert sum(screened) == 150 + KNOWN
    screened.clear()
    DIGITS.search(200, study="once", warm=False)
    assert screened == [KNOWN, 150, 25, 25]


def test_a_half_line_of_a_killed_process_is_dropped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torn = []

    def tear(done, *_):
        """Another worker dies while it writes, in the middle of our search."""
        torn.append(done)
        with Path("torn.journal").open("ab") as file:
            file.write(b'{"op_code":4,"worker')

    assert DIGITS.search(75, study="torn", warm=False, on_batch=tear).trial_count == 75
    assert torn == [25, 50, 75]
    assert DIGITS.search(80, study="torn", warm=False).trial_count == 80
    assert len(told("torn")) == 80


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("explorer.search.named.LOCK_GRACE_S", 3)
    DIGITS.search(5, study="locked", warm=False)
    Path("locked.journal.lock").touch()
    assert DIGITS.search(10, study="locked", warm=False).trial_count == 10


def test_a_design_measured_on_other_data_is_measured_again(tmp_path):
    ledger = tmp_path / "runs.jsonl"
    first = DIGITS.search(1, measuring=quick(ledger))
    (run,) = Ledger(ledger).read()
    ledger.unlink()
    Ledger(ledger).append(run.model_copy(update={"data_digest": "0" * 12, "accuracy": 0.987}))
    assert DIGITS.search(1, measuring=quick(ledger)).table.score == first.table.score
    assert len(Ledger(ledger).read()) == 2


def test_a_limit_on_the_score_of_a_measured_search_is_one_on_accuracy(tmp_path):
    measuring = quick(tmp_path / "runs.jsonl")
    found = replace(DIGITS, limits=("score=60%",)).search(3, measuring=measuring)
    assert [(limit.name, limit.value) for limit in found.limits] == [("accuracy", 0.6)]
    assert (found.table.feasible == (found.table.score >= 0.6)).all()


@pytest.mark.parametrize(
    "asked", [{"objectives": ("proxy", "memory")}, {"limits": ("proxy=1",)}, {"genes": ("norm",)}]
)
def test_a_measured_search_takes_no_proxy_and_no_other_norm(tmp_path, asked):
    with pytest.raises(SpecError, match="a proxy, or the gene norm"):
        replace(DIGITS, **asked).search(1, measuring=quick(tmp_path / "runs.jsonl"))
