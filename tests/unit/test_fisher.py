import json

import numpy as np
import pytest
import torch

from explorer import catalog
from explorer.accuracy.episodes import SCORE_STREAM, Episode, pseudo_query_loss, sample_episode
from explorer.accuracy.fisher import activation_of, score_table, task_scores
from explorer.accuracy.protocols import Protocol
from explorer.accuracy.scores import CHANNEL_COLUMNS, ScoreTable
from explorer.accuracy.tasks import load_task
from explorer.accuracy.torch_bridge import build_module, model_module
from explorer.cli import run
from explorer.errors import SpecError
from explorer.graph import INPUT, LayerSpec, ModelGraph
from explorer.provenance import Kind, Source

torch.set_num_threads(1)

SOURCE = Source(kind=Kind.ASSUMED, cite="test")


def one_layer() -> ModelGraph:
    layer = LayerSpec(name="fc", op="linear", out_shape=(2,), has_bias=True)
    return ModelGraph("one-layer", (2,), (layer,), SOURCE)


def plane_episode() -> Episode:
    """Two classes of one point each, one view of each."""
    return Episode(
        support=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        support_labels=torch.tensor([0, 1]),
        views=torch.tensor([[[3.0, 4.0], [0.0, 2.0]]]),
        queries=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        query_labels=torch.tensor([0, 1]),
        ways=2,
    )


def identity(graph: ModelGraph):
    module = build_module(graph)
    with torch.no_grad():
        module.get_submodule("fc").weight.copy_(torch.eye(2))
        module.get_submodule("fc").bias.zero_()
    return module


def test_fisher_of_one_layer_by_hand():
    """Embedding = input = activation, so g is the gradient of the summed loss by the inputs.

    With prototypes e1, e2 and a point x, logits are 10 x/|x|. For the first view
    x = (3, 4): logits 6, 8, label 0, p1 = 1/(1 + e^-2). dL/dz = (-p1, p1), and
    dz/dx = 10 (I/5 - x x^T/125). The second view is its own prototype's direction.
    Through the support: z_k = 10 u.c_k/|c_k|, which only turns c_k off its direction.
    """
    p1 = 1 / (1 + np.exp(-2.0))
    x, slope = np.array([3.0, 4.0]), np.array([-p1, p1])
    view_gradient = 10 * (np.eye(2) / 5 - np.outer(x, x) / 125) @ slope
    products = np.zeros((4, 2))
    products[2] = x * view_gradient
    small = 1 / (1 + np.exp(10.0))
    # Second view u = (0, 1): logits (0, 10), dL/dz = (small, -small); x = (0, 2) only has a
    # gradient along the first axis, where x is 0. Prototypes e1, e2 turn only along the
    # axis where they are 0. So only the first view has a product that is not 0.
    assert small < 1e-4
    expected = (products**2).sum(0) / (2 * 4)
    graph = one_layer()
    table = score_table(identity(graph), graph, [plane_episode()])
    assert table.columns["fisher_out"][0] == pytest.approx(expected, rel=1e-5)


def test_gradient_sums_are_those_of_autograd():
    graph = catalog.load("model", "digits-cnn").build()
    module = build_module(graph)
    episode = sample_episode(load_task("digits"), seed=0, index=0)
    table = score_table(module, graph, [episode])
    embeddings = module(torch.cat((episode.support, episode.views[0])))
    pseudo_query_loss(embeddings, episode.support_labels, episode.ways).backward()
    for index, name in enumerate(graph.weighted):
        layer = module.get_submodule(name)
        gradient, weight = layer.weight.grad.double(), layer.weight.detach().double()
        offset = module.get_submodule(f"{name}_norm").bias.grad
        depthwise = layer.groups > 1
        rows = {
            "grad_l1_out": gradient.abs().sum(dim=(1, 2, 3)),
            "grad_l1_in": gradient.abs().sum(dim=(1, 2, 3) if depthwise else (0, 2, 3)),
            "grad_sq_out": gradient.square().sum(dim=(1, 2, 3)),
            "weight_sq_in": weight.square().sum(dim=(1, 2, 3) if depthwise else (0, 2, 3)),
            "grad_l1_bias": offset.abs(),
        }
        for column, values in rows.items():
            assert table.columns[column][index] == pytest.approx(values.numpy(), rel=1e-3, abs=1e-9)


def test_a_pass_leaves_nothing_behind():
    graph = catalog.load("model", "digits-cnn").build()
    module = build_module(graph).requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    score_table(module, graph, [sample_episode(load_task("digits"), seed=0, index=0)])
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in module.parameters())


def test_scores_are_means_over_episodes():
    graph = catalog.load("model", "digits-cnn").build()
    module = build_module(graph)
    episodes = [sample_episode(load_task("digits"), seed=0, index=index) for index in range(2)]
    first, second = (score_table(module, graph, [episode]) for episode in episodes)
    both = score_table(module, graph, episodes)
    for column in CHANNEL_COLUMNS:
        for a, b, mean in zip(
            first.columns[column], second.columns[column], both.columns[column], strict=True
        ):
            assert mean == pytest.approx((a + b) / 2)
    assert both.meta["episodes"] == 2
    with pytest.raises(SpecError, match="episodes"):
        score_table(module, graph, [])


def test_the_watched_activation_is_after_norm_and_relu():
    graph = catalog.load("model", "digits-cnn").build()
    assert activation_of(graph, "blocks.0.depthwise") == "blocks.0.depthwise_relu6"
    assert activation_of(graph, "blocks.0.pointwise2") == "blocks.0.pointwise2_norm"
    assert activation_of(one_layer(), "fc") == "fc"


def test_a_task_table_survives_a_file(tmp_path):
    graph = catalog.load("model", "digits-cnn").build()
    table = task_scores(graph, "digits", episodes=1, module=build_module(graph))
    table.save(tmp_path / "t.npz")
    again = ScoreTable.load(tmp_path / "t.npz", graph)
    assert again.meta == table.meta
    assert again.layer_fisher() == pytest.approx(table.layer_fisher(), rel=1e-5)


def test_scores_follow_a_protocol(tmp_path, capsys):
    graph = catalog.load("model", "digits-cnn").build()
    module = model_module(graph)
    usual = task_scores(graph, "digits", episodes=2, module=module)
    same = Protocol(ways=5, shots=5, query_count=40)
    again = task_scores(graph, "digits", episodes=2, module=module, protocol=same)
    assert again.layer_fisher() == pytest.approx(usual.layer_fisher())
    assert again.meta == usual.meta
    out = tmp_path / "few.npz"
    call = ["fisher", "digits-cnn", "digits", "--ways", "3", "--shots", "2", "--episodes", "2"]
    assert run(call) == 2
    assert "a file, when weights, ways, shots or a sampler are given" in capsys.readouterr().err
    assert run([*call, "--out", str(out), "--json"]) == 0
    meta = json.loads(capsys.readouterr().out)["meta"]
    assert (meta["ways"], meta["shots"], meta["sampler"]) == (3, 2, "fixed")
    episodes = [
        sample_episode(load_task("digits"), seed=0, index=i, stream=SCORE_STREAM, ways=3, shots=2)
        for i in range(2)
    ]
    expected = score_table(module, graph, episodes).layer_fisher()
    assert ScoreTable.load(out, graph).layer_fisher() == pytest.approx(expected, rel=1e-5)
    assert run([*call, "--sampler", "varying", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["meta"]["sampler"] == "varying"


def test_a_task_of_another_input_is_refused():
    graph = catalog.load("model", "mcunet-5fps").build()
    with pytest.raises(SpecError, match="input of task digits"):
        task_scores(graph, "digits", module=build_module(graph))


def test_bias_column_is_zero_without_bias_and_norm():
    layer = LayerSpec(name="fc", op="linear", out_shape=(2,))
    graph = ModelGraph("bare", (2,), (layer,), SOURCE)
    table = score_table(build_module(graph), graph, [plane_episode()])
    assert table.columns["grad_l1_bias"][0].tolist() == [0.0, 0.0]
    assert INPUT not in table.layer_names
