"""What the source lost, as an objective and a limit: measured, or refused."""

import json

import numpy as np
import pytest
from helpers import Net

from explorer import paths
from explorer.accuracy.pretrain import seeded_module
from explorer.accuracy.protocols import LessonProtocol
from explorer.accuracy.records import Ledger
from explorer.accuracy.torch_bridge import save_weights
from explorer.cli import run
from explorer.errors import SpecError
from explorer.graph import INPUT
from explorer.network import NetworkDocument, load_network
from explorer.search.front import is_non_dominated
from explorer.search.measured import Measuring
from explorer.search.sources import judge_of, known_runs, own_ledger
from explorer.session import Session

SAMPLES, COUNT = 30, 64
ASKED = ("score", "memory", "retention")


def arrays(has_source: bool = True) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(COUNT) % 2
    given = {
        "signals": rng.normal(size=(COUNT, 2, SAMPLES)) + labels[:, None, None],
        "labels": labels,
        "group": np.arange(COUNT) // 4,
    }
    return given | ({"target": np.arange(COUNT) >= COUNT // 2} if has_source else {})


@pytest.fixture
def session(tmp_path, monkeypatch) -> Session:
    monkeypatch.setattr(paths, "user_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr("explorer.search.sources.user_cache", lambda: tmp_path / "cache")
    np.savez(tmp_path / "own.npz", **arrays())
    np.savez(tmp_path / "new.npz", **arrays(has_source=False))
    net = Net(2, 1, SAMPLES)
    end = net.conv(INPUT, "first", 4, kernel=5, norm="gn", act="relu")
    net.linear(net.pool(end), "head", 2)
    path = tmp_path / "tiny.json"
    path.write_text(NetworkDocument.of(net.graph("tiny")).to_json(), "utf-8")
    save_weights(seeded_module(load_network(path), 0), path.with_suffix(".safetensors"))
    task = str(tmp_path / "own.npz")
    return Session(model=str(path), task=task, device="gap9", policy="none", objectives=ASKED)


def quick(path) -> Measuring:
    rules = LessonProtocol(steps=4)
    return Measuring(ledger=path, episodes=4, tuning_episodes=1, protocol=rules)


def test_a_measured_search_makes_what_the_source_lost_small(session, tmp_path):
    ledger = tmp_path / "runs.jsonl"
    front = session.search(4, "random", measuring=quick(ledger))
    kept = [run.source["accuracy"] for run in Ledger(ledger).read()]
    lost = [metric.before - metric.after for metric in kept]
    table = front.table
    assert sorted(table.column("forgotten_accuracy")) == pytest.approx(sorted(lost))
    assert any(lost)
    columns = (table.score, table.peak_live_bytes, table.worth.forgotten)
    best = is_non_dominated(np.stack(columns, axis=1), session.problem.objectives)
    assert set(front.rows) == set(np.flatnonzero(best & table.feasible))
    document = session.front_document(front)
    names = [objective.name for objective in document.objectives]
    assert names == ["accuracy", "peak_live_bytes", "forgotten_accuracy"]
    assert document.candidates[0].objectives["forgotten_accuracy"] == table.worth.forgotten[0]
    again = session.search(4, "random", measuring=quick(ledger))
    assert np.array_equal(again.table.worth.forgotten, table.worth.forgotten)


def test_a_limit_on_what_the_source_lost_is_kept(session, tmp_path):
    limited = session.with_objectives(("score", "memory"), ("retention=1%",))
    table = limited.search(4, "random", measuring=quick(tmp_path / "runs.jsonl")).table
    assert np.array_equal(table.feasible, table.worth.forgotten <= 0.01)


@pytest.mark.parametrize("asked", [(ASKED, ()), (("score", "memory"), ("retention=2%",))])
def test_retention_is_never_predicted(session, asked):
    unmeasured = session.with_objectives(*asked)
    for ask in (unmeasured.compare, unmeasured.search):
        with pytest.raises(SpecError, match="retention: not measured for what is asked"):
            ask()


def test_a_comparison_holds_those_that_were_measured(session):
    ledger = own_ledger(session.graph, session.task_name)
    plain = session.with_objectives(("score", "memory"))
    for policy in ("full", "last-layer"):
        command = ["measure", session.model, session.task, "--policy", policy, "--episodes", "4"]
        command += ["--tuning", "1", "--steps", "4", "--ledger", str(ledger.path), "--json"]
        assert run(command) == 0
    assert len(known_runs(session.graph, session.task_name)) == 2
    assert len(plain.compare()) > 2
    table = session.compare()
    assert set(table.labels) == {"full", "last-layer"}
    lost = {one.design.family: one.forgotten_accuracy for one in ledger.read()}
    assert dict(zip(table.labels, table.worth.forgotten, strict=True)) == lost
    judge = judge_of(session.graph, session.task_name, predicts=False)
    assert all(np.isfinite(known.forgotten) for known in judge.measured.values())


def test_the_shipped_ecg_ledger_compares_by_what_the_source_lost():
    model = "tdssm:d_model=32,length=1024"
    shipped = Session(model=model, policy="none", objectives=("proxy", "memory", "retention"))
    assert shipped.scores is not None  # F3 of a norm without MACs is finite
    table = shipped.compare()
    lost = dict(zip(table.labels, table.worth.forgotten, strict=True))
    assert lost["none"] == 0
    assert lost["mu-train"] < lost["mu-finetune"] < lost["full"]


def test_without_a_source_nothing_is_forgotten(session, tmp_path):
    new = session.with_task(str(tmp_path / "new.npz"))
    with pytest.raises(SpecError, match="no source domain"):
        new.search(2, measuring=quick(tmp_path / "runs.jsonl"))
    images = Session(model="digits-cnn", policy="none", objectives=ASKED)
    with pytest.raises(SpecError, match="no source domain"):
        images.search(2, measuring=Measuring(ledger=tmp_path / "runs.jsonl"))


def test_the_terminal_measures_every_trial(session, tmp_path, capsys):
    ledger = tmp_path / "runs.jsonl"
    words = ["--objectives", "accuracy,memory,retention"]
    command = ["search", session.model, "gap9", "--task", session.task, "--trials", "2"]
    assert run([*command, *words, "--json"]) == 2
    assert "accuracy" in capsys.readouterr().err
    words = ["--objectives", "score,memory,retention"]
    assert run([*command, *words, "--json"]) == 2
    assert "retention: not measured" in capsys.readouterr().err
    assert run([*command, *words, "--measured", "--measure", "1"]) == 2
    capsys.readouterr()
    told = [*command, *words, "--measured", "--episodes", "1", "--ledger", str(ledger), "--json"]
    assert run(told) == 0
    document = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in document["objectives"]} >= {"accuracy", "forgotten_accuracy"}
    assert len(Ledger(ledger).read()) == len(document["candidates"])
