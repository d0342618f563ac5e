"""The stand-alone example trains exactly what a document says, with nothing of ours imported."""

import ast
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from explorer import Session
from explorer.accuracy.slices import layer_weights

pytestmark = pytest.mark.train
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPT, NETWORK = EXAMPLES / "train_from_json.py", EXAMPLES / "digits_network.py"


def ran(document, tmp_path, network=NETWORK):
    """The finished process and the file it was to write."""
    policy, out = tmp_path / "policy.json", tmp_path / "out.pt"
    policy.write_text(json.dumps(document), "utf-8")
    command = [sys.executable, "-I", str(SCRIPT), str(policy), str(network), str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False), out


def document_of(spec):
    return json.loads(Session(model="digits-cnn", policy=spec).export().to_json())


def trained_entries(network, document):
    """Which entries a document trains, by our own reading of weights: masks by parameter name."""
    masks = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in network.named_parameters()}
    for row in document["layers"]:
        name, channels = row["name"], row["channels"]
        listed = range(row["slices"]) if isinstance(channels, str) else channels
        masks[f"{name}.weight"] = layer_weights(network, name).mask(row["channel_axis"], listed)
        masks[f"{name}_norm.bias"][:] = row["update_bias"]
        masks[f"{name}_norm.weight"][:] = row["update_norm"]
    return masks


def along_inputs(document, channels):
    """The document with listed input channels of its layers."""
    for row in document["layers"]:
        taken = channels[row["name"]]
        count = {"feature_mix": 24, "blocks.2.depthwise": 96}[row["name"]]
        row |= {"channel_axis": "in", "channels": taken, "slices": len(taken)}
        row |= {"slice_count": count, "update_ratio": len(taken) / count}
    return document


FREE = "free:feature_mix=0.25,blocks.2.depthwise=0.5,bias=1"
DOCUMENTS = {
    "last-k": lambda: document_of("last-k:k=4"),
    "free": lambda: document_of(FREE),
    "bias-only": lambda: document_of("bias-only"),
    "inputs": lambda: along_inputs(
        document_of(FREE), {"feature_mix": [1, 5, 23], "blocks.2.depthwise": [0, 95, 17]}
    ),
}


@pytest.mark.parametrize("make", DOCUMENTS.values(), ids=DOCUMENTS)
def test_frozen_entries_keep_their_bits_and_trained_ones_move(make, tmp_path):
    document = make()
    done, out = ran(document, tmp_path)
    assert done.returncode == 0, done.stderr
    network = runpy.run_path(str(NETWORK))["network"]
    after = torch.load(out)
    masks = trained_entries(network, document)
    assert any(mask.any() for mask in masks.values())
    for name, before in network.named_parameters():
        moved = after[name] != before
        assert torch.equal(moved, masks[name]), name


@pytest.mark.parametrize(
    "change", [("layers", 0, "channels", "fisher"), ("adapters", ["blocks.1"])]
)
def test_what_it_cannot_train_is_refused_in_one_sentence(change, tmp_path):
    document = document_of("free:feature_mix=0.25")
    *path, key, value = change
    place = document
    for part in path:
        place = place[part]
    place[key] = value
    done, out = ran(document, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("feature_mix: only listed channels")
    assert len(done.stderr.splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize("name", ["feature_mix", "other"])
def test_a_layer_is_found_by_its_name_and_may_be_of_a_subclass(name, tmp_path):
    document = document_of("free:feature_mix=0.25")
    document["layers"] = [row for row in document["layers"] if row["name"] == "feature_mix"]
    document["layers"][0].update(update_bias=False, update_norm=False)
    count = document["layers"][0]["slice_count"]
    network = tmp_path / "network.py"
    network.write_text(
        "import torch\nclass Own(torch.nn.Conv2d):\n    pass\n"
        "network, batch = torch.nn.Sequential(), torch.ones(2, 3, 4, 4)\n"
        f"network.add_module({name!r}, Own(3, {count}, 1))\n"
    )
    done, out = ran(document, tmp_path, network)
    assert out.exists() == (name == "feature_mix"), done.stderr
    assert out.exists() or done.stderr.startswith("feature_mix: only listed channels")


def test_it_is_short_and_imports_nothing_of_ours():
    text = SCRIPT.read_text("utf-8")
    assert len(text.splitlines()) < 40
    imported = [
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(imported) == ["json", "pathlib", "runpy", "sys", "torch"]
