"""An exported network on another engine: ONNX Runtime computes it, and trains it for one step."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from explorer import Session, apply_policy
from explorer.accuracy.torch_bridge import adapted_module, build_module, model_module
from explorer.exporting.onnx_graph import METADATA, onnx_graph

pytestmark = pytest.mark.train
RATE = 0.05


@pytest.mark.parametrize("spec", ["last-k:k=4", "tinytl", "free:feature_mix=0.25"])
def test_onnx_runtime_computes_as_torch(spec):
    runtime = pytest.importorskip(
        "onnxruntime", reason="no onnxruntime package here; `make engine` brings one"
    )
    pytest.importorskip("onnx", reason="no onnx package here")
    session = Session(model="digits-cnn", policy=spec, batch=3)
    document = session.export()
    engine = runtime.InferenceSession(
        onnx_graph(document, model_module(session.graph)), providers=["CPUExecutionProvider"]
    )
    module = adapted_module(model_module(session.graph), document.adapters)
    images = torch.rand(3, 1, 8, 8)
    (found,) = engine.run(None, {"input": images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, module(images).numpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("spec", ["last-k:k=3", "bias-only:last=4", "full"])
def test_a_step_of_onnx_runtime_changes_what_a_step_of_torch_does(spec, tmp_path):
    pytest.importorskip(
        "onnxruntime.training",
        reason="no onnxruntime-training package here; `make engine` brings it",
        exc_type=ImportError,
    )
    import onnx
    from onnxruntime.training import artifacts
    from onnxruntime.training.api import CheckpointState, Module, Optimizer

    session = Session(model="digits-cnn", policy=spec, batch=4, norm="none")
    document = session.export()
    torch.manual_seed(0)
    module = build_module(session.graph)
    model = onnx.load_from_string(onnx_graph(document, module))
    about = json.loads({one.key: one.value for one in model.metadata_props}[METADATA])
    names = [tensor.name for tensor in model.graph.initializer]
    trained = [name for name in names if name in about["trained"]]
    assert set(trained) == set(about["trained"])
    artifacts.generate_artifacts(
        model,
        requires_grad=trained,
        frozen_params=[name for name in names if name not in trained],
        loss=artifacts.LossType.CrossEntropyLoss,
        optimizer=artifacts.OptimType.SGD,
        artifact_directory=str(tmp_path),
    )
    for file in tmp_path.glob("*_model.onnx"):  # written by an onnx newer than this runtime reads
        made = onnx.load(file)
        made.ir_version = min(made.ir_version, model.ir_version)
        onnx.save(made, file)
    images, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 5, 9, 63])
    state = CheckpointState.load_checkpoint(str(tmp_path / "checkpoint"))
    engine = Module(str(tmp_path / "training_model.onnx"), state)
    steps = Optimizer(str(tmp_path / "optimizer_model.onnx"), engine)
    engine.train()
    steps.set_learning_rate(RATE)
    loss_there = engine(images.numpy(), labels.numpy())
    steps.step()

    before = {name: value.clone() for name, value in module.state_dict().items()}
    optimizer = torch.optim.SGD(apply_policy(module, document), lr=RATE)
    loss = functional.cross_entropy(module(images), labels)
    loss.backward()
    optimizer.step()
    assert float(loss_there) == pytest.approx(float(loss.detach()), rel=1e-4)
    after = module.state_dict()
    for name in trained:
        there = state.parameters[name].data
        assert not np.array_equal(after[name].numpy(), before[name].numpy()), name
        np.testing.assert_allclose(there, after[name].numpy(), rtol=1e-3, atol=1e-5, err_msg=name)
