"""The terminal and its files: nothing lost, nothing overwritten, nothing measured twice."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from explorer import __main__
from explorer.accuracy.progress import CancelledError
from explorer.accuracy.records import Ledger
from explorer.cli import run, shared
from explorer.cli.shared import stopping
from explorer.errors import SpecError
from explorer.paths import check_writable, write_whole

MEASURE = ("measure", "digits-cnn", "digits", "--policy", "last-layer", "--episodes", "1")
QUICK = ("--tuning", "1", "--ways", "2", "--shots", "1", "--queries", "2", "--steps", "2")


@pytest.fixture
def terminal(capsys):
    def call(*arguments):
        code = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def refuse(*_, **__):
    raise AssertionError("worked before it had to fail")


def measure_quickly(terminal, ledger, *more):
    code, out, err = terminal(*MEASURE, *QUICK, "--ledger", ledger, "--json", *more)
    assert code == 0, err
    return json.loads(out), err


def test_a_ledger_is_asked_before_anything_is_measured(terminal, tmp_path, monkeypatch):
    ledger = tmp_path / "runs.jsonl"
    first, err = measure_quickly(terminal, ledger)
    assert err == ""
    other, _ = measure_quickly(terminal, ledger, "--seed", "1")
    assert len(Ledger(ledger).read()) == 2
    assert other["seed"] == 1
    monkeypatch.setattr("explorer.accuracy.finetune.measure", refuse)
    again, err = measure_quickly(terminal, ledger)
    assert again == first
    assert "has this run; not measured again" in err
    assert len(Ledger(ledger).read()) == 2


def test_a_run_on_other_data_is_not_this_run(terminal, tmp_path):
    ledger = tmp_path / "runs.jsonl"
    measure_quickly(terminal, ledger)
    (run,) = Ledger(ledger).read()
    ledger.unlink()
    Ledger(ledger).append(run.model_copy(update={"data_digest": "0" * 12}))
    _, err = measure_quickly(terminal, ledger)
    assert "has this run" not in err
    assert [one.data_digest for one in Ledger(ledger).read()] == ["0" * 12, run.data_digest]


def test_a_curve_is_measured_but_its_run_is_kept_once(terminal, tmp_path):
    ledger = tmp_path / "runs.jsonl"
    measure_quickly(terminal, ledger)
    row, err = measure_quickly(terminal, ledger, "--curve")
    assert "measured again for its curve only" in err
    assert [point["step"] for point in row["curve"]] == [0, 1, 2]
    assert len(Ledger(ledger).read()) == 1


def test_lines_that_cannot_be_read_are_told(terminal, tmp_path):
    ledger = tmp_path / "runs.jsonl"
    measure_quickly(terminal, ledger)
    ledger.write_bytes(b"{}\n" + ledger.read_bytes())
    _, err = measure_quickly(terminal, ledger)
    assert f"{ledger}: 1 of 2 lines cannot be read and are left out, the first is line 1" in err


def test_a_full_disk_loses_no_measurement(terminal, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    ledger = tmp_path / "runs.jsonl"
    monkeypatch.setattr(os, "fsync", full)
    code, out, err = terminal(*MEASURE, *QUICK, "--ledger", ledger, "--json")
    assert code == 2
    assert 0 <= json.loads(out)["accuracy"] <= 1
    assert "the run cannot be written: No space left on device" in err
    assert len(err.splitlines()) == 1


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "front.json"
    write_whole(path, "before")

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SpecError, match=r"front\.json: cannot be written: No space left"):
        write_whole(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_really_full_device_is_one_sentence():
    with pytest.raises(SpecError, match="/dev/full: cannot be written: No space left on device"):
        write_whole(Path("/dev/full"), "x" * 100)


def test_a_link_stays_one(tmp_path):
    path, link = tmp_path / "real.json", tmp_path / "link.json"
    path.write_text("before")
    link.symlink_to(path)
    check_writable(link)
    write_whole(link, "after")
    assert link.is_symlink()
    assert path.read_text() == "after"


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    path = tmp_path_factory.mktemp("front") / "front.json"
    assert run(["search", "digits-cnn", "gap9", "--trials", "10", "--out", str(path)]) == 0
    return path


@pytest.mark.parametrize(
    ("command", "work"),
    [
        (("search", "digits-cnn", "gap9"), "explorer.session.Session.search"),
        (("fisher", "digits-cnn", "digits"), "explorer.accuracy.fisher.task_scores"),
        (("pretrain", "digits-cnn", "digits"), "explorer.accuracy.pretrain.pretrain"),
        (("device", "fit", "timings.csv", "--base", "gap9"), "explorer.cli.devices.fit_device"),
        (("device", "new", "gap9-mine"), "explorer.cli.devices.new_profile"),
        (("export", "front.json"), "explorer.cli.files.read_text"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("place", ["/proc/nothing.json", "", "file/under.json"])
def test_what_cannot_be_written_fails_before_the_work(
    terminal, tmp_path, monkeypatch, command, work, place
):
    monkeypatch.setattr(work, refuse)
    (tmp_path / "file").write_text("a file, no folder")
    out = place if place.startswith("/") else str(tmp_path / place)
    code, _, err = terminal(*command, "--out", out)
    assert (code, len(err.splitlines())) == (2, 1)
    assert f"{out}: cannot be written" in err


def test_an_export_does_not_write_over_its_front(terminal, front):
    before = front.read_bytes()
    code, _, err = terminal("export", front, "--out", front)
    assert code == 2
    assert "another file than one that is read" in err
    beside = front.with_name("taken.channels.json")
    beside.write_bytes(before)
    code, _, err = terminal("export", beside, "--out", front.with_name("taken.yaml"))
    assert code == 2
    assert front.read_bytes() == beside.read_bytes() == before


def test_the_code_of_a_stop_is_one(terminal, monkeypatch):
    assert __main__.STOPPED_EXIT == shared.STOPPED_EXIT == 130

    def raising(error):
        def call(*_, **__):
            raise error

        return call

    for error, words in (
        (KeyboardInterrupt(), "explorer: stopped"),
        (CancelledError("stopped after 3 of 9 episodes"), "explorer: stopped after 3 of 9"),
    ):
        monkeypatch.setattr("explorer.session.Session.cost", raising(error))
        code, out, err = terminal("cost", "digits-cnn", "gap9")
        assert (code, out) == (130, "")
        assert err.strip().startswith(words)


def test_the_second_ctrl_c_ends_what_the_first_did_not():
    asked = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    try:
        with stopping(lambda: asked.append(1)):
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert asked == [1]


PAUSED = """
import sys, types
class Slow(types.ModuleType):
    def __getattr__(self, name):
        raise KeyboardInterrupt
sys.modules["numpy"] = Slow("numpy")
from explorer.__main__ import main
main()
"""


def test_ctrl_c_while_the_terminal_is_imported():
    done = subprocess.run(
        [sys.executable, "-c", PAUSED, "list", "models"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "explorer: stopped\n")


def test_ctrl_c_while_measuring_keeps_every_line_of_the_ledger(tmp_path):
    ledger = tmp_path / "runs.jsonl"
    assert run([*MEASURE, *QUICK, "--ledger", str(ledger)]) == 0
    before = ledger.read_bytes()
    command = [sys.executable, "-m", "explorer", "measure", "digits-cnn", "digits", "--policy",
               "full", "--episodes", "500", "--ledger", str(ledger)]  # fmt: skip
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Where the tests run behind a shell, Ctrl-C is ignored from birth.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs.jsonl.*")):  # the lock of the design
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert "stopped after" in err
    assert "Traceback" not in err
    assert ledger.read_bytes() == before
    assert list(tmp_path.iterdir()) == [ledger]


HEAVY = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))\n"
STARTED = HEAVY + "from explorer.__main__ import main\nmain()\n"


def under_a_small_disk(size_bytes, arguments, folder):
    """A command in a process that may write no file of more bytes."""
    return subprocess.run(
        [sys.executable, "-c", STARTED.format(size_bytes), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
    )


SEARCH = ("search", "digits-cnn", "gap9", "--trials")


def test_a_search_that_no_disk_takes_is_printed_all_the_same(tmp_path):
    (tmp_path / "front.json").write_text("before")
    command = [*SEARCH, "10", "--out", "front.json", "--json"]
    done = under_a_small_disk(5000, command, tmp_path)
    assert done.returncode == 2
    assert done.stderr == "explorer: front.json: cannot be written: File too large\n"
    assert len(json.loads(done.stdout)["candidates"]) > 5
    assert (tmp_path / "front.json").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["front.json"]


@pytest.mark.parametrize(
    ("more", "size_bytes", "words"),
    [
        ([], 60_000, "kept.journal cannot be written: [Errno 27] File too large"),
        (["--storage", "sqlite:///kept.db"], 200_000, "kept.db cannot be written: (sqlite3."),
    ],
)
def test_a_study_whose_disk_fills_goes_on_when_there_is_room(more, size_bytes, words, tmp_path):
    command = [*SEARCH, "300", "--study", "kept", *more, "--json"]
    full = under_a_small_disk(size_bytes, command, tmp_path)
    assert (full.returncode, full.stdout) == (2, "")
    assert full.stderr.startswith("explorer: study kept: ")
    assert words in full.stderr
    assert len(full.stderr.splitlines()) == 1
    room = under_a_small_disk(1 << 30, command, tmp_path)
    assert room.returncode == 0, room.stderr
    assert json.loads(room.stdout)["candidates"]


def test_a_disk_that_fills_inside_a_library_is_one_sentence(terminal, monkeypatch):
    def full(*_, **__):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("explorer.session.Session.cost", full)
    code, out, err = terminal("cost", "digits-cnn", "gap9")
    assert (code, out, err) == (2, "", "explorer: No usable temporary directory found\n")


def test_a_clock_that_went_backwards_changes_nothing(tmp_path):
    """What a study holds is dated by another clock; only order and content count."""
    command = [*SEARCH, "40", "--study", "kept", "--json"]
    first = under_a_small_disk(1 << 30, command, tmp_path)
    journal = tmp_path / "kept.journal"
    text = journal.read_text()
    later = re.sub(r'"(datetime_\w+)":"20\d\d', r'"\1":"2999', text)
    assert later != text
    journal.write_text(later)
    again = under_a_small_disk(1 << 30, command, tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["candidates"] == json.loads(first.stdout)["candidates"]
    command[command.index("40")] = "60"
    more = under_a_small_disk(1 << 30, command, tmp_path)
    assert more.returncode == 0, more.stderr
