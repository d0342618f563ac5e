"""Steps that look ahead and steps of full training, in the course of a measurement."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.func import functional_call
from torch.nn import functional

from explorer import catalog
from explorer.accuracy.course import Course, task_protocol
from explorer.accuracy.finetune import measure
from explorer.accuracy.lessons import LESSON_SETUP
from explorer.accuracy.pretrain import seeded_module
from explorer.accuracy.protocols import LessonProtocol
from explorer.accuracy.records import Ledger
from explorer.accuracy.tasks import SignalTask
from explorer.accuracy.trainer import train_copy
from explorer.design import LayerAxes, UpdatePolicy, everything
from explorer.errors import SpecError
from explorer.graph import ModelGraph
from explorer.phases import Distillation

pytestmark = pytest.mark.train

CLASSES, SAMPLES, RATE = 3, 24, 0.05
SEGMENTS = ("encoder", "middle", "decoder")


def state_space(dropped: float = 0.0) -> ModelGraph:
    graph = catalog.load("model", "tdssm").build(d_model="8", length=str(SAMPLES), labels="4")
    layers = [
        replace(layer, args=(dropped,)) if layer.op == "dropout2d" else layer
        for layer in graph.layers
    ]
    return replace(graph, layers=tuple(layers))


GRAPH = state_space()
NOISY = state_space(0.3)
AXES = LayerAxes.of(GRAPH)


def policy(*names: str, distillation: Distillation | None = None) -> UpdatePolicy:
    inside = np.array([GRAPH[name].block in names for name in AXES.names])
    return UpdatePolicy.of(
        "test",
        AXES,
        slices=np.where(inside, AXES.out_channels, 0),
        update_bias=inside,
        distillation=distillation,
    )


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    count = 48
    return {
        "signals": rng.normal(size=(count, 12, SAMPLES)).astype(np.float32),
        "labels": np.arange(count) % CLASSES,
        "group": np.arange(count) // 3,
        "target": np.arange(count) >= count // 2,
    }


@pytest.fixture(scope="module")
def task(arrays) -> SignalTask:
    given = {name: arrays[name] for name in ("signals", "labels")}
    whole = SignalTask(
        name="noise",
        class_names=("a", "b", "c"),
        groups=arrays["group"],
        is_target=arrays["target"],
        fs_hz=0.0,
        **given,
    )
    return whole.reshaped(GRAPH.input_shape)


def lesson_of(task: SignalTask, graph: ModelGraph = GRAPH, setup=LESSON_SETUP, **rules):
    course = Course(
        module=seeded_module(graph, 1),
        task=task,
        rules=LessonProtocol(**{"steps": 3} | rules),
        setup=setup,
        seed=0,
    )
    return course, course.draw(0)


def trained(task: SignalTask, chosen: UpdatePolicy, graph=GRAPH, setup=LESSON_SETUP, **rules):
    """The module after each step, from the first, and the losses."""
    course, lesson = lesson_of(task, graph, setup, **rules)
    states = []
    _, losses = train_copy(
        course.module,
        graph,
        chosen,
        lesson,
        learning_rate=RATE,
        steps=course.rules.steps,
        optimizer=setup.optimizer,
        schedule=course.schedule,
        phases=course.phases,
        after_step=lambda _, student: states.append(
            {name: value.clone() for name, value in student.state_dict().items()}
        ),
    )
    return [course.module.state_dict(), *states], losses


def moved(before, after) -> set[str]:
    owner = {layer.name: layer.block for layer in GRAPH.layers}
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    return {owner[name.rpartition(".")[0]] for name in changed}


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("segments", [("middle",), ("encoder", "decoder")], ids="+".join)
def test_a_step_is_that_of_the_algorithm(task, segments, reuse):
    alpha = 0.6
    chosen = policy(
        *segments, distillation=Distillation(soft_label_ratio=alpha, reuse_forward=reuse)
    )
    states, losses = trained(task, chosen, schedule="constant")
    course, lesson = lesson_of(task)
    owner = {layer.name: layer.block for layer in GRAPH.layers}
    own, frozen = {}, {}
    for name, value in course.module.named_parameters():
        kept = own if owner[name.rpartition(".")[0]] in segments else frozen
        kept[name] = value.detach().clone().requires_grad_()
    batch = lesson.batches[0]
    labels = lesson.labels[batch]

    def logits(parameters):
        return functional_call(course.module, parameters, (lesson.signals[batch],))[:, :CLASSES]

    def loss_of(answer):  # a mean in which classes weigh alike
        return functional.cross_entropy(answer, labels, weight=lesson.class_weights)

    hard = loss_of(logits(own | frozen))
    steps = torch.autograd.grad(hard, list(frozen.values()), retain_graph=True)
    ahead = {
        name: value.detach() - RATE * step
        for (name, value), step in zip(frozen.items(), steps, strict=True)
    }
    with torch.no_grad():
        soft = logits(own | ahead).softmax(1)
    entropy = -(soft * logits(own | frozen).log_softmax(1)).sum(1).mean()
    loss = (1 - alpha) * hard + alpha * entropy
    assert losses[0] == pytest.approx(float(loss.detach()), rel=1e-5)
    gradients = torch.autograd.grad(loss, list(own.values()))
    for (name, value), gradient in zip(own.items(), gradients, strict=True):
        expected = value.detach() - RATE * gradient
        torch.testing.assert_close(states[1][name], expected, rtol=1e-4, atol=1e-6)
    assert moved(states[0], states[-1]) == set(segments)


@pytest.mark.parametrize("reuse", [False, True])
def test_no_share_of_soft_labels_is_plain_training(task, reuse):
    distillation = Distillation(soft_label_ratio=0.0, reuse_forward=reuse)
    plain, losses = trained(task, policy("middle"), NOISY)
    looked, same = trained(task, policy("middle", distillation=distillation), NOISY)
    for name, value in plain[-1].items():
        torch.testing.assert_close(looked[-1][name], value, rtol=1e-4, atol=1e-5)
    assert same == pytest.approx(losses, rel=1e-4)


def test_micro_batches_change_nothing(task):
    chosen = policy("middle", distillation=Distillation())
    setups = [replace(LESSON_SETUP, micro_batch=n, accumulation_steps=8 // n) for n in (8, 2)]
    whole, parts = (trained(task, chosen, setup=setup)[0][-1] for setup in setups)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("position", "own_steps"), [("begin", {1, 2}), ("rear", {5, 6}), ("sandwich", {1, 6})]
)
@pytest.mark.parametrize("distillation", [None, Distillation()])
def test_each_phase_trains_what_it_says(task, position, own_steps, distillation):
    chosen = policy("middle", distillation=distillation)
    states, losses = trained(task, chosen, steps=6, full_steps=4, position=position)
    assert len(losses) == 6
    for step in range(1, 7):
        expected = {"middle"} if step in own_steps else set(SEGMENTS)
        assert moved(states[step - 1], states[step]) == expected


def test_phases_of_everything_are_full_training(task):
    whole = everything(AXES)
    split, losses = trained(task, whole, NOISY, steps=6, full_steps=3, position="sandwich")
    plain, same = trained(task, whole, NOISY, steps=6)
    assert losses == same
    assert all(torch.equal(split[-1][name], plain[-1][name]) for name in plain[-1])


def test_a_run_with_dropout_comes_out_the_same_again(task):
    runs = [trained(task, policy("middle", distillation=Distillation()), NOISY) for _ in range(2)]
    assert runs[0][1] == runs[1][1]
    assert runs[0][1] != trained(task, policy("middle", distillation=Distillation()))[1]


def test_a_row_holds_phases_and_the_share_of_soft_labels(arrays, tmp_path):
    np.savez(tmp_path / "own.npz", **arrays)
    task_name = str(tmp_path / "own.npz")
    chosen = policy("middle", distillation=Distillation(soft_label_ratio=0.3))
    run = measure(
        GRAPH,
        task_name,
        chosen,
        episodes=2,
        tuning_episodes=1,
        protocol=LessonProtocol(steps=3, full_steps=2, position="begin"),
        module=seeded_module(GRAPH, 1),
    )
    ledger = Ledger(tmp_path / "runs.jsonl")
    ledger.append(run)
    (kept,) = ledger.read()
    assert kept.design.distillation.soft_label_ratio == 0.3
    assert kept.design.policy(GRAPH).distillation == chosen.distillation
    assert [phase.epoch_count for phase in kept.protocol.phases] == [1, 2]
    assert set(kept.source) == {"accuracy", "macro_f1", "macro_auroc"}
    assert kept.nll != kept.nll_before
    assert kept.learning_rate > 0


def test_the_decoder_alone_is_measured_with_and_without_a_source(arrays, tmp_path):
    new = {name: value for name, value in arrays.items() if name != "target"}
    for name, given in (("own", arrays), ("new", new)):
        np.savez(tmp_path / f"{name}.npz", **given)
        run = measure(
            GRAPH,
            str(tmp_path / f"{name}.npz"),
            policy("decoder"),
            episodes=1,
            tuning_episodes=1,
            protocol=LessonProtocol(steps=2),
            module=seeded_module(GRAPH, 1),
        )
        assert bool(run.source) == (name == "own")


def test_images_have_no_phases(task):
    assert task_protocol(task, steps=6, full_steps=2).full_steps == 2
    with pytest.raises(SpecError, match="ways, shots"):
        task_protocol(task, ways=2)
