"""ONNX files as a second door: what a file says is what tracing the module says."""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

pytest.importorskip("onnx", reason="no onnx package here")

import onnx
from onnx import TensorProto, helper, numpy_helper

import explorer
from explorer import Session
from explorer.accuracy.torch_bridge import build_module, model_module
from explorer.accuracy.tracing import trace
from explorer.cli import run
from explorer.costmodel.evaluate import evaluate
from explorer.costmodel.tables import layer_table
from explorer.errors import SpecError, UnsupportedOpError
from explorer.exporting.onnx_graph import onnx_graph
from tests.helpers import batch_of, device_for, policy_of
from tests.train.small_nets import NETS, Pyramid
from tests.train.test_tracing import Look, Shared, Steps, Turned

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]


class Gates(nn.Module):
    """Batch norms over signals, gates, a pad, slices, and GELU by its error function."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv1d(2, 8, 4, padding=1)
        self.norm = nn.BatchNorm1d(8)
        self.up = nn.ConvTranspose1d(8, 4, 4, stride=2, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, signal):
        values = functional.pad(self.norm(self.stem(signal)), (0, 1))
        left, right = values.chunk(2, dim=1)
        values = torch.cat([functional.silu(left), functional.relu6(right)], dim=1)
        values = functional.leaky_relu(self.up(values), 0.2).transpose(1, 2)[:, 1:]
        return self.head(functional.gelu(values).mean(1))


def written(module, batch, path, **options):
    plain = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    torch.onnx.export(
        module,
        (batch,),
        path,
        dynamo=False,
        input_names=["x"],
        **plain | options,
    )


def assert_same(file, module, batch):
    """Layers by name and shape, MACs, parameters, costs of training, and outputs."""
    one, other = trace(module, batch).graph, trace(file)
    graph = other.graph
    assert graph.weighted == one.weighted
    for name in one.weighted:
        mine, theirs = one[name], graph[name]
        assert (mine.op, mine.out_shape, mine.kernel, mine.strides, mine.has_bias) == (
            *(theirs.op, theirs.out_shape, theirs.kernel),
            *(theirs.strides, theirs.has_bias),
        )
    assert graph.parameter_count == one.parameter_count
    assert layer_table(graph).sample_macs.sum() == layer_table(one).sample_macs.sum()
    policies = [policy_of(one, 1.0, bias=True, norm=True), policy_of(one, bias=True)]
    costs = [evaluate(each, device_for("fp32"), batch_of(each, *policies)) for each in (one, graph)]
    for column in ("input_grad_macs", "weight_grad_macs", "trained_parameter_count"):
        assert np.array_equal(getattr(costs[0], column), getattr(costs[1], column))
    with torch.no_grad():
        torch.testing.assert_close(other.module(batch), module.eval()(batch))


@pytest.mark.parametrize(
    ("make", "shape", "options"),
    [
        (Look, (3, 16, 16), {}),
        (Steps, (3, 17, 29), {}),
        (Gates, (2, 20), {"opset_version": 14}),
        (Gates, (2, 20), {"dynamic_axes": {"x": {0: "samples"}}}),
        (Turned, (5, 8), {"dynamic_axes": {"x": {0: "samples"}}}),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_a_file_says_what_the_module_does(make, shape, options, count, tmp_path):
    if make is Turned and count == 1:
        pytest.skip("the exporter takes one sample for a size that never changes")
    torch.manual_seed(0)
    module, batch = make().eval(), torch.randn(count, *shape)
    written(module, batch, tmp_path / "net.onnx", **options)
    assert_same(str(tmp_path / "net.onnx"), module, batch)


@pytest.mark.parametrize("name", ["mobilenet-v1", "distilbert", "vit"])
def test_networks_of_others(name, tmp_path):
    pytest.importorskip("transformers")
    from tests.train.architectures import built
    from tests.train.test_trace import FirstOutput

    module, batch = built(name)
    module = FirstOutput(module).eval()
    written(module, batch[:1], tmp_path / "net.onnx")
    assert_same(tmp_path / "net.onnx", module, batch)


@pytest.mark.parametrize("model", ["digits-cnn", "mcunet-5fps:resolution=32", "mi-bminet"])
@pytest.mark.parametrize("norm", ["bn", "gn", "none"])
def test_our_own_export_comes_back(model, norm, tmp_path):
    session = Session(model=model, policy="last-layer", norm=norm, batch=2)
    module = build_module(session.graph).to(memory_format=torch.contiguous_format)
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_graph(session.export(), module))
    back = trace(path).graph
    assert back.weighted == session.graph.weighted
    assert back.parameter_count == session.graph.parameter_count
    mine, theirs = layer_table(session.graph), layer_table(back)
    assert np.array_equal(mine.forward_macs, theirs.forward_macs)
    assert np.array_equal(mine.weight_count, theirs.weight_count)


OPERATORS = [
    *("PReLU", "PReLU of channels", "Hardtanh", "Mish", "SELU", "functions", "quotient"),
    *("GroupNorm, plain", "InstanceNorm", "InstanceNorm of signals", "MaxPool of signals"),
    *("MaxPool over the edge", "AvgPool with padding", "AvgPool without it", "AdaptiveMaxPool"),
    *("AvgPool of a small image", "AvgPool of one window"),
    *("nearest, signal", "bilinear", "bilinear corners", "PixelShuffle", "stack and repeat"),
    *("einsum", "residual", "U-Net", "GRU both ways", "LSTM both ways", "GRU, positions first"),
    *("LSTM, last states", "GRU, last state", "same and even", "transposed depthwise"),
]


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_of_a_file_is_that_of_the_module(name, tmp_path):
    make, shape = NETS[name]
    torch.manual_seed(0)
    module, batch = make().eval(), torch.randn(2, *shape)
    recurrent = any(isinstance(one, nn.RNNBase) for one in module.modules())
    written(module, batch[:1], tmp_path / "net.onnx", do_constant_folding=recurrent)
    one, other = trace(module, batch).graph, trace(tmp_path / "net.onnx")
    assert other.graph.parameter_count == one.parameter_count
    assert layer_table(other.graph).sample_macs.sum() == layer_table(one).sample_macs.sum()
    with torch.no_grad():
        torch.testing.assert_close(other.module(batch), module(batch))


def test_a_recurrent_layer_in_another_form_is_refused(tmp_path):
    weights = [("w", np.ones((1, 6, 3))), ("r", np.ones((1, 6, 2)))]
    nodes = [helper.make_node("GRU", ["x", "w", "r"], ["y"], "cells", hidden_size=2)]
    with pytest.raises(SpecError, match="GRU cells with linear_before_reset 0"):
        trace(file_of(tmp_path / "n.onnx", nodes, weights, (5, 1, 3)))


def test_a_shared_table_stays_shared(tmp_path):
    torch.manual_seed(0)
    module, batch = Shared().eval(), torch.randint(9, (2, 4))
    written(module, batch, tmp_path / "net.onnx")
    graph = trace(tmp_path / "net.onnx").graph
    assert graph.parameter_count == sum(one.numel() for one in module.parameters())
    assert layer_table(graph).sample_macs.sum() == 4 * (6 * 9 + 2 * 6 * 6)


def test_a_shared_kernel_stays_shared(tmp_path):
    torch.manual_seed(0)
    module, batch = Pyramid().eval(), torch.randn(2, 3, 16, 12)
    written(module, batch, tmp_path / "net.onnx")
    graph, own = trace(tmp_path / "net.onnx"), trace(module, batch)
    assert graph.graph.parameter_count == own.graph.parameter_count
    assert layer_table(graph.graph).sample_macs.sum() == layer_table(own.graph).sample_macs.sum()
    with torch.no_grad():
        torch.testing.assert_close(graph.module(batch), module(batch))


# files written by hand


def file_of(path, nodes, weights=(), shape=(1, 3), **extra):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights],
        **extra,
    )
    onnx.save(helper.make_model(graph), path)
    return path


def test_a_product_and_a_sum_are_a_linear_layer_and_same_padding_is_computed(tmp_path):
    weights = [
        ("k", np.ones((4, 2, 3, 3))),
        ("w", np.ones((4, 5))),
        ("b", np.zeros(5)),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], "c", auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"], "p"),
        helper.make_node("Flatten", ["p"], ["f"], "f"),
        helper.make_node("MatMul", ["f", "w"], ["m"], "m"),
        helper.make_node("Add", ["m", "b"], ["y"], "a"),
    ]
    graph = trace(file_of(tmp_path / "n.onnx", nodes, weights, (1, 2, 6, 7))).graph
    assert [graph[name].op for name in graph.weighted] == ["conv2d", "linear"]
    assert [graph[name].out_shape for name in graph.weighted] == [(4, 3, 4), (5,)]
    assert graph[graph.weighted[1]].has_bias
    assert layer_table(graph).forward_macs.tolist() == [4 * 2 * 9 * 12, 20]


@pytest.mark.parametrize("shape", [(4,), (1, 4), (2, 1, 4)])
def test_slopes_of_another_axis_than_the_channels_are_refused(shape, tmp_path):
    nodes = [helper.make_node("PRelu", ["x", "s"], ["y"], "p")]
    path = file_of(tmp_path / "n.onnx", nodes, [("s", np.ones(shape))], (1, 4, 4, 4))
    with pytest.raises((SpecError, UnsupportedOpError), match="a slope a channel"):
        trace(path)


def test_every_unknown_operator_is_listed_with_its_nodes(tmp_path):
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["g"], "first"),
        helper.make_node("Shrink", ["g"], ["s"], "one"),
        helper.make_node("Shrink", ["s"], ["t"], "two"),
        helper.make_node("Fancy", ["t"], ["y"], "three", domain="own"),
    ]
    path = file_of(tmp_path / "n.onnx", nodes, [("w", np.ones((3, 3)))])
    with pytest.raises(UnsupportedOpError) as problem:
        trace(path)
    assert "Shrink in one, two" in str(problem.value)
    assert "own.Fancy in three" in str(problem.value)


def gemm(**options):
    return [helper.make_node("Gemm", ["x", "w"], ["y"], "gemm", **options)]


@pytest.mark.parametrize(
    ("nodes", "weights", "shape", "words"),
    [
        (gemm(alpha=2.0), [("w", np.ones((3, 2)))], (1, 3), "gemm with alpha"),
        (gemm(), [], (1, 3), "n.onnx: "),
        (gemm(), [("w", np.ones((3, 2)))], (1, "n"), "give an example"),
        (gemm(), [("w", np.ones((9, 2)))], (1, 3), "n.onnx: "),
        (gemm(), [("w", np.ones((3, 2)))], (1, 10**6, 10**6), "at most"),
        (
            [helper.make_node("Clip", ["g"], ["y"], "c"), *gemm()][::-1],
            [("w", np.ones((3, 2)))],
            (1, 3),
            "n.onnx: ",
        ),
    ],
)
def test_a_file_that_cannot_be_a_network_is_one_sentence(nodes, weights, shape, words, tmp_path):
    path = file_of(tmp_path / "n.onnx", nodes, weights, shape)
    with pytest.raises((SpecError, UnsupportedOpError), match=words) as problem:
        trace(path)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 64, b"not onnx at all", b"\x08\x07\x3a\x02\x0a"]
)
def test_other_bytes_are_refused(content, tmp_path):
    path = tmp_path / "n.onnx"
    path.write_bytes(content)
    with pytest.raises(SpecError, match="cannot be read as ONNX"):
        trace(path)


def test_data_lies_beside_the_file_or_nowhere(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "secret.bin"
    inside.mkdir()
    outside.write_bytes(np.ones(6, np.float32).tobytes())
    path = file_of(inside / "n.onnx", gemm(), [("w", np.ones((3, 2)))])
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    for place in ("../secret.bin", str(outside), "missing.bin"):
        tensor.ClearField("raw_data")
        del tensor.external_data[:]
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=place)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(SpecError, match="beside it"):
            trace(path)
    (inside / "w.bin").write_bytes(np.ones(6, np.float32).tobytes())
    tensor.external_data[0].value = "w.bin"
    path.write_bytes(model.SerializeToString())
    assert trace(path).graph.parameter_count == 6


def test_values_that_do_not_fill_their_sizes_are_refused(tmp_path):
    path = file_of(tmp_path / "n.onnx", gemm(), [("w", np.ones((3, 2)))])
    model = onnx.load(path)
    model.graph.initializer[0].dims[0] = 10**9
    path.write_bytes(model.SerializeToString())
    with pytest.raises(SpecError, match="values of w do not fill"):
        trace(path)


def test_the_command_takes_a_file_and_the_package_is_optional(tmp_path, capsys, monkeypatch):
    session = Session(model="digits-cnn", policy="last-layer")
    path, out = tmp_path / "digits.onnx", tmp_path / "digits.json"
    path.write_bytes(onnx_graph(session.export(), model_module(session.graph)))
    assert run(["trace", str(path), "--out", str(out), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["parameters"] == session.graph.parameter_count
    assert run(["cost", str(out), "gap9", "--policy", "full", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["macs"] == session.with_policy("full").cost().macs
    assert run(["trace", str(tmp_path / "none.onnx"), "--out", str(out)]) == 2
    assert run(["trace", str(path), "--example", "3,8,8", "--out", str(out)]) == 2
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SpecError, match="pip install onnx"):
        explorer.trace(str(path))
