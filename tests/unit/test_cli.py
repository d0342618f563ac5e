"""The terminal: shapes of JSON, exit codes, one sentence for bad input."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partialmethod

import pytest

from explorer import catalog
from explorer.cli import run
from explorer.costmodel.report import MACS_COLUMNS, MEMORY_COLUMNS
from explorer.export import load_front, pick_reason
from explorer.search.picks import PICKS
from explorer.session import Session
from explorer.units import format_bytes


@pytest.fixture
def terminal(capsys):
    def call(*arguments):
        code = run(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return call


def sentence(err):
    lines = err.strip().splitlines()
    assert len(lines) == 1
    assert "Traceback" not in err
    return lines[0]


@pytest.mark.parametrize("plural", ["models", "devices", "policies", "tasks", "samplers"])
def test_list_has_names_and_summaries(terminal, plural):
    kind = {"policies": "policy"}.get(plural, plural.removesuffix("s"))
    code, out, _ = terminal("list", plural, "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["name"] for row in rows] == catalog.names(kind)
    assert all(row["summary"] for row in rows)


def test_models_say_what_they_read_and_where_they_usually_run(terminal):
    rows = {row["name"]: row for row in json.loads(terminal("list", "models", "--json")[1])}
    read = {name: rows[name]["modality"] for name in ("mcunet-5fps", "mi-bminet", "epidenet")}
    assert read == {"mcunet-5fps": "vision", "mi-bminet": "eeg", "epidenet": "eog"}
    assert {row["device"] for row in rows.values()} <= set(catalog.names("device"))


def test_cost_prints_the_promised_object(terminal):
    code, out, _ = terminal("cost", "mcunet-5fps", "gap9", "--policy", "full", "--layers", "--json")
    answer = json.loads(out)
    assert code == 0
    assert set(answer) == {
        "model", "device", "policy", "setup", "accounting", "macs", "memory", "fits", "step",
        "sample", "trained_parameters", "session", "provenance", "warnings", "layers",
    }  # fmt: skip
    assert set(answer["macs"]) == {name.removesuffix("_macs") for name in MACS_COLUMNS}
    assert set(answer["memory"]) == {*MEMORY_COLUMNS, "runtime_arena_bytes"}
    assert answer["macs"]["forward"] == 22_453_504
    assert answer["trained_parameters"] == 469_224
    assert {row["op"] for row in answer["layers"]} >= {"conv2d", "relu6", "add"}
    for entry in answer["provenance"].values():
        assert entry["kind"] in {"measured", "published", "modelled", "assumed"}
        assert entry["source"]
    low, high = (answer["provenance"]["step.time_s"][end] for end in ("low", "high"))
    assert low < answer["step"]["time_s"] < high


def test_cost_of_a_session_and_against_another_policy(terminal):
    arguments = ("cost", "digits-cnn", "pi-zero-2w", "--policy", "last-layer", "--steps", "6",
                 "--samples", "3", "--against", "full")  # fmt: skip
    answer = json.loads(terminal(*arguments, "--json")[1])
    assert set(answer["session"]) == {
        "steps", "samples", "time_s", "energy_j", "selection_time_s", "sample_bytes", "passes",
    }  # fmt: skip
    assert (answer["session"]["steps"], answer["session"]["passes"]) == (6, 2.0)
    assert answer["session"]["time_s"] == pytest.approx(6 * answer["step"]["time_s"])
    assert set(answer["against"]) == {"policy", "time_ratio", "p_faster", "p_less_energy"}
    assert answer["against"]["p_faster"] == 1.0
    code, out, _ = terminal(*arguments)
    words = " ".join(out.split())
    assert code == 0
    assert "times as long as full; faster with probability 1.00" in words
    assert "no published measurement can test the training time of pi-zero-2w" in words
    assert "a session of 6 steps" in words


def test_the_table_shows_the_peak_of_another_accounting(terminal):
    arguments = ("cost", "mi-bminet", "gap9", "--accounting", "biotrain")
    peak_bytes = json.loads(terminal(*arguments, "--json")[1])["memory"]["peak_live_bytes"]
    words = " ".join(terminal(*arguments)[1].split())
    assert "peak as biotrain counts it" in words
    assert format_bytes(peak_bytes) in words


def test_batch_splits_into_micro_batches(terminal):
    _, out, _ = terminal(
        "cost", "digits-cnn", "gap9", "--batch", "8", "--micro-batch", "2", "--json"
    )
    answer = json.loads(out)
    assert answer["setup"]["accumulation_steps"] == 4
    assert answer["sample"]["time_s"] == pytest.approx(answer["step"]["time_s"] / 8)


def test_one_step_is_not_steps(terminal):
    arguments = ("cost", "digits-cnn", "gap9", "--batch", "8192")
    assert "a session of 1 step " in " ".join(terminal(*arguments)[1].split())
    session = json.loads(terminal(*arguments, "--json")[1])["session"]
    assert (session["steps"], session["passes"]) == (1, 8192 / 25)


def test_a_reserve_above_all_ram_leaves_none(terminal):
    code, out, _ = terminal("cost", "digits-cnn", "gap9", "--reserve", "2000000", "--json")
    fit = json.loads(out)["fits"][0]
    assert code == 0
    assert (fit["usable_bytes"], fit["fits"]) == (0, False)


def test_names_are_shown_as_they_are(terminal, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "mine.toml"
    text = catalog.read("device", "gap9").replace('name = "gap9"', 'name = "[/gap9] :smile:"', 1)
    path.write_text(text.replace('"L2"', '"[/L2]"').replace("memory.L2", "memory.[/L2]"))
    for command in ("cost", "advise"):
        code, out, _ = terminal(command, "digits-cnn", str(path), "--batch", "256")
        assert code == 0
        assert "[/L2]" in out
        assert command == "advise" or "[/gap9] :smile:" in out


def test_advice_is_titled_for_pairs_too(terminal):
    out = terminal("advise", "digits-cnn", "gap9", "--batch", "8")[1]
    assert "change" in out
    assert "single" not in out


def test_misfit_is_an_exit_code_only_when_asked_for(terminal):
    arguments = ("cost", "mbv2-w0.35", "stm32f746", "--batch", "32", "--json")
    code, out, _ = terminal(*arguments)
    assert code == 0
    assert not json.loads(out)["fits"][0]["fits"]
    assert terminal(*arguments, "--fail-if-misfit")[0] == 3


BAD = [
    (("cost", "mcunet-5fp", "gap9"), ("mcunet-5fp", "mcunet-5fps")),
    (("cost", "mcunet-5fps", "gap8"), ("gap8", "gap9")),
    (("cost", "mcunet-5fps:width=2", "gap9"), ("width", "classes")),
    (("cost", "mcunet-5fps", "gap9", "--policy", "lastlayer"), ("lastlayer", "last-layer")),
    (("cost", "mcunet-5fps", "gap9", "--policy", "last-k:k=99"), ("99", "42")),
    (("cost", "mcunet-5fps", "gap9", "--policy", "last-k:n=2"), ("'n'", "k")),
    (("cost", "mcunet-5fps", "gap9", "--policy", "free:first_conv=1.2"), ("1.2", "0 to 1")),
    (("cost", "mcunet-5fps", "gap9", "--policy", "free:conv1=0.5"), ("conv1", "first_conv")),
    (("cost", "mcunet-5fps", "gap9", "--policy", "sparse-update:scheme=1kb"), ("1kb", "99kb")),
    (
        ("cost", "digits-cnn", "gap9", "--policy", "sparse-update:scheme=99kb"),
        ("no scheme", "mcunet-5fps", "biases, layers and shares"),
    ),
    (
        ("cost", "mcunet-5fps", "gap9", "--policy", "tinytrain", "--norm", "gn"),
        ("no Fisher table", "norm gn", "fisher MODEL TASK", "network's own norm"),
    ),
    (("cost", "mcunet-5fps", "gap9", "--batch", "0"), ("batch", "0")),
    (("cost", "mcunet-5fps", "gap9", "--batch", "9" * 20), ("batch", "1000000")),
    (("cost", "mcunet-5fps:classes=9999999", "gap9"), ("classes", "100000")),
    (("search", "digits-cnn", "gap9", "--seed", "-1", "--trials", "5"), ("seed", "-1")),
    (("cost", "mcunet-5fps", "gap9", "--batch", "8", "--micro-batch", "3"), ("micro_batch", "8")),
    (("cost", "mcunet-5fps", "gap9", "--batch", "many"), ("batch", "many")),
    (("cost", "mcunet-5fps", "gap9", "--norm", "ln"), ("ln", "bn, gn")),
    (("cost", "mcunet-5fps", "gap9", "--optimizer", "lion"), ("lion", "adam")),
    (("cost", "mcunet-5fps", "gap9", "--update", "later"), ("later", "fused, deferred")),
    (("cost", "mcunet-5fps", "gap9", "--recompute", "all"), ("all", "none, blocks")),
    (
        ("search", "digits-cnn", "gap9", "--memory-objective", "arena"),
        ("arena", "peak, above-inference"),
    ),
    (("cost", "mcunet-5fps", "pi-zero-2w", "--precision", "fp16"), ("fp16", "fp32")),
    (("cost", "mcunet-5fps", "gap9", "--accounting", "mine"), ("mine", "device")),
    (("cost", "mcunet-5fps", "gap9", "--reserve", "-1"), ("-1", "0")),
    (("cost", "mcunet-5fps", "gap9", "--reserve", "9" * 330), ("reserve", "99", "whole number")),
    (("cost", "mcunet-5fps", "gap9", "--steps", "9" * 330), ("steps", "99", "whole number")),
    (
        ("search", "mcunet-5fps", "gap9", "--memory-limit", "9" * 330),
        ("memory_limit", "99", "whole number"),
    ),
    (("cost", "mcunet-5fps", "gap9", "--steps", "0"), ("steps", "0")),
    (("cost", "mcunet-5fps", "gap9", "--samples", "0"), ("samples", "0")),
    (("cost", "mcunet-5fps", "gap9", "--against", "lastlayer"), ("lastlayer", "last-layer")),
    (("cost", "mcunet-5fps"), ("device", "issing")),
    (("list", "model"), ("model", "models")),
    (("search", "digits-cnn", "gap9", "--trials", "-5"), ("-5", "0")),
    (("search", "digits-cnn", "gap9", "--sampler", "nsga4"), ("nsga4", "nsga3")),
    (("search", "digits-cnn", "gap9", "--join"), ("join", "--study")),
    (("search", "digits-cnn", "gap9", "--study", "nobodys", "--join"), ("nobodys", "join")),
    (("validate", "nowhere.json"), ("nowhere.json", "read")),
    (("export", "nowhere.json", "--out", "x.json"), ("nowhere.json", "read")),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=lambda value: " ".join(value[:5]))
def test_wrong_use_is_one_sentence_and_exit_two(terminal, arguments, words):
    code, _, err = terminal(*arguments)
    assert code == 2
    for word in words:
        assert word in sentence(err)


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    path = tmp_path_factory.mktemp("front") / "front.json"
    assert run(["search", "digits-cnn", "gap9", "--trials", "50", "--out", str(path)]) == 0
    return path


@pytest.mark.parametrize("pick", [*PICKS, "3"])
def test_export_picks_a_candidate_that_validates_and_costs_the_same(
    terminal, front, tmp_path, pick
):
    out = tmp_path / "policy.json"
    code, _, err = terminal("export", str(front), "--pick", pick, "--out", str(out))
    assert code == 0
    assert err == f"{pick}: {pick_reason(load_front(front), pick)}\n"
    assert terminal("validate", str(out))[0] == 0
    policy = json.loads(out.read_text())
    code, text, _ = terminal("cost", "digits-cnn", "gap9", "--policy", str(out), "--json")
    assert code == 0
    peak = policy["predicted"]["peak_live_bytes"]
    assert json.loads(text)["memory"]["peak_live_bytes"] == peak["value"]
    assert peak["kind"] == "modelled"


def test_a_search_can_make_the_bytes_above_inference_small(terminal, tmp_path):
    out, policy = tmp_path / "front.json", tmp_path / "policy.json"
    options = ("--memory-objective", "above-inference", "--trials", "25", "--out", str(out))
    assert terminal("search", "digits-cnn", "gap9", *options)[0] == 0
    assert terminal("validate", str(out))[0] == 0
    document = json.loads(out.read_text())
    names = [objective["name"] for objective in document["objectives"]]
    assert "training_extra_bytes" in names
    assert "peak_live_bytes" not in names
    members = [candidate for candidate in document["candidates"] if candidate["on_front"]]
    extra = [candidate["cost"]["memory"]["training_extra_bytes"] for candidate in members]
    assert extra == [candidate["objectives"]["training_extra_bytes"] for candidate in members]
    assert terminal("export", str(out), "--pick", "min-memory", "--out", str(policy))[0] == 0
    predicted = json.loads(policy.read_text())["predicted"]["training_extra_bytes"]["value"]
    assert predicted == min(extra)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("cost my_net.onnx gap9", "`explorer trace` writes"),
        ("cost my_net.py:build gap9", "`explorer trace` writes"),
        ("cost mcunet-5fps gap9 --policy FRONT", "document: got 'a front', allowed: a policy"),
        ("cost FRONT gap9", "document: got 'a front', allowed: a network"),
        ("measure digits-cnn digits --lr 0.1", "lr are for signals"),
        ("trace json:loads --out x.json --example 99999999999999,3", "example: got"),
        ("trace json:loads --out x.json --example 3 --tokens 99999999999999999999", "tokens: got"),
        ("device", "no command came"),
    ],
)
def test_what_came_in_place_of_another_thing_is_named(
    terminal, front, line, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, _, err = terminal(*line.replace("FRONT", str(front)).split())
    assert code == 2
    assert words in sentence(err)
    assert not list(tmp_path.glob("x*"))


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_stream_is_no_traceback(stream):
    close = {stream: lambda: os.close({"stdout": 1, "stderr": 2}[stream])}
    done = subprocess.run(
        [sys.executable, "-m", "explorer", "list", "samplers"],
        capture_output=True,
        text=True,
        preexec_fn=close[stream],
    )
    assert done.returncode == 0
    assert not done.stderr


def test_without_a_terminal_a_search_says_nothing_beside_its_answer(terminal):
    code, out, err = terminal("search", "digits-cnn", "gap9", "--trials", "5")
    assert code == 0
    assert out
    assert not err


def test_the_front_that_is_printed_is_the_one_that_is_written(terminal, tmp_path):
    session = Session(model="digits-cnn", policy="none")
    placed = session.problem.place(session.search(25).table)
    apart = placed.on_front & (placed.costs.arena_bytes > placed.peak_live_bytes)
    limit = int(placed.peak_live_bytes[apart].max())  # its arena is too large, its peak is not
    path = tmp_path / "front.json"
    options = ("--trials", "25", "--memory-limit", str(limit), "--out", str(path))
    code, out, _ = terminal("search", "digits-cnn", "gap9", *options)
    assert code == 0
    written = [one["on_front"] for one in json.loads(path.read_text())["candidates"]]
    screened = session.with_limits(memory_limit_bytes=limit).search(25)
    assert sum(written) < len(screened)
    assert re.match(rf"front of {sum(written)}\b", out)


def test_a_search_tells_its_share_of_the_optimum_when_asked(terminal, front, tmp_path, monkeypatch):
    quick = partialmethod(Session.exact_front, time_limit_s=1)
    monkeypatch.setattr(Session, "exact_front", quick)
    path = tmp_path / "exact.json"
    code, out, _ = terminal(
        "search", "digits-cnn", "gap9", "--trials", "25", "--exact", "--out", str(path)
    )
    assert code == 0
    share = json.loads(path.read_text())["exact_hypervolume_ratio"]
    assert 0.5 < share <= 1
    assert f"{share:.1%} of the additive-proxy optimum (not about accuracy)" in " ".join(
        out.split()
    )
    assert json.loads(front.read_text())["exact_hypervolume_ratio"] is None


def test_a_pick_outside_the_candidates_is_refused(terminal, front, tmp_path):
    code, _, err = terminal("export", str(front), "--pick", "9999", "--out", str(tmp_path / "x"))
    assert code == 2
    assert "9999" in sentence(err)
    assert "knee" in err


def broken(document, change):
    changed = json.loads(json.dumps(document))
    change(changed)
    return changed


CHANGES = {
    "extra field": (lambda d: d.update(colour="red"), "colour"),
    "future version": (lambda d: d.update(schema_version=2), "schema_version"),
    "ratio above one": (lambda d: d["layers"][0].update(update_ratio=1.2), "update_ratio"),
    "ratio and slices": (lambda d: d["layers"][0].update(update_ratio=0.015), "update_ratio"),
    "unknown axis": (lambda d: d["layers"][0].update(channel_axis="up"), "channel_axis"),
    "twice": (lambda d: d["layers"].append(d["layers"][0]), "layers"),
    "channel outside": (lambda d: d["layers"][0].update(channels=[99999]), "channels"),
    "batch of zero": (lambda d: d["setup"].update(micro_batch=0), "micro_batch"),
    "no model": (lambda d: d.pop("model"), "model"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_bad_policy_document_names_its_field(terminal, front, tmp_path, name):
    out = tmp_path / "policy.json"
    terminal("export", str(front), "--out", str(out))
    change, word = CHANGES[name]
    out.write_text(json.dumps(broken(json.loads(out.read_text()), change)))
    code, _, err = terminal("validate", str(out))
    assert code == 2
    assert word in sentence(err)
    assert str(out) in err


@pytest.mark.parametrize(("text", "code"), [("n_bias_update: 3", 0), ("n_bias_update: -3", 2)])
def test_a_scheme_is_validated_as_one(terminal, tmp_path, text, code):
    path = tmp_path / "scheme.yaml"
    path.write_text(text)
    answered, out, err = terminal("validate", str(path), "--json")
    assert answered == code
    (row,) = json.loads(out)
    assert (row["kind"], row["valid"]) == ("tiny-training", code == 0)
    assert code == 0 or "n_bias_update" in sentence(err)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "nonsense", '{"schema_version": "1"}'])
def test_what_is_no_document_is_refused(terminal, tmp_path, text):
    path = tmp_path / "policy.json"
    path.write_text(text)
    code, _, err = terminal("validate", str(path))
    assert code == 2
    assert "policy.json" in sentence(err)


def test_a_policy_for_another_network_is_refused_with_both_names(terminal, front, tmp_path):
    out = tmp_path / "policy.json"
    terminal("export", str(front), "--out", str(out))
    code, _, err = terminal("cost", "mcunet-5fps", "gap9", "--policy", str(out))
    assert code == 2
    assert "digits-cnn" in sentence(err)
    assert "mcunet-5fps" in err


def test_a_device_number_without_a_source_is_refused(terminal, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(catalog.read("device", "gap9").replace('fields = ["clock_hz", ', "fields = ["))
    for arguments in (("validate", str(path)), ("cost", "digits-cnn", str(path))):
        code, _, err = terminal(*arguments)
        assert code == 2
        assert "clock_hz has no source" in sentence(err)


def test_an_own_device_works_by_path(terminal, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(catalog.read("device", "gap9").replace('name = "gap9"', 'name = "mine"', 1))
    code, out, _ = terminal("cost", "digits-cnn", str(path), "--json")
    assert code == 0
    assert json.loads(out)["device"] == "mine"


def test_module_and_script_agree():
    environment = {**os.environ, "COLUMNS": "200"}
    command = [sys.executable, "-m", "explorer", "compare", "digits-cnn", "gap9", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert {row["policy"] for row in json.loads(done.stdout)} >= {"none", "full", "last-layer"}


def test_compare_names_the_setup_it_is_of_once_and_only_as_text(terminal):
    _, out, _ = terminal("compare", "mi-bminet", "gap9")
    first = "mi-bminet on gap9, eeg-motor, batch 1, sgd, fp32, fused updates (memory, time"
    assert " ".join(out.split()).startswith(first)
    given = ["--batch=8", "--micro-batch=2", "--norm=gn", "--recompute=blocks", "--reserve=10240"]
    code, out, _ = terminal("compare", "mi-bminet", "gap9", *given, "--flash-reserve", "2048")
    words = "batch 8 by 2, sgd, fp32, deferred updates, norm gn, recompute blocks"
    kept = "10.0 KiB of RAM kept, 2.00 KiB of flash kept"
    assert f"eeg-motor, {words}, {kept} (memory" in " ".join(out.split())
    assert out.count("recompute blocks") == 1
    assert code == 0
    assert "batch 8 by 2" not in terminal("compare", "mi-bminet", "gap9", *given, "--json")[1]


TEXTS = {
    "nan.json": '{"schema_version": NaN}',
    "twice.json": '{"schema_version": 1, "schema_version": 1}',
    "true.json": '{"schema_version": true}',
    "deep.json": "[" * 50_000,
    "deep.toml": "a=" + "[" * 50_000,
    "bool.toml": catalog.read("device", "gap9").replace("clock_hz = 370e6", "clock_hz = true"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_documents_are_one_sentence(terminal, tmp_path, name):
    path = tmp_path / name
    path.write_text(TEXTS[name])
    code, _, err = terminal("validate", str(path))
    assert code == 2
    assert name in sentence(err)


@pytest.mark.parametrize("use", [("--policy", "x.json"), ("x.toml",)])
def test_bytes_that_are_no_text_are_one_sentence(terminal, tmp_path, monkeypatch, use):
    monkeypatch.chdir(tmp_path)
    for name in ("x.json", "x.toml"):
        (tmp_path / name).write_bytes(bytes(range(256)))
    device = () if use == ("x.toml",) else ("gap9",)
    code, _, err = terminal("cost", "digits-cnn", *device, *use)
    assert code == 2
    assert "UTF-8" in sentence(err)


@pytest.mark.parametrize(
    "place",
    [
        ("--study", "no-such-folder/name"),
        ("--study", "k", "--storage", "foo://x"),
        ("--study", "k", "--storage", "sqlite:////no-such-folder/x.db"),
        ("--study", " "),
        ("--storage", "sqlite://"),
    ],
)
def test_a_study_that_cannot_be_opened_is_one_sentence(terminal, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    code, _, err = terminal("search", "digits-cnn", "gap9", "--trials", "5", *place)
    assert code == 2
    assert "study" in sentence(err)


def test_a_ledger_that_cannot_be_written_is_refused_before_the_work(terminal, tmp_path):
    code, _, err = terminal("measure", "digits-cnn", "digits", "--ledger", str(tmp_path))
    assert code == 2
    assert "cannot be written" in sentence(err)


def test_a_table_that_was_not_made_leaves_no_file(terminal, tmp_path, monkeypatch):
    monkeypatch.delenv("EXPLORER_DATA", raising=False)
    out = tmp_path / "table.npz"
    code, _, err = terminal("fisher", "mcunet-5fps", "omniglot", "--out", str(out))
    assert code == 2
    assert "EXPLORER_DATA" in sentence(err)
    assert not out.exists()


def test_ctrl_c_keeps_what_a_search_found(tmp_path):
    out, journal = tmp_path / "front.json", tmp_path / "kept.journal"
    command = [sys.executable, "-m", "explorer", "search", "digits-cnn", "gap9"]
    process = subprocess.Popen(
        [*command, "--trials", "1000000", "--study", "kept", "--out", str(out)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (journal.is_file() and journal.stat().st_size > 20_000):
        assert process.poll() is None
        assert time.monotonic() < deadline, "the search did not start"
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "stopped after" in sentence(err)
    assert "the same command goes on" in err
    assert json.loads(out.read_text())["candidates"]


def test_a_front_of_another_form_is_exported_with_its_options(terminal, tmp_path):
    front, out = tmp_path / "front.json", tmp_path / "policy.json"
    form = "mcunet-5fps:resolution=84"
    assert terminal("search", form, "gap9", "--trials", "20", "--out", str(front))[0] == 0
    code, _, err = terminal("export", str(front), "--out", str(out))
    assert code == 2
    assert "the front is for mcunet-5fps" in sentence(err)
    assert terminal("export", str(front), "--out", str(out), "--model", form)[0] == 0
    assert terminal("cost", form, "gap9", "--policy", str(out))[0] == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {"ways": 5, "shots": 5, "query_count": 40, "steps": 40, "sampler": "fixed"}),
        (
            ("--ways", "3", "--shots", "2", "--queries", "7"),
            {"ways": 3, "shots": 2, "query_count": 7, "steps": 40, "sampler": "fixed"},
        ),
        (
            ("--sampler", "varying", "--shots", "9"),
            {"ways": 50, "shots": 9, "query_count": 10, "steps": 40, "sampler": "varying"},
        ),
    ],
)
def test_measure_records_the_protocol_it_was_told(terminal, tmp_path, options, expected):
    ledger = tmp_path / "runs.jsonl"
    arguments = ("measure", "digits-cnn", "digits", "--policy", "none", "--episodes", "2")
    code, out, _ = terminal(*arguments, *options, "--ledger", str(ledger), "--json")
    assert code == 0
    row = json.loads(out)
    assert row["protocol"] == expected
    assert json.loads(ledger.read_text("utf-8")) == row
    queries = 5 * expected["query_count"]
    if expected["sampler"] == "fixed":
        queries = expected["ways"] * expected["query_count"]
    counts = [accuracy * queries for accuracy in row["per_episode_accuracy"]]
    assert counts == pytest.approx([round(count) for count in counts])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--ways", "6"), ("ways", "6", "2 to 5")),
        (("--ways", "1"), ("ways", "1")),
        (("--shots", "0"), ("shots", "0")),
        (("--queries", "500"), ("queries", "505", "class")),
        (("--sampler", "both"), ("sampler", "both", "varying")),
    ],
)
def test_an_impossible_protocol_is_one_sentence(terminal, options, words):
    code, _, err = terminal("measure", "digits-cnn", "digits", *options)
    assert code == 2
    for word in words:
        assert word in sentence(err)


def test_what_fits_no_limit_says_which(capsys):
    assert run(["search", "digits-cnn", "gap9", "--trials", "5", "--limit", "energy=1nJ"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "nothing fits, step_energy_j at most 1.00 nJ: the closest needs" in text


def test_a_stopped_optimum_is_no_optimum(capsys, monkeypatch):
    real = Session.exact_front

    def stopped(self, *, on_optimum, control):
        control.stop()
        return real(self, on_optimum=on_optimum, control=control)

    monkeypatch.setattr(Session, "exact_front", stopped)
    assert run(["search", "digits-cnn", "gap9", "--trials", "5", "--exact"]) == 130
    assert "optimum" not in capsys.readouterr().out


def test_a_long_front_is_shown_in_part_with_its_knee(terminal):
    code, out, _ = terminal("search", "digits-cnn", "gap9", "--trials", "60", "--seed", "1")
    assert code == 0
    whole, shown = map(int, re.search(r"front of (\d+), (\d+) shown", out).groups())
    assert whole > shown >= 20
    rows = [line for line in out.splitlines() if line.startswith("│")]
    assert len(rows) == shown
    assert sum("(knee)" in row for row in rows) == 1
