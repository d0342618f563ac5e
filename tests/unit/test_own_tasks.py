"""Tasks of a user's own code: what it may return, what is said when it does not, when it runs."""

import json
import sys

import numpy as np
import pytest

from explorer import catalog, paths
from explorer.accuracy.records import Ledger
from explorer.accuracy.tasks import SignalTask, check_task, load_task, suits, task_for
from explorer.accuracy.tasks._vision import WHITE
from explorer.cli import run
from explorer.design import Design
from explorer.errors import SpecError
from explorer.own_code import is_code
from explorer.search.sources import (
    kept_name,
    known_runs,
    left_out,
    model_graph,
    own_ledger,
    score_path,
    score_table,
)
from explorer.session import Session

DIGITS = """
from pathlib import Path
from sklearn.datasets import load_digits

with Path(__file__).with_name("ran").open("a") as file:
    file.write("x")

def load():
    bundle = load_digits()
    print("reading")
    return (bundle.images[:400] * 15).astype("uint8"), bundle.target[:400]
"""
IMAGES = np.arange(12 * 8 * 9 * 3, dtype=np.uint8).reshape(12, 8, 9, 3)
LABELS = np.arange(12) % 2
SIGNALS = np.random.default_rng(0).normal(size=(12, 2, 40))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(paths.CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def digits(tmp_path) -> str:
    path = tmp_path / "my_task.py"
    path.write_text(DIGITS)
    return f"{path}:load"


def runs_of(spec: str) -> int:
    """How often the file has run."""
    mark = catalog.task_key(spec).rpartition("/")[0] + "/ran"
    try:
        with open(mark) as file:
            return len(file.read())
    except FileNotFoundError:
        return 0


@pytest.fixture
def coded(tmp_path, monkeypatch):
    """Writes `load` in a file, with the arrays at hand; its spelling."""
    np.savez(tmp_path / "data.npz", images=IMAGES, labels=LABELS, signals=SIGNALS)

    def write(body: str, head: str = "def load():", name: str = "load") -> str:
        number = len(list(tmp_path.glob("code*.py")))
        path = tmp_path / f"code{number}.py"
        path.write_text(
            "import numpy as np\nfrom pathlib import Path\n"
            "with np.load(Path(__file__).with_name('data.npz')) as data:\n"
            "    images, labels, signals = data['images'], data['labels'], data['signals']\n"
            f"{head}\n    {body}\n"
        )
        return f"{path}:{name}"

    return write


# --- what a function may return


@pytest.mark.parametrize(
    "returned",
    [
        "images, labels",
        "[images, labels.tolist()]",
        "{'images': images, 'labels': labels}",
        "images.transpose(0, 3, 1, 2), labels",
        "images.tolist() and {'images': images, 'labels': list(map(str, labels))}",
    ],
)
def test_images_in_either_layout_are_one_task(coded, returned):
    task = load_task(coded(f"return {returned}"))
    np.testing.assert_array_equal(task.pixels, IMAGES.transpose(0, 3, 1, 2))
    assert task.class_names == ("0", "1")
    assert task.labels.tolist() == LABELS.tolist()
    assert (task.pixel_maximum, task.query_count, task.augment_colour) == (WHITE, 1, True)


@pytest.mark.parametrize(
    ("more", "low"), [("", -1), (", 'signed': True", -1), (", 'signed': 0 > 1", 0)]
)
def test_images_are_read_from_minus_one_or_from_zero(coded, more, low):
    task = load_task(coded(f"return {{'images': images * 0, 'labels': labels{more}}}"))
    assert np.unique(task.network_input(task.unit_images(np.arange(2)))).tolist() == [low]


def test_images_without_channels_are_read_by_networks_of_any(coded):
    task = coded("return images[..., 0], labels")
    for channels in (1, 3):
        assert task_for(task, (channels, 8, 9)).input_shape == (channels, 8, 9)
    colour = coded("return images, labels")
    assert task_for(colour, (1, 8, 9)).pixels.shape == (12, 1, 8, 9)
    with pytest.raises(SpecError, match=r"input of task .*code1\.py:load: got \(3, 8, 9\)"):
        task_for(colour, (3, 9, 9))


@pytest.mark.parametrize(
    "returned",
    [
        "signals, labels",
        "{'signals': signals, 'labels': ['ab'[one] for one in labels], 'fs_hz': 50}",
        "{'signals': signals, 'labels': labels, 'group': np.arange(12) // 2,"
        " 'target': np.arange(12) > 3 - 4}",
    ],
)
def test_signals_are_those_of_an_npz(coded, returned):
    task = load_task(coded(f"return {returned}"))
    assert isinstance(task, SignalTask)
    np.testing.assert_array_equal(task.signals, SIGNALS.astype(np.float32))
    assert task.labels.tolist() == LABELS.tolist()
    assert task.fs_hz == (50 if "fs_hz" in returned else 0)
    assert len(set(task.groups.tolist())) == (6 if "group" in returned else 12)


def test_a_task_is_taken_as_it_is_under_its_own_spelling(coded):
    body = (
        "from explorer.accuracy.tasks import load_task\n"
        "    from dataclasses import replace\n"
        "    return replace(load_task('digits'), name='omniglot')"
    )
    spec = coded(body)
    task, digits = load_task(spec), load_task("digits")
    assert task.digest == digits.digest
    assert task.held_out == digits.held_out
    assert task.name == spec


def test_a_function_of_side_makes_any(coded):
    spec = coded("return np.zeros((12, side, side), 'uint8'), labels", "def load(side=5):")
    assert load_task(spec).input_shape == (3, 5, 5)
    assert task_for(spec, (3, 7, 7)).input_shape == (3, 7, 7)
    assert suits(spec, (1, 9, 9))
    assert not suits(spec, (1, 9, 8))
    assert not suits(spec, (9, 9))


@pytest.mark.parametrize("place", ["package", "file"])
def test_code_imports_what_lies_beside_it(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside_it.py").write_text("SIDE = 6\n")
    (tmp_path / "own_kit").mkdir()
    text = (
        "import numpy as np\nimport beside_it\n"
        "def load():\n    return np.zeros((6, beside_it.SIDE, 6), 'uint8'), list('aabbcc')\n"
    )
    (tmp_path / "own_kit" / "data.py").write_text(text)
    (tmp_path / "json.py").write_text(text)
    before = list(sys.path)
    task = load_task("own_kit.data:load" if place == "package" else "json.py:load")
    assert task.class_names == ("a", "b", "c")
    assert sys.modules["json"] is json
    assert sys.path == before


def test_what_lies_beside_is_that_of_its_own_folder_and_of_now(tmp_path):
    for name, side in (("one", 6), ("other", 7)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "nearby.py").write_text(f"SIDE = {side}\n")
        (tmp_path / name / "data.py").write_text(
            "import numpy as np\nimport nearby\n"
            "def load():\n    return np.zeros((6, nearby.SIDE, 9), 'uint8'), list('aabbcc')\n"
        )
    tasks = [load_task(f"{tmp_path / name}/data.py:load") for name in ("one", "other")]
    assert [task.input_shape[1] for task in tasks] == [6, 7]
    assert "nearby" not in sys.modules


def test_a_folder_is_data_however_it_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos:mine").mkdir()
    assert catalog.task_path("photos:mine") is not None


def test_what_a_network_reads_is_known_of_data_and_of_code_that_has_run(coded, tmp_path):
    signals = {"signals": np.zeros((8, 2, 40)), "labels": LABELS[:8]}
    np.savez(tmp_path / "own.npz", **signals)
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "labels.csv").write_text("label,file\n1,a.csv\n")
    np.savetxt(tmp_path / "csv" / "a.csv", signals["signals"][0].T, delimiter=",")
    for name in ("own.npz", "csv"):
        assert suits(f"{tmp_path}/{name}", (2, 1, 40))
        assert suits(f"{tmp_path}/{name}", (1, 2, 40))
        assert not suits(f"{tmp_path}/{name}", (2, 1, 41))
        assert not suits(f"{tmp_path}/{name}", (1, 40))
    assert suits(str(tmp_path), (1, 32, 32))
    assert suits(str(tmp_path), (3, 32, 32))
    assert not suits(str(tmp_path), (3, 32, 31))
    assert not suits(str(tmp_path), (2, 1, 40))
    (tmp_path / "bad.npz").write_text("no zip")
    (tmp_path / "csv" / "a.csv").unlink()
    assert suits(f"{tmp_path}/bad.npz", (2, 1, 40))
    assert suits(f"{tmp_path}/csv", (2, 1, 41))
    colour, grey = coded("return images, labels"), coded("return images[..., 0], labels")
    waves = coded("return signals, labels")
    for spec in (colour, grey, waves):
        assert suits(spec, (5, 6, 7))
        load_task(spec)
        assert not suits(spec, (5, 6, 7))
    assert [suits(spec, (1, 8, 9)) for spec in (colour, grey, waves)] == [True, True, False]
    assert [suits(spec, (4, 8, 9)) for spec in (colour, grey, waves)] == [False, True, False]
    assert [suits(spec, (1, 2, 40)) for spec in (colour, grey, waves)] == [False, False, True]


def test_changed_code_is_run_again_and_other_code_once(digits):
    first = load_task(digits, 8)
    assert load_task(digits, 8) is first
    assert runs_of(digits) == 1
    place = digits.rpartition(":")[0]
    with open(place, "a") as file:
        file.write("\nfull = load\ndef load():\n    return [part[:50] for part in full()]\n")
    assert len(load_task(digits, 8).labels) == 50
    assert runs_of(digits) == 2


# --- what is said when something is wrong


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return None", "returned a NoneType, allowed: images or signals with labels"),
        ("return images", "returned a ndarray, allowed"),
        ("return images, labels, images, labels", "returned a tuple, allowed"),
        (
            "return {'x': images, 'labels': labels}",
            r"names: got \['x', 'labels'\], allowed: images",
        ),
        (
            "return {'images': images, 'labels': labels, 'signed': 'no'}",
            "signed: got 'no', allowed: T",
        ),
        ("return {'signals': signals, 'labels': labels, 'fs': 1}", r"arrays: got \['fs', 'labels'"),
        (
            "return images.astype(float), labels",
            r"inputs: got 'float64 of .*, allowed: uint8 .* or signals",
        ),
        (
            "return {'images': images / 255, 'labels': labels}",
            "float64 of shape .*, allowed: uint8",
        ),
        ("return images[0], labels", r"labels: got \(12,\), allowed: \(8,\), one for each image"),
        ("return images[0, 0], labels", r"uint8 of shape \(9, 3\)"),
        ("return images[:, :, :8].repeat(3, 3)[..., :8], labels", "fewer channels than rows"),
        ("return images, labels[:3]", r"labels: got \(3,\), allowed: \(12,\)"),
        ("return images, labels * 0", r"classes: got \['0'\], allowed: at least two"),
        (
            "return images, [1] * 11 + [2]",
            "images of class 2: got 1, allowed: a support and a query",
        ),
        (
            "return images, labels + np.nan",
            r"labels: got \[nan, nan, nan\], allowed: numbers or words",
        ),
        (
            "return images, [None] * 12",
            r"labels: got \[None, None, None\], allowed: numbers or words",
        ),
        ("return [[1], [1, 2]], labels", "inputs: cannot be made an array"),
        ("return signals * np.inf, labels", "got nan or infinity, allowed: finite"),
        ("return signals, labels[:5]", r"labels: got \(5,\), allowed: \(12,\), one value for each"),
        ("raise KeyError('class')", r"raised KeyError: 'class' \(code0\.py, line 6\)"),
        ("raise SystemExit('no')", r"raised SystemExit: no \(code0\.py, line 6\)"),
        ("return )", r"raised SyntaxError: .*\(code0\.py, line 6\)"),
        ("from explorer import nothing", "raised ImportError: cannot import name 'nothing'"),
    ],
)
def test_what_the_code_does_wrong_is_one_sentence(coded, body, words):
    spec = coded(body)
    with pytest.raises(SpecError, match=words) as refused:
        load_task(spec)
    assert spec in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("head", "name", "words"),
    [
        ("def load(path):", "load", r"arguments: got \['path'\], allowed: none, or side"),
        ("def load(*some, **more):", "load", "returned a int"),
        ("def load():", "laod", "no laod in .*code0.py"),
        ("def load():", "labels", "got array.*, allowed: a function"),
    ],
)
def test_what_is_no_function_without_argument_is_said(coded, head, name, words):
    with pytest.raises(SpecError, match=words):
        load_task(coded("return 3", head, name))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nowhere.py:load", "task: no file nowhere.py"),
        ("nowhere.py", "task: got 'nowhere.py', allowed: file.py:name or package.module:name"),
        ("nowhere.py:", "task: got 'nowhere.py:', allowed"),
        ("nowhere.py:a b", "task: got 'nowhere.py:a b', allowed"),
    ],
)
def test_a_spelling_is_checked_before_anything_runs(spec, words, capsys):
    with pytest.raises(SpecError, match=words):
        check_task(spec)
    assert run(["fisher", "digits-cnn", spec]) == 2
    assert words in capsys.readouterr().err


def test_an_absent_module_is_said_when_it_is_run():
    check_task("no_such.package:load")
    with pytest.raises(SpecError, match=r"task no_such\.package:load: No module named 'no_such'"):
        load_task("no_such.package:load")


def test_code_is_told_from_names_and_folders():
    assert all(map(is_code, ("a.py:f", "../a b/c.py:f", "a.b:f", "a:f", "c.py")))
    assert not any(
        map(is_code, ("digits", "", "photos/", "a.npz", "C:\\photos", "a:b/c", "tdssm:"))
    )


# --- when it runs, and what is kept of it


def test_no_document_runs_code(digits, tmp_path, capsys, monkeypatch):
    """Sessions, comparisons, searches, fronts, policies, ledgers: the file is only named."""
    session = Session(model="digits-cnn", task=digits)
    assert session.cost()
    assert len(session.compare())
    front, policy = tmp_path / "front.json", tmp_path / "policy.json"
    ledger = own_ledger(session.graph, digits)
    shipped = known_runs(session.graph, "digits")[:3]
    for one in shipped:
        ledger.append(one.model_copy(update={"task": digits, "data_digest": "1" * 12}))
    assert len(known_runs(session.graph, digits)) == 3
    commands = (
        ["compare", "digits-cnn", "gap9", "--task", digits],
        ["search", "digits-cnn", "gap9", "--task", digits, "--trials", "20", "--out", str(front)],
        ["export", str(front), "--out", str(policy)],
        ["validate", str(front), str(policy), str(ledger.path)],
        ["cost", "digits-cnn", "gap9", "--policy", str(policy)],
    )
    for command in commands:
        assert run(command) == 0
    assert run(["calibrate", "digits-cnn", digits, "--ledger", str(ledger.path)]) == 2
    assert "measure --ledger adds some" in capsys.readouterr().err
    assert json.loads(front.read_text())["task"] == digits
    assert json.loads(policy.read_text())["task"] == digits
    assert runs_of(digits) == 0


def test_fisher_and_measure_run_it_and_the_next_run_resumes(digits, tmp_path, capsys, monkeypatch):
    graph = model_graph("digits-cnn")
    assert score_table(graph, digits) is None
    assert run(["fisher", "digits-cnn", digits, "--episodes", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["meta"]["data_digest"] == task_for(digits, graph.input_shape).digest
    assert "reading" in err
    assert score_path(graph, digits).parent == tmp_path / "cache" / "fisher"
    assert score_table(graph, digits).meta["task"] == digits
    ledger = own_ledger(graph, digits).path
    assert ledger.name.startswith("digits-cnn-my_task.py-load-")
    measure = ["measure", "digits-cnn", digits, "--policy", "last-layer", "--episodes", "2"]
    measure += ["--tuning", "1", "--json", "--ledger", str(ledger)]
    assert run(measure) == 0
    first = json.loads(capsys.readouterr().out)
    monkeypatch.chdir(tmp_path)
    measure[2] = "./my_task.py:load"
    assert run(measure) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == first
    assert "has this run; not measured again" in err
    (known,) = known_runs(graph, "my_task.py:load")
    assert known.task == digits
    assert known.data_digest == first["data_digest"]
    # other data in the same function: the run is of the old
    text = (tmp_path / "my_task.py").read_text()
    (tmp_path / "my_task.py").write_text(text.replace("[:400]", "[:300]"))
    assert run(measure) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["data_digest"] != first["data_digest"]
    assert len(Ledger(ledger).read()) == 2
    (known,) = known_runs(graph, digits)
    assert known.data_digest == second["data_digest"]
    runs, scores = left_out(graph, digits)
    assert "1 of 2 runs are left out, their data is not what" in runs
    assert "channel scores are of other data than runs on" in scores
    assert run(["fisher", "digits-cnn", digits, "--episodes", "1"]) == 0
    assert left_out(graph, digits) == (runs,)


def test_a_run_of_one_episode_is_shown_without_an_error(digits, capsys):
    session = Session(model="digits-cnn", task=digits, policy="none")
    one = known_runs(session.graph, "digits")[0]
    policy = session.chosen().designs[0].policy
    alone = {"accuracy": 0.54, "standard_error": None, "data_digest": "1" * 12}
    design = one.design.of(Design(policy=policy, setup=one.design.setup.setup()))
    ledger = own_ledger(session.graph, digits)
    ledger.append(one.model_copy(update={"task": digits, "design": design, **alone}))
    assert run(["compare", "digits-cnn", "gap9", "--task", digits]) == 0
    shown = capsys.readouterr().out
    assert "54.0%" in shown
    assert "nan" not in shown


def test_own_tasks_are_kept_apart_by_where_they_lie(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {kept_name("net", f"{folder}task.py:load") for folder in ("", "./", f"{tmp_path}/")}
    assert len(names) == 1
    others = ("task.py:other", "../task.py:load", "task:load", "a.npz", "../a.npz", "digits")
    stems = [kept_name("net", name) for name in others]
    assert len({*names, *stems}) == 7
    assert not any(set("/:") & set(stem) for stem in (*names, *stems))
    assert stems[-1] == "net-digits"


def test_what_would_overwrite_the_code_is_refused(digits, capsys):
    place = digits.rpartition(":")[0]
    assert run(["fisher", "digits-cnn", digits, "--out", place]) == 2
    assert "another file than one that is read" in capsys.readouterr().err
    assert runs_of(digits) == 0
