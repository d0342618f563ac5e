"""Training in phases and the look-ahead: what moves, what stays, what the loss is."""

from dataclasses import replace

import pytest
import torch

from explorer import catalog
from explorer.accuracy.apply import apply_to_copy
from explorer.accuracy.phases import Recipe, label_loss, train_phases
from explorer.accuracy.torch_bridge import build_module
from explorer.design import UpdatePolicy
from explorer.errors import SpecError
from explorer.graph import INPUT, ModelGraph
from explorer.phases import Distillation, Phase, Procedure
from tests.helpers import Net, policy_of

pytestmark = pytest.mark.train

SAMPLES, LABELS = 12, 3
SEGMENTS = ("encoder", "middle", "decoder")


def state_space(dropped: float = 0.0) -> ModelGraph:
    """The state-space network, small, with or without dropout."""
    graph = catalog.load("model", "tdssm").build(d_model="8", length="20", labels=str(LABELS))
    layers = [
        replace(layer, args=(dropped,)) if layer.op == "dropout2d" else layer
        for layer in graph.layers
    ]
    return replace(graph, layers=tuple(layers))


def net() -> ModelGraph:
    """Encoder, middle and decoder of a layer or two each."""
    made = Net(2, 1, 10)
    end = made.conv(INPUT, "encoder", 4)
    end = made.conv(end, "middle", 4, norm="gn", act="relu")
    made.linear(made.pool(end), "decoder", LABELS)
    graph = made.graph()
    layers = [replace(layer, block=layer.name.split("_")[0]) for layer in graph.layers]
    return replace(graph, layers=tuple(layers))


def segments(graph: ModelGraph, *names: str, distillation=None) -> UpdatePolicy:
    share = [float(graph[name].block in names) for name in graph.weighted]
    trained = [bool(value) for value in share]
    policy = policy_of(graph, share, bias=trained, norm=trained)
    return replace(policy, distillation=distillation)


def module_of(graph: ModelGraph):
    torch.manual_seed(1)
    return build_module(graph)


def data(graph: ModelGraph):
    torch.manual_seed(2)
    return torch.randn(SAMPLES, *graph.input_shape), torch.rand(SAMPLES, LABELS).round()


def run(graph, *policies, epochs=2, **recipe):
    procedure = Procedure(
        phases=tuple(Phase(policy=policy.family, epoch_count=epochs) for policy in policies)
    )
    inputs, labels = data(graph)
    rules = Recipe(**{"batch": 5} | recipe)
    return train_phases(module_of(graph), procedure, policies, inputs, labels, recipe=rules)


def moved(graph: ModelGraph, student) -> set[str]:
    """Blocks whose state is not that of the start, to the bit."""
    before, after = module_of(graph).state_dict(), student.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    owner = {layer.name: layer.block for layer in graph.layers}
    return {owner[name.rpartition(".")[0]] for name in changed}


GRAPHS = {"conv": net(), "state-space": state_space()}
NOISY = GRAPHS | {"state-space": state_space(0.3)}
graphs = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
noisy_graphs = pytest.mark.parametrize("graph", NOISY.values(), ids=NOISY)
DISTILLED = [Distillation(), Distillation(reuse_forward=True)]


@noisy_graphs
@pytest.mark.parametrize(
    "trained", [("middle",), ("encoder", "decoder"), ("decoder",), SEGMENTS], ids="+".join
)
def test_frozen_segments_stay_to_the_bit(graph, trained):
    student, losses = run(graph, segments(graph, *trained))
    assert moved(graph, student) == set(trained)
    assert len(losses[0]) == 2


@noisy_graphs
@pytest.mark.parametrize("distillation", DISTILLED)
@pytest.mark.parametrize("trained", [("middle",), ("encoder", "decoder")], ids="+".join)
def test_looking_ahead_moves_nothing_that_is_frozen(graph, distillation, trained):
    student, _ = run(graph, segments(graph, *trained, distillation=distillation))
    assert moved(graph, student) == set(trained)


@noisy_graphs
@pytest.mark.parametrize("reuse", [False, True])
def test_no_share_of_soft_labels_is_plain_training(graph, reuse):
    distillation = Distillation(soft_label_ratio=0.0, reuse_forward=reuse)
    plain, losses = run(graph, segments(graph, "middle"))
    looked, same = run(graph, segments(graph, "middle", distillation=distillation))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(looked.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert same[0] == pytest.approx(losses[0], rel=1e-5)


@graphs
def test_soft_labels_change_what_is_learnt(graph):
    plain, _ = run(graph, segments(graph, "middle"))
    for distillation in DISTILLED:
        looked, _ = run(graph, segments(graph, "middle", distillation=distillation))
        assert moved_between(plain, looked)


def moved_between(one, other) -> bool:
    theirs = other.state_dict()
    return any(not torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


def hard(logits, labels):
    """Cross-entropy with true labels six times as heavy, written out."""
    chance = logits.sigmoid()
    return -(6 * labels * chance.log() + (1 - labels) * (1 - chance).log()).mean()


def adamw_step(module, policy, loss_of, rate) -> float:
    parameters = apply_to_copy(module, module.graph, policy, None)
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    loss = loss_of(module)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


@graphs
@pytest.mark.parametrize("reuse", [False, True])
def test_a_distilled_step_is_algorithm_2(graph, reuse):
    alpha, rate = 0.6, 0.01
    distillation = Distillation(soft_label_ratio=alpha, reuse_forward=reuse)
    policy = segments(graph, "middle", distillation=distillation)
    inputs, labels = data(graph)
    student, losses = run(
        graph,
        policy,
        epochs=1,
        batch=SAMPLES,
        learning_rate=rate,
        slow_rate_ratio=1.0,
        weight_decay_ratio=0.0,
    )

    ahead, real = module_of(graph), module_of(graph)
    others = segments(graph, "encoder", "decoder")
    adamw_step(ahead, others, lambda module: hard(module(inputs), labels), rate)
    soft = ahead(inputs).sigmoid().detach()

    def loss_of(module):
        logits = module(inputs)
        entropy = -(soft * logits.sigmoid().log() + (1 - soft) * (-logits).sigmoid().log())
        return (1 - alpha) * hard(logits, labels) + alpha * entropy.mean()

    loss = adamw_step(real, segments(graph, "middle"), loss_of, rate)
    assert losses[0][0] == pytest.approx(loss, rel=1e-5)
    for name, value in real.state_dict().items():
        torch.testing.assert_close(student.state_dict()[name], value, rtol=1e-4, atol=1e-5)


@graphs
@pytest.mark.parametrize("distillation", [None, Distillation()])
def test_micro_batches_add_up_to_the_batch(graph, distillation):
    policy = segments(graph, "middle", distillation=distillation)
    whole, losses = run(graph, policy, batch=6, micro_batch=None)
    parts, same = run(graph, policy, batch=6, micro_batch=4)
    assert same[0] == pytest.approx(losses[0], rel=1e-5)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-3, atol=1e-5)


@noisy_graphs
def test_phases_share_one_optimizer_and_seeds_repeat(graph):
    policies = [segments(graph, "middle"), segments(graph, *SEGMENTS)]
    first, losses = run(graph, *policies)
    again, same = run(graph, *policies)
    assert losses == same
    assert not moved_between(first, again)
    state = torch.get_rng_state()
    run(graph, *policies)
    assert torch.equal(state, torch.get_rng_state())
    other, _ = run(graph, *policies, seed=1)
    assert moved_between(first, other)


def test_labels_that_do_not_count_have_no_part_in_the_loss():
    logits = torch.randn(4, 3, requires_grad=True)
    labels = torch.rand(4, 3).round()
    loss = label_loss(logits, labels, positive_weight=6.0, active=torch.tensor([True, False, True]))
    loss.backward()
    assert not logits.grad[:, 1].any()
    kept = logits.detach()[:, ::2]
    assert float(loss.detach()) == pytest.approx(float(hard(kept, labels[:, ::2])), rel=1e-5)


def test_a_phase_trains_layers_wholly_or_not_at_all():
    graph = net()
    with pytest.raises(SpecError, match="encoder"):
        run(graph, policy_of(graph, 0.5))
    procedure = Procedure(phases=(Phase(policy="full", epoch_count=1),))
    with pytest.raises(SpecError, match="policies"):
        train_phases(module_of(graph), procedure, [], *data(graph))


def test_a_loss_that_is_not_finite_names_the_learning_rate():
    graph = net()
    with pytest.raises(SpecError, match="learning_rate"):
        run(graph, segments(graph, *SEGMENTS), learning_rate=1e30, epochs=3)


def test_poles_and_steps_learn_at_a_rate_of_their_own():
    graph = state_space()
    before = module_of(graph).state_dict()
    student, _ = run(graph, segments(graph, *SEGMENTS), slow_rate_ratio=0.0)
    after = student.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    slow = {f"middle.s4d.{name}" for name in ("log_step", "log_decay", "frequency")}
    assert same == slow | {f"decoder.{cell}.mask" for cell in ("inter", "command", "motor")}
