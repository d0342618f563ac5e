"""`explorer export --format onnx`: the network computes the same, and says what trains."""

import json
import sys

import numpy as np
import pytest
import torch

from explorer import Session, apply_policy
from explorer.accuracy.torch_bridge import adapted_module, build_module, model_module
from explorer.cli import run
from explorer.document import MadeWith, Named, PolicyDocument, SetupRecord, choices_of
from explorer.errors import SpecError
from explorer.exporting.onnx_graph import METADATA, onnx_graph
from tests.helpers import policy_of
from tests.operator_nets import wide_graphs

pytestmark = pytest.mark.train
FREE = "free:feature_mix=0.25,blocks.2.depthwise=0.5,bias=1"


@pytest.mark.parametrize("spec", [FREE, "last-k:k=4", "tinytl", "lora:alpha=8"])
def test_an_onnx_file_computes_as_the_network_and_names_what_trains(spec, tmp_path):
    onnx = pytest.importorskip("onnx", reason="no onnx package here")
    from onnx.reference import ReferenceEvaluator

    session = Session(model="digits-cnn", policy=spec, batch=3)
    document, policy, out = session.export(), tmp_path / "policy.json", tmp_path / "net.onnx"
    policy.write_text(document.to_json())
    assert run(["export", str(policy), "--format", "onnx", "--out", str(out)]) == 0
    model = onnx.load(out)
    onnx.checker.check_model(model, full_check=True)
    module = adapted_module(model_module(session.graph), document.adapters)
    own = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name, parameter in module.named_parameters():
        assert np.array_equal(own[name], parameter.detach().numpy()), name
    images = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        expected = module(images).numpy()
    (found,) = ReferenceEvaluator(model).run(None, {"input": images.numpy()})
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    about = json.loads({one.key: one.value for one in model.metadata_props}[METADATA])
    apply_policy(module, document)
    free = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert set(about["trained"]) == free
    if spec == FREE:
        part = about["trained"]["feature_mix.weight"]
        assert part == {"axis": "out", "groups": 1, "channels": list(range(16))}


@pytest.mark.parametrize("graph", wide_graphs(), ids=lambda graph: graph.name)
def test_every_operator_computes_the_same(graph):
    onnx = pytest.importorskip("onnx", reason="no onnx package here")
    from onnx.reference import ReferenceEvaluator

    torch.manual_seed(0)
    module, shape = build_module(graph), (2, *graph.input_shape)
    has_words = graph.index_count
    batch = torch.randint(11, shape) if has_words else torch.randn(shape)
    document = PolicyDocument(
        model=Named(name=graph.name, digest=graph.digest),
        family="test",
        setup=SetupRecord(micro_batch=2),
        layers=choices_of(policy_of(graph, 0.5, bias=True, norm=True)),
        made_with=MadeWith(version="0", cost_model_version=0),
    )
    model = onnx.load_from_string(onnx_graph(document, module))
    (found,) = ReferenceEvaluator(model).run(None, {"input": batch.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, module(batch).numpy(), rtol=1e-3, atol=1e-5)
    own = {tensor.name for tensor in model.graph.initializer}
    about = json.loads({one.key: one.value for one in model.metadata_props}[METADATA])
    assert set(about["trained"]) <= own


def test_batch_norms_stay_and_another_network_is_refused():
    onnx = pytest.importorskip("onnx", reason="no onnx package here")
    session = Session(model="mcunet-5fps", policy="last-k:k=4", norm="frozen-bn")
    module = build_module(session.graph)
    model = onnx.load_from_string(onnx_graph(session.export(), module))
    norms = [layer for layer in session.graph.layers if layer.op == "frozen_batchnorm"]
    assert sum(node.op_type == "BatchNormalization" for node in model.graph.node) == len(norms)
    own = {tensor.name for tensor in model.graph.initializer}
    assert {name for name, _ in module.named_parameters()} <= own
    with pytest.raises(SpecError, match="the document is for mcunet-5fps"):
        onnx_graph(session.export(), build_module(Session(model="digits-cnn").graph))


def test_without_the_package_one_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    session = Session(model="digits-cnn", policy="last-k:k=4")
    with pytest.raises(SpecError, match="pip install onnx"):
        onnx_graph(session.export(), model_module(session.graph))
