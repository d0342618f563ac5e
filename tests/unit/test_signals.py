"""Tasks of signals: how they are split, read, trained on and measured; no data set is needed."""

import csv
import json
import os
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import INPUT, Net
from torch.nn import functional

from explorer import catalog, paths
from explorer.accuracy import finetune as ft
from explorer.accuracy import trainer as tr
from explorer.accuracy.episodes import SCORE_STREAM, TUNING_STREAM
from explorer.accuracy.fisher import score_table, task_scores
from explorer.accuracy.group import climb
from explorer.accuracy.lessons import LESSON_SETUP, batches, class_weights, sample_lesson
from explorer.accuracy.metrics import scores
from explorer.accuracy.pretrain import seeded_module
from explorer.accuracy.protocols import LessonProtocol, Protocol
from explorer.accuracy.records import Ledger, MeasuredRun, Metric
from explorer.accuracy.source import altered, train_source
from explorer.accuracy.tasks import SignalTask, check_task, load_task, task_for
from explorer.accuracy.tasks._signals import FOLDS, band_passed, resampled
from explorer.accuracy.tasks.ecg_rhythm import recording, single_rhythm
from explorer.accuracy.tasks.eog_saccades import HALF_WINDOW, events
from explorer.cli import run
from explorer.design import LayerAxes, TrainingSetup, UpdatePolicy, everything, nothing
from explorer.errors import MissingDataError, SpecError, UnknownNameError
from explorer.graph import ModelGraph

torch.set_num_threads(1)
SIGNALS = ("ecg-rhythm", "eeg-motor", "eog-saccades")
RULES = LessonProtocol(steps=12)
CHANNELS, SAMPLES = 2, 40


def network(norm: str = "gn", outputs: int = 3) -> ModelGraph:
    """Two convolutions over time and a classifier with an output more than there are classes."""
    net = Net(CHANNELS, 1, SAMPLES)
    end = net.conv(INPUT, "first", 8, kernel=5, norm=norm, act="relu")
    end = net.conv(end, "second", 8, kernel=3, norm=norm, act="relu")
    net.linear(net.pool(end), "head", outputs)
    return net.graph("tiny-signals")


GRAPH = network()
AXES = LayerAxes.of(GRAPH)


def arrays(count: int = 96, seed: int = 0) -> dict[str, np.ndarray]:
    """Slow and fast waves of random phase; in the second half, another domain, named in reverse."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    time = np.arange(SAMPLES) / SAMPLES
    phase = rng.uniform(0, 2 * np.pi, (count, CHANNELS, 1))
    target = np.arange(count) >= count // 2
    fast = (labels ^ target)[:, None, None]
    wave = np.maximum(np.sin(2 * np.pi * (2 + 4 * fast) * time + phase), 0)
    noise = rng.normal(0, 0.3, wave.shape)
    groups = np.arange(count) // 6
    return {"signals": wave + noise, "labels": labels, "group": groups, "target": target}


def written(folder, name="own.npz", **changes) -> str:
    path = folder / name
    kept = {key: value for key, value in {**arrays(), **changes}.items() if value is not None}
    np.savez(path, **kept)
    return str(path)


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> str:
    return written(tmp_path_factory.mktemp("signals"))


@pytest.fixture(scope="module")
def task(own) -> SignalTask:
    return task_for(own, GRAPH.input_shape)


@pytest.fixture(scope="module")
def trained(task):
    return train_source(seeded_module(GRAPH, 0), task, steps=80, learning_rate=1e-2)


def policy(*names: str) -> UpdatePolicy:
    chosen = np.array([name in names for name in AXES.names])
    return UpdatePolicy.of(
        "test", AXES, slices=AXES.out_channels * chosen, update_bias=AXES.has_bias & chosen
    )


# --- splits


def test_no_group_is_on_two_sides_and_four_repeats_test_everything(task):
    trained, held_out = task.source_split()
    assert not np.intersect1d(task.groups[trained], task.groups[held_out]).size
    assert sorted([*trained, *held_out]) == np.flatnonzero(~task.is_target).tolist()
    tests = []
    for repeat in range(FOLDS):
        adapted, tested = task.target_split(0, repeat)
        assert not np.intersect1d(task.groups[adapted], task.groups[tested]).size
        assert task.is_target[adapted].all()
        assert task.is_target[tested].all()
        tests += tested.tolist()
    assert sorted(tests) == np.flatnonzero(task.is_target).tolist()


def test_splits_are_of_the_seed_and_the_sources_is_not(task):
    again = [task.target_split(1, 5)[1].tolist() for _ in range(2)]
    assert again[0] == again[1]
    others = [task.target_split(seed, 5)[1].tolist() for seed in range(2, 8)]
    assert any(other != again[0] for other in others)
    assert np.array_equal(task.source_split()[1], task.source_split()[1])


@pytest.mark.parametrize("stream", [TUNING_STREAM, SCORE_STREAM])
def test_other_streams_never_see_the_tests_of_their_repeat(task, stream):
    draw = {"task": task, "rules": RULES, "setup": LESSON_SETUP, "seed": 3, "index": 2}
    measured, other = sample_lesson(**draw), sample_lesson(**draw, stream=stream)
    kept = {row.numpy().tobytes() for row in measured.test_signals}
    looked_at = {row.numpy().tobytes() for row in (*other.signals, *other.test_signals)}
    assert not kept & looked_at
    assert looked_at == {row.numpy().tobytes() for row in measured.signals}
    assert torch.equal(measured.source_signals, other.source_signals)


def test_batches_use_every_signal_before_any_again():
    drawn = batches(10, steps=7, batch=4, rng=np.random.default_rng(0))
    assert drawn.shape == (7, 4)
    assert sorted(drawn.ravel()[:10]) == sorted(drawn.ravel()[10:20]) == list(range(10))
    assert batches(3, steps=2, batch=8, rng=np.random.default_rng(0)).shape == (2, 8)


def test_class_weights_make_classes_count_alike(task):
    index = np.flatnonzero((task.labels == 0) | (np.arange(len(task.labels)) % 4 == 1))
    weights = class_weights(task, index).numpy()
    counts = np.bincount(task.labels[index])
    assert counts[0] != counts[1]
    assert np.allclose(weights * counts, len(index) / 2)
    only_one = class_weights(task, np.flatnonzero(task.labels == 1)).numpy()
    assert only_one.tolist() == [0.0, 1.0]


# --- metrics


def test_metrics_by_hand():
    labels = np.array([0, 0, 0, 1])
    logits = np.array([[2.0, 0], [2, 0], [0, 1], [0, 3]])
    found = scores(logits, labels)
    assert found["accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((2 * 2 / (2 * 2 + 1) + 2 / (2 + 1)) / 2)
    assert found["macro_auroc"] == 1.0
    worse = scores(logits[:, ::-1], labels)
    assert worse["macro_auroc"] == 0.0
    assert scores(logits, np.zeros(4, dtype=int))["macro_auroc"] is None


def test_macro_f1_of_a_majority_vote_is_low():
    labels = np.array([0] * 9 + [1])
    found = scores(np.tile([1.0, 0.0], (10, 1)), labels)
    assert found["accuracy"] == 0.9
    assert found["macro_f1"] == pytest.approx((18 / 19) / 2)
    assert found["macro_auroc"] == 0.5


def test_a_metric_leaves_undefined_repeats_out():
    metric = Metric.of([0.5, None, 0.7], [0.6, None, 1.0])
    assert metric is not None
    assert (metric.before, metric.after) == pytest.approx((0.6, 0.8))
    assert metric.standard_error == pytest.approx(np.std([0.6, 1.0], ddof=1) / 2**0.5)
    assert metric.standard_error_change == pytest.approx(np.std([0.1, 0.3], ddof=1) / 2**0.5)
    assert Metric.of([None], [None]) is None


# --- training


def gradients(module, lesson, micro_batch):
    student = module.double().train()
    student.zero_grad()
    cut = replace(lesson, micro_batch=micro_batch).cut(student, 0)
    loss = cut.backward(student, 0)
    return float(loss), [p.grad.clone() for p in student.parameters()]


def double(lesson):
    names = ("signals", "test_signals", "source_signals", "class_weights")
    return replace(lesson, **{name: getattr(lesson, name).double() for name in names})


@pytest.mark.parametrize("norm", ["gn", "bn"])
def test_micro_batches_add_up_to_the_batch_unless_the_norm_looks_across(task, norm):
    """Unequal class weights included: the mean is over the batch, not over its parts."""
    graph = network(norm)
    uneven = np.flatnonzero(task.is_target & ((task.labels == 0) | (task.groups % 2 == 0)))
    weights = class_weights(task, uneven)
    lesson = double(sample_lesson(task, RULES, LESSON_SETUP, seed=0, index=0))
    lesson = replace(lesson, class_weights=weights.double())
    module = seeded_module(graph, 1)
    whole, at_once = gradients(module, lesson, 8)
    parts, added = gradients(module, lesson, 1)
    worst = max(float((a - b).abs().max()) for a, b in zip(at_once, added, strict=True))
    if norm == "gn":
        assert worst < 1e-12
        assert parts == pytest.approx(whole, abs=1e-12)
    else:
        assert worst > 1e-3


def test_the_loss_is_torchs_weighted_cross_entropy_of_the_tasks_classes(task):
    lesson = sample_lesson(task, RULES, LESSON_SETUP, seed=0, index=1)
    module = seeded_module(GRAPH, 0).train()
    logits = module(lesson.signals[lesson.batches[0]])
    assert logits.shape == (8, 3)
    expected = functional.cross_entropy(
        logits[:, :2], lesson.labels[lesson.batches[0]], weight=lesson.class_weights
    )
    loss = lesson.cut(module, 0).backward(module, 0)
    assert float(loss) == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "sgd-momentum", "adam"])
def test_only_the_chosen_layers_move(task, trained, optimizer):
    lesson = sample_lesson(task, RULES, LESSON_SETUP, seed=0, index=0)
    student, losses = tr.train_copy(
        trained.module,
        GRAPH,
        policy("head"),
        lesson,
        learning_rate=0.05,
        steps=RULES.steps,
        optimizer=optimizer,
        schedule="cosine",
    )
    assert len(losses) == RULES.steps
    before = trained.module.state_dict()
    moved = {name for name, value in student.state_dict().items() if not value.equal(before[name])}
    assert moved == {"head.weight", "head.bias"}


def test_keeping_what_lies_below_changes_no_loss(task, trained):
    lesson = sample_lesson(task, RULES, LESSON_SETUP, seed=0, index=0)
    chosen = policy("head")
    rest = {"learning_rate": 0.05, "steps": 5, "optimizer": "sgd"}
    start = tr.first_trained_position(GRAPH, chosen)
    assert start > 0
    _, plain = tr.train_copy(trained.module, GRAPH, chosen, lesson, **rest)
    cut = lesson.cut(trained.module, start)
    _, cached = tr.train_copy(trained.module, GRAPH, chosen, lesson, prefix=cut, **rest)
    assert plain == pytest.approx(cached, rel=1e-5)


def test_the_first_step_falls_as_fast_as_its_slope_says(task, trained):
    """Central differences along the step of each optimizer."""
    lesson = sample_lesson(task, RULES, LESSON_SETUP, seed=0, index=0)
    whole = everything(AXES)
    for optimizer, longer in (("adam", 1), ("sgd", 1), ("sgd-momentum", 10)):
        slope = tr.loss_slope(trained.module, GRAPH, whole, lesson, optimizer=optimizer)
        rate = 1e-3 * longer / slope
        student, losses = tr.train_copy(
            trained.module,
            GRAPH,
            whole,
            lesson,
            learning_rate=rate,
            steps=1,
            optimizer=optimizer,
        )
        after = lesson.cut(student, 0).backward(student.train().requires_grad_(True), 0)
        assert losses[0] - float(after) == pytest.approx(1e-3, rel=0.3)


def test_a_cosine_ends_near_zero_and_a_constant_does_not(task, trained):
    lesson = sample_lesson(task, RULES, LESSON_SETUP, seed=0, index=0)
    moves = {}
    for schedule in ("constant", "cosine"):
        weights = [trained.module.get_parameter("head.bias").detach().clone()]
        tr.train_copy(
            trained.module,
            GRAPH,
            policy("head"),
            lesson,
            learning_rate=1e-2,
            steps=RULES.steps,
            schedule=schedule,
            after_step=lambda _, net, kept=weights: kept.append(
                net.get_parameter("head.bias").detach().clone()
            ),
        )
        moves[schedule] = [float((b - a).abs().max()) for a, b in pairwise(weights)]
    assert moves["cosine"][0] == pytest.approx(moves["constant"][0])
    assert moves["cosine"][-1] < 0.1 * moves["constant"][-1]


def test_source_training_learns_and_its_split_is_the_one_measured(task, trained):
    assert trained.after.accuracy > 0.9 > trained.before.accuracy
    lesson = sample_lesson(task, RULES, LESSON_SETUP, seed=4, index=0)
    outcome = lesson.cut(trained.module, 0).test(trained.module)
    assert outcome.source == trained.after.metrics
    assert trained.held_out_count == len(lesson.source_labels)


def test_source_training_needs_a_source(tmp_path):
    all_new = task_for(written(tmp_path, target=None), GRAPH.input_shape)
    with pytest.raises(SpecError, match="no source domain"):
        train_source(seeded_module(GRAPH, 0), all_new)


# --- measuring


def measured(own, trained, chosen, **rest) -> MeasuredRun:
    options = {"episodes": 3, "tuning_episodes": 1, "protocol": RULES, **rest}
    return ft.measure(GRAPH, own, chosen, module=trained.module, **options)


def test_a_group_gives_the_runs_of_its_members_alone(own, trained):
    rest = {
        "episodes": 2,
        "protocol": RULES,
        "setup": TrainingSetup.of_batch(8, 4, optimizer="sgd", update_timing="deferred"),
        "tuning_episodes": 1,
        "module": trained.module,
    }
    policies = [nothing(AXES), policy("head"), everything(AXES)]
    together = ft.accuracy_curves(GRAPH, own, policies, **rest)
    for chosen, shared in zip(policies, together, strict=True):
        alone = ft.accuracy_curve(GRAPH, own, chosen, **rest)
        same = {"wall_time_s": shared.run.wall_time_s}
        assert alone.run.model_copy(update=same) == shared.run
        assert alone.per_episode_accuracy == shared.per_episode_accuracy
    assert together[2].run.design.setup.micro_batch == 4
    assert together[2].run.source["accuracy"].before == together[0].run.source["accuracy"].after


def test_climbing_changes_no_digit(task, trained):
    lesson = sample_lesson(task, RULES, LESSON_SETUP, seed=0, index=0)
    starts = [0, 2, len(GRAPH.layers) - 1, len(GRAPH.layers)]
    whole = lesson.cut(trained.module, 0).test(trained.module)
    for start, prefix in zip(starts, climb(trained.module, lesson, starts), strict=True):
        direct = lesson.cut(trained.module, start)
        for part in ("signals", "tests", "source"):
            climbed, made = getattr(prefix, part), getattr(direct, part)
            assert climbed.keys() == made.keys()
            assert all(torch.equal(climbed[name], made[name]) for name in made)
        assert prefix.test(trained.module) == whole
    assert not prefix.signals


def test_a_run_says_what_was_gained_and_what_was_forgotten(own, trained):
    run = measured(own, trained, everything(AXES))
    assert run.accuracy > run.accuracy_before + 0.2
    assert set(run.metrics) == set(run.source) == {"accuracy", "macro_f1", "macro_auroc"}
    assert run.metrics["accuracy"].after == pytest.approx(run.accuracy)
    assert run.metrics["accuracy"].per_episode_after == run.per_episode_accuracy
    source = run.source["accuracy"]
    assert source.before == pytest.approx(trained.after.accuracy)
    assert source.after < source.before
    assert source.standard_error is not None
    assert run.design.setup.optimizer == "sgd-momentum"
    assert (run.design.setup.micro_batch, run.design.setup.accumulation_steps) == (8, 1)


def test_training_nothing_forgets_nothing(own, trained):
    run = measured(own, trained, nothing(AXES))
    assert run.accuracy == run.accuracy_before
    assert run.source["macro_f1"].after == run.source["macro_f1"].before
    assert (run.learning_rate, run.tuning.rates) == (0, ())


def test_micro_batches_measure_the_same_and_are_in_the_record(own, trained):
    setup = TrainingSetup.of_batch(8, 1, optimizer="adam", update_timing="deferred")
    other = TrainingSetup.of_batch(8, 8, optimizer="adam", update_timing="deferred")
    parts, whole = (
        measured(own, trained, everything(AXES), setup=each, episodes=2) for each in (setup, other)
    )
    assert parts.learning_rate == pytest.approx(whole.learning_rate, rel=1e-4)
    assert parts.accuracy == pytest.approx(whole.accuracy, abs=0.05)
    assert parts.design.setup.accumulation_steps == 8
    assert parts.key != whole.key


def test_a_ledger_keeps_both_kinds_of_run(own, trained, tmp_path):
    run = measured(own, trained, policy("head"))
    ledger = Ledger(tmp_path / "runs.jsonl")
    ledger.append(run)
    (again,) = ledger.read()
    assert again == run
    (row,) = ledger.read().to_frame().to_dict("records")
    assert row["source_accuracy"] == run.source["accuracy"].after
    assert row["macro_f1"] == run.metrics["macro_f1"].after
    assert isinstance(again.protocol, LessonProtocol)
    plain = run.model_copy(update={"protocol": Protocol(), "metrics": {}, "source": {}})
    ledger.append(plain)
    assert isinstance(ledger.read().runs[1].protocol, Protocol)
    assert "queries a class" in plain.protocol.words
    assert "12 steps" in run.protocol.words


def test_views_keep_what_a_rhythm_is():
    time = np.arange(60) / 60
    signals = np.tile(np.sin(2 * np.pi * 5 * time), (200, 12, 1, 1)).astype(np.float32)
    views = altered(signals, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(views, axis=-1))
    is_dropped = spectrum[..., 5] < 5
    assert (spectrum.argmax(axis=-1)[~is_dropped] == 5).all()
    assert is_dropped.mean() == pytest.approx(0.15, abs=0.03)
    kept = spectrum[..., 5][~is_dropped] / 30
    assert (kept.mean(), kept.std()) == pytest.approx((1, 0.2), abs=0.02)
    phases = np.angle(np.fft.rfft(views, axis=-1)[..., 5])
    assert np.ptp(phases[:, 0]) > 3
    assert np.ptp(np.cos(phases[0][~is_dropped[0]])) < 0.3  # one moment for all channels


def test_views_are_more_to_train_on(task):
    asked = {"steps": 6, "learning_rate": 1e-2}
    plain = train_source(seeded_module(GRAPH, 0), task, **asked)
    first, second = (
        train_source(seeded_module(GRAPH, 0), task, views=2, **asked) for _ in range(2)
    )
    assert first.after == second.after
    assert first.after.nll != plain.after.nll
    assert first.trained_count == plain.trained_count


def test_with_a_rate_of_the_protocol_none_is_tuned(own, trained):
    rules = LessonProtocol(steps=12, learning_rate=2e-3)
    told = []
    run = measured(
        own,
        trained,
        policy("head"),
        episodes=2,
        protocol=rules,
        on_episode=lambda done, total: told.append((done, total)),
    )
    assert run.learning_rate == 2e-3
    assert run.tuning.episodes == 0
    assert told[-1] == (2, 2)
    assert run.nll != run.nll_before
    idle = measured(own, trained, nothing(AXES), episodes=1, protocol=rules)
    assert idle.learning_rate == 0


def test_no_source_domain_no_forgetting(trained, tmp_path):
    run = measured(written(tmp_path, target=None), trained, policy("head"), episodes=1)
    assert run.source == {}
    assert "accuracy" in run.metrics


def test_a_curve_starts_before_and_ends_after(own, trained):
    curve = ft.accuracy_curve(
        GRAPH,
        own,
        everything(AXES),
        steps=(0, 12),
        episodes=2,
        tuning_episodes=1,
        protocol=RULES,
        module=trained.module,
    )
    for row, before, after in zip(
        curve.per_episode_accuracy,
        curve.run.per_episode_accuracy_before,
        curve.run.per_episode_accuracy,
        strict=True,
    ):
        assert row == (before, after)


def test_what_does_not_fit_is_refused(own, trained, task):
    with pytest.raises(SpecError, match="protocol"):
        measured(own, trained, policy("head"), protocol=Protocol())
    with pytest.raises(SpecError, match="norm"):
        measured(own, trained, policy("head"), setup=TrainingSetup(norm="bn"))
    with pytest.raises(SpecError, match="ways"):
        ft.task_protocol(task, ways=3)
    narrow = network(outputs=2)
    one = Net(CHANNELS, 1, SAMPLES)
    one.pool(one.conv(INPUT, "only", 4))
    embedding = one.graph("embedding")
    rest = {"episodes": 1, "tuning_episodes": 1}
    ft.measure(narrow, own, nothing(LayerAxes.of(narrow)), module=seeded_module(narrow, 0), **rest)
    module, frozen = seeded_module(embedding, 0), nothing(LayerAxes.of(embedding))
    with pytest.raises(SpecError, match="at least 2 classes"):
        ft.measure(embedding, own, frozen, module=module, **rest)
    with pytest.raises(SpecError, match="channels and samples"):
        task_for(own, (3, 1, SAMPLES))


def test_scores_of_a_lesson_are_its_gradients(own, task, trained):
    lesson = sample_lesson(task, RULES, LESSON_SETUP, seed=0, index=0, stream=SCORE_STREAM)
    table = score_table(trained.module, GRAPH, [lesson])
    student = seeded_module(GRAPH, 0)
    student.load_state_dict(trained.module.state_dict())
    logits = student(lesson.signals)[:, :2]
    functional.cross_entropy(logits, lesson.labels, weight=lesson.class_weights).backward()
    for name, column in zip(GRAPH.weighted, table.layer_gradient(), strict=True):
        gradient = student.get_parameter(f"{name}.weight").grad
        assert column == pytest.approx(float(gradient.abs().sum()), rel=1e-4)
    kept = task_scores(GRAPH, own, episodes=2, module=trained.module)
    assert kept.meta["classes"] == 2
    assert (kept.layer_fisher() > 0).all()


# --- a user's own signals


def test_an_npz_is_a_task_by_its_path(own, task):
    given = arrays()
    assert np.array_equal(task.signals[:, :, 0], given["signals"].astype(np.float32))
    assert task.class_names == ("0", "1")
    assert task.signals.shape[1:] == GRAPH.input_shape
    assert load_task(own).digest == task.digest
    check_task(own)


def test_a_csv_folder_is_the_same_task(tmp_path):
    given = arrays(48)
    words = np.array(["slow", "fast"])[given["labels"]]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "group", "target", "fs_hz"])
        for row, signal in enumerate(given["signals"]):
            table.writerow([f"{row}.csv", words[row], given["group"][row], int(row >= 24), 100])
            head = "left,right" if row % 2 else ""
            np.savetxt(tmp_path / f"{row}.csv", signal.T, delimiter=",", header=head, comments="")
    task = load_task(str(tmp_path))
    assert isinstance(task, SignalTask)
    assert (task.fs_hz, task.class_names) == (100, ("fast", "slow"))
    assert np.allclose(task.signals, given["signals"], atol=1e-6)
    assert np.array_equal(task.labels, 1 - given["labels"])
    assert np.array_equal(task.is_target, np.arange(48) >= 24)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": None}, ("labels", "signals")),
        ({"colour": np.arange(96)}, ("colour", "where wanted")),
        ({"signals": np.zeros((96, SAMPLES))}, ("signals", "(96, 40)", "channels, samples")),
        ({"signals": np.array(["a"] * 96)[:, None, None]}, ("signals", "numbers")),
        ({"labels": np.arange(95)}, ("labels", "(95,)", "(96,)")),
        ({"labels": np.zeros(96, dtype=int)}, ("classes", "at least two")),
        ({"group": np.zeros(96, dtype=int)}, ("groups", "at least 4")),
        ({"group": np.arange(96) % 8}, ("groups", "one domain only")),
        ({"target": np.full(96, 2)}, ("target", "0 and 1")),
        ({"fs_hz": np.float32(-1)}, ("fs_hz", "-1.0")),
        ({"signals": np.full((96, 2, SAMPLES), np.nan)}, ("signals", "nan")),
    ],
)
def test_a_wrong_npz_is_said_in_a_sentence(tmp_path, changes, words):
    with pytest.raises(SpecError) as problem:
        load_task(written(tmp_path, **changes))
    assert all(word in str(problem.value) for word in words)
    assert "\n" not in str(problem.value)


def test_pickles_and_other_files_are_refused(tmp_path):
    path = tmp_path / "bad.npz"
    np.savez(path, signals=np.array([{}, {}], dtype=object), labels=np.arange(2))
    with pytest.raises(SpecError, match="plain arrays"):
        load_task(str(path))
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(SpecError, match="plain arrays"):
        load_task(str(tmp_path / "text.npz"))
    with pytest.raises(MissingDataError, match="no such file"):
        check_task(str(tmp_path / "absent.npz"))
    with pytest.raises(UnknownNameError):
        check_task("absent")


@pytest.mark.parametrize(
    ("table", "file", "words"),
    [
        ("file\na.csv\n", "1,2\n", ("columns", "label")),
        ("file,label\n", "1,2\n", ("rows", "0")),
        ("file,label\na.csv,x\nb.csv,y\n", "1,2\n", ("b.csv", "cannot be read")),
        ("file,label\na.csv,x\n", "1,2\n1,left\n", ("a.csv", "left", "numbers")),
        ("file,label\na.csv,x\n", "1,2\n1\n", ("a.csv", "numbers")),
        ("file,label\na.csv,x\n", "", ("a.csv",)),
        ("file,label,target\na.csv,x,maybe\n", "1,2\n", ("line 2", "target", "maybe")),
        ("file,label,fs_hz\na.csv,x,fast\n", "1,2\n", ("fs_hz", "fast")),
    ],
)
def test_a_wrong_folder_is_said_in_a_sentence(tmp_path, table, file, words):
    (tmp_path / "labels.csv").write_text(table)
    (tmp_path / "a.csv").write_text(file)
    with pytest.raises((SpecError, MissingDataError)) as problem:
        load_task(str(tmp_path))
    assert all(word in str(problem.value) for word in words)


# --- the terminal


def test_pretrain_and_measure_in_the_terminal(tmp_path, capsys, monkeypatch, trained, own):
    """A network of the catalogue's is stood in for by a small one of the same kind."""
    monkeypatch.setattr("explorer.question.model_graph", lambda _: GRAPH)
    monkeypatch.setattr("explorer.question.score_table", lambda *_: None)
    out = tmp_path / "source.safetensors"
    rest = ("--scratch", "--episodes", "30", "--lr", "0.01", "--json")
    assert run(["pretrain", "tiny", own, "--out", str(out), *rest]) == 0
    rows = json.loads(capsys.readouterr().out)["source_held_out"]
    assert rows[1]["accuracy"] > rows[0]["accuracy"]
    asked = ("--policy", "last-layer", "--episodes", "2", "--weights", str(out))
    ledger = tmp_path / "own.jsonl"
    setup = ("--batch", "4", "--micro-batch", "2", "--optimizer", "adam")
    command = ["measure", "tiny", own, *asked, *setup, "--ledger", str(ledger), "--json"]
    assert run(command) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["design"]["setup"]["optimizer"] == "adam"
    assert row["design"]["setup"]["accumulation_steps"] == 2
    assert row["source"]["macro_f1"]["before"] == rows[1]["macro_f1"]
    assert MeasuredRun.model_validate_json(ledger.read_text()).task == own
    assert run(["measure", "tiny", own, *asked, "--steps", "5", "--tuning", "1"]) == 0
    shown = capsys.readouterr().out
    assert "5 steps" in shown
    assert "source accuracy, before and after" in shown
    assert run(["measure", "tiny", own, *asked, "--shots", "3"]) == 2
    assert "shots" in capsys.readouterr().err


def test_batch_and_optimizer_are_for_signals(capsys):
    assert run(["measure", "digits-cnn", "digits", "--batch", "4"]) == 2
    assert "batch" in capsys.readouterr().err


# --- the data sets


def test_resampling_and_filters_keep_what_they_should():
    time = np.arange(800) / 160
    wave = np.sin(2 * np.pi * 10 * time)
    up = resampled(wave[None], 25, 8)[0]
    expected = np.sin(2 * np.pi * 10 * np.arange(2500) / 500)
    assert len(up) == 2500
    assert np.abs(up - expected)[200:-200].max() < 0.01
    passed = band_passed(wave + 1000, 4, 40, 160)
    assert passed[:5] == pytest.approx(0, abs=1)  # no transient of the offset
    assert passed[400:].std() == pytest.approx(wave.std(), rel=0.05)
    drift = band_passed(np.sin(2 * np.pi * 0.5 * time), 4, 40, 160)
    assert drift[400:].std() < 0.01


def test_a_recording_is_cut_or_goes_on_at_rest():
    rng = np.random.default_rng(0)
    gain, offset = rng.uniform(0.1, 3, (12, 1)), rng.normal(size=(12, 1))
    wave = rng.normal(size=(12, 10000))
    long, short = recording(gain * wave + offset), recording(wave[:, :100])
    assert long.shape == short.shape == (12, 4096)
    assert long.mean(axis=1) == pytest.approx(0, abs=1e-5)
    assert long.std(axis=1) == pytest.approx(1, abs=1e-5)
    assert np.allclose(recording(wave), long, atol=0.01)
    assert short[:, :80].std() == pytest.approx(1, abs=0.01)
    coarse = recording(np.tile(np.sin(2 * np.pi * 2 * np.arange(5000) / 500), (12, 1)), 1024)
    assert np.abs(np.fft.rfft(coarse[0, :1000])).argmax() == 20  # 2 Hz in 10 s
    assert not coarse[:, 1000:].any()
    assert not short[:, 80:].any()
    wave[3, 5000] = 1e6
    assert recording(wave).max() == 8
    assert not recording(np.zeros((12, 5000))).any()


def test_one_rhythm_or_none():
    assert single_rhythm(["426177001", "59118001"]) == 1
    assert single_rhythm(["164889003", "164890007"]) == 3
    assert single_rhythm(["426783006", "427084000"]) is None
    assert single_rhythm(["59118001"]) is None


def test_saccades_are_classes_by_sign_and_size_when_alone():
    deg = np.full(1000, np.nan)
    deg[[100, 300, 500, 520, 700]] = [-10, 25, 30, -8, 3]
    centres, labels = events(deg)
    found = dict(zip(centres.tolist(), labels.tolist(), strict=True))
    assert found == {100: 0, 300: 3, 200: 4, 400: 4, 610: 4}
    assert 2 * HALF_WINDOW < 200


@pytest.mark.parametrize("name", SIGNALS)
def test_absent_signals_are_said_in_a_sentence(name, tmp_path, monkeypatch):
    monkeypatch.delenv(paths.DATA_VARIABLE, raising=False)
    with pytest.raises(MissingDataError, match=f"task {name} needs"):
        catalog.load("task", name).load()
    monkeypatch.setenv(paths.DATA_VARIABLE, str(tmp_path))
    with pytest.raises(MissingDataError, match=paths.DATA_VARIABLE):
        catalog.load("task", name).load()


SHAPES = {"ecg-rhythm": (12, 4096), "eeg-motor": (8, 1900), "eog-saccades": (2, 1000)}


@pytest.mark.parametrize("name", SIGNALS)
def test_data_sets_have_their_shape_and_all_classes_on_every_side(name):
    if paths.DATA_VARIABLE not in os.environ:
        pytest.skip(f"{paths.DATA_VARIABLE} is not set")
    task = catalog.load("task", name).load()
    assert task.name == name
    assert task.signals.shape[1:] == SHAPES[name]
    assert task.reshaped((1, *SHAPES[name])).signals.shape[1:] == (1, *SHAPES[name])
    classes = set(range(len(task.class_names)))
    parts = [task.source_split(), *(task.target_split(0, repeat) for repeat in range(FOLDS))]
    for part in parts:
        for index in part:
            assert set(task.labels[index]) == classes
    assert 0.01 < task.signals.std() < 10
