"""Which metric ranks runs on a task, and that it stands under its own name wherever it is shown."""

import itertools
import json
from dataclasses import replace

import numpy as np
import optuna
import pytest
from helpers import Net

from explorer import paths
from explorer.accuracy import finetune
from explorer.accuracy.metrics import METRIC_NAMES, METRICS, scores
from explorer.accuracy.pretrain import seeded_module
from explorer.accuracy.protocols import LessonProtocol
from explorer.accuracy.ranking import paired_gains
from explorer.accuracy.records import Ledger, Metric
from explorer.accuracy.tasks import task_metrics
from explorer.accuracy.torch_bridge import save_weights
from explorer.catalog import names
from explorer.cli import run
from explorer.errors import SpecError
from explorer.export import pick_reason
from explorer.figures.points import worth_format, worth_text
from explorer.front_parts import RefinementRecord
from explorer.graph import INPUT
from explorer.network import NetworkDocument, load_network
from explorer.refining import Measure, refine
from explorer.search.judge import calibrate_runs, known_columns, known_of
from explorer.search.measured import Measuring
from explorer.search.refinement import MeasuredChoice, Refinement
from explorer.search.sources import measured_runs
from explorer.session import Session

ECG = "tdssm:d_model=32,length=1024"
SAMPLES, COUNT = 30, 64


@pytest.fixture
def own(tmp_path, monkeypatch) -> Session:
    """Three classes of unlike number, a tiny network with weights, a question by macro F1."""
    monkeypatch.setattr(paths, "user_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr("explorer.search.sources.user_cache", lambda: tmp_path / "cache")
    rng = np.random.default_rng(0)
    labels = np.array([0, 0, 1, 2] * (COUNT // 4))
    signals = rng.normal(size=(COUNT, 2, SAMPLES)) + 0.4 * labels[:, None, None]
    np.savez(tmp_path / "own.npz", signals=signals, labels=labels)
    net = Net(2, 1, SAMPLES)
    end = net.conv(INPUT, "first", 4, kernel=5, norm="gn", act="relu")
    net.linear(net.pool(end), "head", 3)
    path = tmp_path / "tiny.json"
    path.write_text(NetworkDocument.of(net.graph("tiny")).to_json(), "utf-8")
    save_weights(seeded_module(load_network(path), 0), path.with_suffix(".safetensors"))
    task = str(tmp_path / "own.npz")
    return Session(model=str(path), task=task, device="gap9", policy="none", metric="f1")


def quick(path) -> Measuring:
    rules = LessonProtocol(steps=4)
    return Measuring(ledger=path, episodes=4, tuning_episodes=1, protocol=rules)


def test_a_task_says_what_ranks_its_runs(tmp_path):
    assert {task: task_metrics(task)[0] for task in names("task")} == {
        task: "f1" if task == "ecg-rhythm" else "accuracy" for task in names("task")
    }
    signals = [task for task in names("task") if len(task_metrics(task)) > 1]
    assert signals == ["ecg-rhythm", "eeg-motor", "eog-saccades"]
    assert all(set(task_metrics(task)) == set(METRICS) for task in signals)
    assert task_metrics(str(tmp_path / "own.npz")) == tuple(METRICS)
    assert task_metrics(str(tmp_path)) == task_metrics("of another's ledger") == ("accuracy",)


def test_a_question_has_the_metric_of_its_task_until_another_is_asked():
    ecg = Session(model=ECG, policy="none")
    assert ecg.metric_column == "macro_f1"
    assert ecg.with_metric("auroc").metric_column == "macro_auroc"
    assert ecg.with_metric("auroc").with_model("mi-bminet").metric_column == "macro_auroc"
    assert ecg.with_metric("f1").with_model("digits-cnn").metric_column == "accuracy"
    with pytest.raises(SpecError, match="metric: got 'f1', allowed: accuracy"):
        Session(model="digits-cnn", metric="f1")
    with pytest.raises(SpecError, match="allowed: f1, accuracy, auroc"):
        ecg.with_metric("recall")
    assert ecg._asked()["metric"] == "macro_f1"
    assert "metric" not in Session()._asked()  # studies of images are what they were


def test_what_a_ledger_knows_of_a_design_has_names():
    graph = Session(model=ECG, policy="none").graph
    runs = measured_runs(graph, "ecg-rhythm")[:3]
    columns = known_columns([known_of(run, "macro_f1") for run in runs])
    figures = [run.metrics["macro_f1"] for run in runs]
    assert columns.measured.tolist() == [figure.after for figure in figures]
    assert columns.measured_error.tolist() == [figure.standard_error for figure in figures]
    assert columns.accuracy.tolist() == [run.accuracy for run in runs]
    assert columns.accuracy_error.tolist() == [run.standard_error for run in runs]
    assert columns.forgotten.tolist() == [run.forgotten_accuracy for run in runs]
    lone = runs[0].model_copy(update={"metrics": {}, "source": {}, "standard_error": None})
    known = known_of(lone, "macro_f1")
    unknown = {name for name, value in known._asdict().items() if np.isnan(value)}
    assert unknown == {"measured", "measured_error", "accuracy_error", "forgotten"}
    assert {column.shape for column in known_columns([])} == {(0,)}


@pytest.mark.parametrize(("word", "column"), METRICS.items())
def test_known_policies_show_the_metric_of_the_ledger(word, column):
    session = Session(model=ECG, policy="none", metric=word)
    table = session.compare()
    of_ledger = {run.design.family: run for run in measured_runs(session.graph, "ecg-rhythm")}
    row = table.labels.index("mu-train")
    found = of_ledger["mu-train"].figure(column)
    assert table.worth.measured[row] == found.after
    assert table.worth.measured_error[row] == found.standard_error
    frame = table.to_frame().iloc[row]
    assert frame["measured_accuracy"] == of_ledger["mu-train"].accuracy
    assert frame["measured_standard_error"] == of_ledger["mu-train"].standard_error
    if word != "accuracy":
        assert frame[f"measured_{column}"] == found.after
        assert frame[f"measured_{column}_standard_error"] == found.standard_error


def test_a_repeat_in_which_a_metric_is_not_defined_pairs_with_none():
    runs = [
        run
        for run in measured_runs(Session(model=ECG, policy="none").graph, "ecg-rhythm")
        if run.design.family in ("mu-train", "full")
    ]
    whole = paired_gains(runs, "macro_auroc")[1]
    figure = runs[0].metrics["macro_auroc"]
    holed = Metric.of((None, *figure.per_episode_before[1:]), figure.per_episode_after)
    assert np.isnan(holed.gains[0])
    runs[0] = runs[0].model_copy(update={"metrics": {"macro_auroc": holed}})
    assert np.array_equal(paired_gains(runs, "macro_auroc")[1], whole[:, 1:])
    assert len(paired_gains(runs, "macro_f1")[0]) == 1  # the other has none of it


def test_a_calibration_predicts_the_metric_asked_for():
    graph = Session(model="digits-cnn", policy="none").graph
    runs = measured_runs(graph, "digits")
    low = [
        run.model_copy(
            update={
                "metrics": {
                    "macro_f1": run.figure("accuracy").model_copy(
                        update={"after": run.accuracy / 2}
                    )
                }
            }
        )
        for run in runs
    ]
    plain, halved = (calibrate_runs(graph, low, None, name) for name in ("accuracy", "macro_f1"))
    features = {name: np.full(1, 0.5) for name in ("depth", "trained parameters", "backward MACs")}
    assert halved.predict(features)[0] == pytest.approx(plain.predict(features)[0] / 2, rel=0.05)
    assert halved.half_width == pytest.approx(plain.half_width / 2, rel=0.1)


def test_a_measured_search_makes_the_metric_good(own, tmp_path):
    ledger = tmp_path / "runs.jsonl"
    front = own.search(3, "random", measuring=quick(ledger))
    found = [run.metrics["macro_f1"].after for run in Ledger(ledger).read()]
    assert sorted(front.table.score) == pytest.approx(sorted(found))
    assert not np.array_equal(front.table.worth.accuracy, front.table.score)
    assert front.table.score_name == "macro F1"
    document = own.front_document(front)
    assert document.objectives[0].name == "macro_f1"
    assert document.candidates[0].accuracy.name == "macro F1"
    assert "macro F1" in pick_reason(document, "max-accuracy")
    limited = replace(own, objectives=("accuracy", "memory"), limits=("accuracy=1%",))
    with pytest.raises(SpecError, match="accuracy: no metric is predicted here"):
        limited.search(1)


def undefined_at(monkeypatch, *numbers):
    """The metric of these measurements is undefined, as with a single class in the tests."""
    count = itertools.count()

    def measured(*args, **rest):
        run = finetune.accuracy_curve(*args, steps=(), **rest).run
        return run.model_copy(update={"metrics": {}}) if next(count) in numbers else run

    monkeypatch.setattr(finetune, "measure", measured)


@pytest.mark.parametrize("sampler", ["random", "nsga2", "tpe"])
def test_a_trial_without_the_metric_is_pruned_and_the_search_goes_on(
    own, tmp_path, monkeypatch, sampler
):
    undefined_at(monkeypatch, 1)
    monkeypatch.chdir(tmp_path)
    ledger = tmp_path / "runs.jsonl"
    asked = {"measuring": quick(ledger), "study": "s"}
    front = own.search(4, sampler, **asked)
    kept = {run.key for run in Ledger(ledger).read() if run.metrics}
    pruned = [trial for trial in trials_of("s") if trial.state.name == "PRUNED"]
    assert front.trial_count == 4
    assert pruned
    assert len(front.table) == 4 - len(pruned)
    assert len(kept) >= 1
    reason = f"macro F1 is not defined on the tests of {own.task}"
    assert {trial.user_attrs["reason"] for trial in pruned} == {reason}
    assert front.notes == (f"{len(pruned)} of 4 trials are left out: {reason}",)
    assert np.isfinite(front.table.values).all()
    assert own.front_document(front).notes == front.notes
    more = own.search(6, sampler, **asked)  # another worker learns what is left out, and why
    assert more.trial_count == 6
    assert np.array_equal(more.table.values[: len(front.table)], front.table.values)
    assert len(trials_of("s")) == 6


def test_a_search_in_which_nothing_has_the_metric_says_so(own, tmp_path, monkeypatch):
    undefined_at(monkeypatch, *range(3))
    with pytest.raises(SpecError, match="no design of 3 has a value: macro F1 is not defined"):
        own.search(3, "random", measuring=quick(tmp_path / "runs.jsonl"))


def test_a_trial_that_diverges_is_left_out_with_its_reason(own, tmp_path):
    rules = LessonProtocol(steps=4, learning_rate=1e38)
    ledger = tmp_path / "runs.jsonl"
    measuring = Measuring(ledger=ledger, episodes=2, tuning_episodes=1, protocol=rules)
    front = own.search(3, "random", measuring=measuring)
    assert not front.table.designs.trains.any()  # what trains nothing diverges at no rate
    assert len(Ledger(ledger).read()) == 1
    assert front.trial_count == 3
    assert all("the loss after fine-tuning at learning rate 1e+38 is" in why for why in front.notes)


def test_a_network_without_finite_logits_has_no_auroc():
    labels = np.array([0, 1, 1])
    found = scores(np.array([[1.0, 0.0], [np.nan, 0.0], [np.inf, 0.0]]), labels)
    assert found["macro_auroc"] is None
    assert found["accuracy"] == pytest.approx(1 / 3)


def trials_of(name):
    """Trials of a study in the working folder."""
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(f"{name}.journal")
    )
    return optuna.load_study(study_name=name, storage=storage).trials


def test_a_refined_front_says_what_it_was_measured_by(own, tmp_path):
    front = own.search(8, "random")
    rules = LessonProtocol(steps=4)
    how = Measure(episodes=2, tuning_episodes=1, protocol=rules, ledger=tmp_path / "runs.jsonl")
    refined = refine(own, front, 2, how)
    runs = Ledger(tmp_path / "runs.jsonl").read()
    assert refined.refinement.metric == "macro_f1"
    for choice, measured in zip(refined.refinement.choices, runs, strict=True):
        assert choice.measured == measured.metrics["macro_f1"].after
        assert choice.accuracy == measured.accuracy
    record = json.loads(own.front_document(refined).to_json())["refinement"]
    assert record["metric"] == "macro_f1"
    assert {one["measured"] for one in record["choices"]} == {
        one.measured for one in refined.refinement.choices
    }


def test_the_terminal_ranks_by_the_metric(own, tmp_path, capsys):
    command = ["measure", own.model, own.task, "--policy", "last-layer", "--episodes", "2"]
    command += ["--tuning", "1", "--steps", "4"]
    assert run([*command, "--metric", "f1"]) == 0
    assert "macro F1, ranks runs here" in capsys.readouterr().out
    assert run(command) == 0
    assert "ranks runs here" not in capsys.readouterr().out
    assert run(["compare", ECG, "radxa-zero", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["metric"] for row in rows} == {"macro_f1"}
    assert run(["compare", ECG, "radxa-zero", "--metric", "recall"]) == 2
    assert "allowed: f1, accuracy, auroc" in capsys.readouterr().err
    assert run(["list", "tasks", "--json"]) == 0
    listed = {row["name"]: row["metric"] for row in json.loads(capsys.readouterr().out)}
    assert listed["ecg-rhythm"] == "macro_f1"
    assert listed["digits"] == "accuracy"
    assert run(["calibrate", own.model, own.task, "--metric", "f1"]) == 2
    assert "0 runs of 0 families; at least 19 runs of 5" in capsys.readouterr().err


@pytest.mark.parametrize("name", METRIC_NAMES.values())
def test_a_metric_is_written_in_per_cent(name):
    assert worth_text(0.712, name) == "71.2%"
    assert worth_format(name) == "~%"
    assert worth_text(0.712, "proxy score: depth") == "0.712"


def test_gains_that_are_mostly_noise_predict_nothing():
    evidence = Session(model="epidenet", policy="none", metric="f1").evidence
    assert evidence.lead_low > 0  # of nothing: training everything does not gain there
    assert evidence.reliability < 0.5
    assert "reliability" in evidence.reason_against
    assert replace(evidence, reliability=0.5).reason_against == ""


def test_a_refined_front_is_written_where_the_metric_was_not_defined():
    choice = MeasuredChoice(
        row=0,
        why="on the front",
        accuracy=0.5,
        standard_error=np.nan,
        measured=np.nan,
        measured_error=np.nan,
        score_before=0.1,
        on_measured_front=False,
    )
    counts = dict.fromkeys(("kept_count", "left_count", "entered_count"), 0)
    volumes = dict.fromkeys(("hypervolume_before", "hypervolume_after"), 0.0)
    refinement = Refinement(
        metric="macro_auroc",
        choices=(choice,),
        episodes=1,
        seed=0,
        reason_against="",
        tau=np.nan,
        **counts,
        **volumes,
    )
    (record,) = RefinementRecord.of(refinement).choices
    assert (record.accuracy, record.measured) == (0.5, None)
