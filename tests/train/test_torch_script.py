"""`explorer export --format torch`: a script that trains as the document says, by itself."""

import ast
import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch

from explorer import Session, apply_policy
from explorer.accuracy.torch_bridge import adapted_module, build_module, save_weights
from explorer.adapters import policy_with_adapters
from explorer.cli import run
from explorer.design import TrainingSetup
from explorer.document import MadeWith, Named, PolicyDocument, SetupRecord, choices_of
from explorer.errors import SpecError, UnsupportedOpError
from explorer.exporting.torch_script import torch_script
from explorer.graph import INPUT, ModelGraph
from explorer.search.sources import model_graph
from tests.helpers import BIOSIGNALS, conv_chain, policy_of, random_policy
from tests.operator_nets import WideNet, token_net, wide_graphs

pytestmark = pytest.mark.train
RATE = 0.1
OURS = ("digits-cnn", "mcunet-5fps", "mbv2-w0.35-tinytrain", *BIOSIGNALS)
GRAPHS = (*wide_graphs(), *(model_graph(name) for name in OURS))
FREE = "free:feature_mix=0.25,blocks.2.depthwise=0.5,bias=1"


def document_of(graph, policy, **setup):
    return PolicyDocument(
        model=Named(name=graph.name, digest=graph.digest),
        family=policy.family,
        setup=SetupRecord.of(TrainingSetup(**setup)),
        layers=choices_of(policy),
        adapters=policy.adapters,
        made_with=MadeWith(version="0", cost_model_version=0),
    )


def written(document, graph, tmp_path):
    """The script as a module that is not the main one."""
    path = tmp_path / "train.py"
    path.write_text(torch_script(document, graph), "utf-8")
    spec = importlib.util.spec_from_file_location("train", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def inputs_of(graph: ModelGraph, count: int):
    torch.manual_seed(1)
    if graph.index_count:
        return torch.randint(11, (count, *graph.input_shape))
    return torch.randn(count, *graph.input_shape)


def twin_of(graph):
    """Our own module with weights and statistics that are nothing special."""
    torch.manual_seed(0)
    module = build_module(graph).to(memory_format=torch.contiguous_format)
    for name, buffer in module.named_buffers():
        if "running" in name or name.endswith(".values"):
            buffer.uniform_(0.5, 1.5)
    return module


@pytest.mark.parametrize("axis", ["out", "in"])
@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)
def test_a_written_network_computes_and_trains_as_ours(graph, axis, tmp_path):
    policy = policy_of(graph, 0.5, bias=True, norm=True, axis=axis)
    document = document_of(graph, policy, micro_batch=2, accumulation_steps=2)
    script = written(document, graph, tmp_path)
    module, network = twin_of(graph), script.Network().eval()
    network.load_state_dict(module.state_dict())
    images, labels = inputs_of(graph, 4), torch.tensor([0, 1, 0, 1])
    with torch.no_grad():
        assert torch.equal(network(images), module(images))
    groups = apply_policy(module, document, graph=graph)
    free = {name for name, p in module.named_parameters() if p.requires_grad}
    parameters = script.trained_parameters(network)
    assert free == {name for name, p in network.named_parameters() if p.requires_grad}
    assert len(parameters) == sum(len(group["params"]) for group in groups)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    loss = script.train_step(network, torch.optim.SGD(parameters, RATE), images, labels)
    assert loss > 0
    module.eval()
    for name in script.BATCH_NORMS:
        module.get_submodule(name).train()
    optimizer = torch.optim.SGD(groups, RATE)
    means = None if script.HAS_CLASSIFIER else script.class_means(module, images, labels)
    for part in (slice(2), slice(2, 4)):
        (script.loss_of(module(images[part]), labels[part], means) / 2).backward()
    optimizer.step()
    for name, value in module.named_parameters():
        theirs = network.get_parameter(name)
        torch.testing.assert_close(theirs, value)
        assert torch.equal(theirs == before[name], value == before[name])


@pytest.mark.parametrize("spec", [FREE, "last-k:k=4", "bias-only", "tinytl", "lora:alpha=8"])
def test_a_script_runs_alone_for_a_step_and_moves_what_the_policy_trains(spec, tmp_path):
    session = Session(model="digits-cnn", policy=spec, batch=8)
    document, script = tmp_path / "policy.json", tmp_path / "train.py"
    weights, data, out = (tmp_path / name for name in ("w.safetensors", "data.npz", "out.npz"))
    document.write_text(session.export().to_json())
    assert run(["export", str(document), "--format", "torch", "--out", str(script)]) == 0
    module = twin_of(session.graph)
    save_weights(module, weights)
    rng = np.random.default_rng(0)
    np.savez(data, images=rng.random((8, 1, 8, 8), np.float32), labels=np.arange(8) % 4)
    command = [sys.executable, "-I", str(script), str(weights), "--data", str(data)]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("step 1: loss ")
    policy = session.chosen_policy
    before = adapted_module(module, policy.adapters).state_dict()
    graph, wide = policy_with_adapters(session.graph, policy)
    with np.load(out) as archive:
        after = {name: torch.from_numpy(archive[name]) for name in archive.files}
    assert after.keys() == before.keys()
    frozen = set(before)
    for index, name in enumerate(wide.layer_names):
        trained = {
            f"{name}.weight": wide.slices[index] > 0,
            f"{graph.norm_of(name)}.bias": wide.update_bias[index],
            f"{graph.norm_of(name)}.weight": wide.update_norm[index],
        }
        frozen -= {key for key, flag in trained.items() if flag}
        count, whole = wide.slices[index], wide.slice_counts[index]
        if 0 < count < whole:
            moved = (after[f"{name}.weight"] != before[f"{name}.weight"]).flatten(1).any(1)
            assert moved[:count].float().mean() > 0.5
            assert not moved[count:].any()
    assert all(torch.equal(after[name], before[name]) for name in frozen)
    moved = {name for name in before if not torch.equal(after[name], before[name])}
    assert moved


def test_a_script_imports_nothing_of_ours():
    session = Session(model="digits-cnn", policy="full")
    tree = ast.parse(torch_script(session.export(), session.graph))
    roots = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert roots == {"argparse", "numpy", "safetensors", "torch"}


def test_indices_are_drawn_where_no_data_is_given(tmp_path):
    graph = token_net()
    document = document_of(graph, random_policy(graph, np.random.default_rng(0)))
    script = written(document, graph, tmp_path)
    ((images, _),) = script.batches(None, 1)
    assert images.dtype == torch.int64
    assert images.max() < 11
    assert script.Network()(images).shape == (1, 3)


def test_names_cannot_end_their_place_in_the_source(tmp_path):
    graph = conv_chain()
    policy = random_policy(graph, np.random.default_rng(0))
    odd = document_of(graph, policy).model_copy(update={"family": '"""\nraise SystemExit(3)\n"""'})
    written(odd, graph, tmp_path)


def test_what_cannot_be_written_is_refused():
    session = Session(model="digits-cnn", policy=FREE)
    document = session.export()
    with pytest.raises(SpecError, match=r"digits-cnn .* not for mcunet-5fps"):
        torch_script(document, Session(model="mcunet-5fps").graph)
    first = document.layers[0].model_copy(update={"channels": "fisher"})
    with pytest.raises(SpecError, match=f"channels of {first.name}: chosen by fisher"):
        torch_script(document.model_copy(update={"layers": (first,)}), session.graph)
    net = WideNet(4)
    net.dense(net.op("fft", "turned", INPUT), "head", 2)
    graph = net.graph("odd")
    with pytest.raises(UnsupportedOpError, match="cannot be written as torch: no code for fft"):
        torch_script(document_of(graph, policy_of(graph, 1.0)), graph)
