"""Closed forms of every operator, written out here."""

from dataclasses import replace

import pytest

from explorer.costmodel.evaluate import evaluate
from explorer.costmodel.ops import RULES, check_supported, kernel_kind, passes_of
from explorer.costmodel.tables import layer_table
from explorer.costmodel.workspace import Scratch, scratch_of
from explorer.design import TrainingSetup
from explorer.errors import SpecError, UnsupportedOpError
from explorer.graph import INPUT, LayerSpec, ModelGraph
from explorer.zoo._chain import Chain
from tests.helpers import SOURCE, Net, batch_of, device_for, policy_of, small_graphs
from tests.operator_nets import beside_net, state_space_nets, wide_graphs

# channels in, height, width, channels out, kernel, stride, groups -> height, width, kernel kind
CONVOLUTIONS = {
    "1x1": (5, 7, 7, 3, 1, 1, 1, 7, 7, "pointwise"),
    "3x3": (5, 7, 7, 3, 3, 1, 1, 7, 7, "conv"),
    "3x3 stride 2, odd": (2, 7, 7, 4, 3, 2, 1, 4, 4, "conv"),
    "3x3 stride 2, even": (2, 8, 8, 4, 3, 2, 1, 4, 4, "conv"),
    "1x1 stride 2": (4, 8, 8, 4, 1, 2, 1, 4, 4, "pointwise"),
    "5x5 stride 3": (1, 11, 11, 6, 5, 3, 1, 4, 4, "conv"),
    "7x7 on a wide image": (3, 8, 20, 2, 7, 2, 1, 4, 10, "conv"),
    "grouped": (6, 5, 5, 4, 3, 1, 2, 5, 5, "conv"),
    "grouped 1x1": (6, 5, 5, 9, 1, 1, 3, 5, 5, "pointwise"),
    "depthwise": (6, 5, 5, 6, 3, 1, 6, 5, 5, "depthwise"),
    "depthwise stride 2": (6, 9, 9, 6, 5, 2, 6, 5, 5, "depthwise"),
    "depthwise of 3 each": (12, 5, 5, 4, 3, 1, 4, 5, 5, "depthwise"),
    "depthwise times 2": (4, 5, 5, 8, 3, 1, 4, 5, 5, "conv"),
}


def one_conv(case, *, bias: bool) -> ModelGraph:
    c_in, height, width, c_out, kernel, stride, groups = case[:7]
    chain = Chain((c_in, height, width))
    chain.conv(
        "layer",
        c_out,
        kernel=kernel,
        stride=stride,
        groups=groups,
        has_bias=bias,
        act=None,
    )
    return chain.graph("one", SOURCE)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_convolution(case, bias):
    c_in, _, _, c_out, kernel, _, groups, out_height, out_width, kind = case
    graph = one_conv(case, bias=bias)
    table, layer = layer_table(graph), graph["layer"]
    weights = c_out * (c_in // groups) * kernel * kernel
    assert layer.out_shape == (c_out, out_height, out_width)
    assert graph.weight_elements(layer) == weights
    assert table.weight_count.tolist() == [weights]
    assert table.forward_macs.tolist() == [weights * out_height * out_width]
    assert table.bias_count.tolist() == [c_out if bias else 0]
    assert table.element_count.tolist() == [c_out * out_height * out_width]
    assert graph.parameter_count == weights + (c_out if bias else 0)
    assert kernel_kind(layer) == kind


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("inside", "outside"), [(1, 1), (7, 3), (64, 10)])
def test_linear(inside, outside, bias):
    net = Net(inside)
    net.linear(INPUT, "layer", outside, bias=bias)
    graph = net.graph()
    table = layer_table(graph)
    assert table.forward_macs.tolist() == [inside * outside]
    assert table.weight_count.tolist() == [inside * outside]
    assert graph.parameter_count == inside * outside + (outside if bias else 0)
    assert kernel_kind(graph["layer"]) == "linear"


@pytest.mark.parametrize(("axis", "share"), [("out", 0.25), ("out", 0.5), ("in", 1 / 3), ("in", 1)])
@pytest.mark.parametrize("name", ["1x1", "3x3 stride 2, odd", "grouped", "depthwise"])
def test_weight_gradient_macs_are_those_of_the_trained_weights(name, axis, share):
    case = CONVOLUTIONS[name]
    c_in, _, _, c_out, kernel, _, groups, out_height, out_width, _ = case
    channels = c_out if axis == "out" else c_in
    slices = max(1, int(share * channels))
    weights = slices * kernel * kernel * ((c_in if axis == "out" else c_out) // groups)
    graph = one_conv(case, bias=True)
    policy = policy_of(graph, slices / channels, axis=axis)
    cost = evaluate(graph, device_for("fp32"), batch_of(graph, policy))
    assert cost.weight_grad_macs.tolist() == [weights * out_height * out_width]
    assert cost.trained_parameter_count.tolist() == [weights]
    assert cost.input_grad_macs.tolist() == [0]


@pytest.mark.parametrize(
    ("norm", "scales"), [("batchnorm", 6), ("groupnorm", 6), ("frozen_batchnorm", 0)]
)
def test_norm_has_two_parameters_a_channel_and_no_macs(norm, scales):
    words = {"batchnorm": "bn", "groupnorm": "gn", "frozen_batchnorm": "frozen-bn"}
    net = Net(3, 4, 4)
    net.conv(INPUT, "layer", 6, norm=words[norm])
    graph = net.graph()
    table = layer_table(graph)
    assert graph["layer_norm"].out_shape == (6, 4, 4)
    assert graph.parameter_count == 3 * 6 + 2 * 6
    assert (table.bias_count.tolist(), table.norm_count.tolist()) == ([6], [scales])
    assert table.forward_macs.tolist() == [3 * 6 * 4 * 4]
    assert RULES[norm].macs is None


def test_operators_without_weights_have_neither_macs_nor_parameters():
    net = Net(2, 4, 4)
    start = net.conv(INPUT, "layer", 2, act="relu6")
    net.pool(net.act(net.add("sum", start, net.act(start, "again", "relu")), "last"))
    graph = net.graph()
    table = layer_table(graph)
    assert graph.parameter_count == 2 * 2 + 2
    assert table.forward_macs.tolist() == [2 * 2 * 4 * 4]
    assert [graph[layer.name].out_shape for layer in graph.layers[1:]] == [(2, 4, 4)] * 4 + [(2,)]
    assert table.element_count.tolist() == [32] * 5 + [2]


@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize("workspace", ["none", "tiny-engine"])
@pytest.mark.parametrize("share", [(0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1), (0, 1, 1)])
def test_a_kernel_that_is_a_parameter_costs_what_a_layers_own_does(groups, workspace, share):
    setup = TrainingSetup(micro_batch=3, update_timing="deferred")
    device = device_for("fp32", workspace=workspace)
    own, other = (
        evaluate(graph, device, batch_of(graph, policy_of(graph, share), setup=setup))
        for graph in (
            beside_net(shared=False, groups=groups),
            beside_net(shared=True, groups=groups),
        )
    )
    for name in (
        *("forward_macs", "input_grad_macs", "weight_grad_macs", "peak_live_bytes"),
        *("saved_activation_bytes", "gradient_bytes", "weight_bytes", "workspace_bytes"),
    ):
        assert getattr(other, name).tolist() == getattr(own, name).tolist(), name
    assert other.step_time_s[0] == pytest.approx(own.step_time_s[0], rel=0.05)


def test_a_kernel_must_be_a_parameter_that_fits():
    fits = beside_net(shared=True)
    layers = {layer.name: layer for layer in fits.layers}
    wrong = {
        "a kernel of another size": {"kernel": replace(layers["kernel"], out_shape=(6, 6, 3, 1))},
        "images as a kernel": {"middle": replace(layers["middle"], inputs=("stem", "stem"))},
        "a constant": {"kernel": replace(layers["kernel"], op="constant")},
    }
    for changed in wrong.values():
        whole = tuple((layers | changed).values())
        with pytest.raises(SpecError, match=r"middle.inputs: .*kernel"):
            replace(fits, layers=whole)


def test_every_operator_of_the_rules_is_in_a_test_graph():
    graphs = (*small_graphs(), *wide_graphs(), *state_space_nets())
    assert {layer.op for graph in graphs for layer in graph.layers} == RULES.keys()


def test_all_unknown_operators_are_listed_at_once():
    layers = (
        LayerSpec(name="a", op="conv2d", out_shape=(4, 2, 2)),
        LayerSpec(name="b", op="softshrink", out_shape=(4, 2, 2), inputs=("a",)),
        LayerSpec(name="c", op="capsule", out_shape=(4, 2, 2), inputs=("b",)),
        LayerSpec(name="d", op="capsule", out_shape=(4, 2, 2), inputs=("c",)),
    )
    graph = ModelGraph("odd", (4, 2, 2), layers, SOURCE)
    for call in (check_supported, layer_table):
        with pytest.raises(UnsupportedOpError) as problem:
            call(graph)
        text = str(problem.value)
        assert "odd" in text
        assert "softshrink" in text
        assert "capsule" in text
        assert "conv2d" not in text
    policy = policy_of(graph)
    with pytest.raises(UnsupportedOpError):
        evaluate(graph, device_for("fp32"), batch_of(graph, policy))


@pytest.mark.parametrize(
    ("options", "forward", "weight_grad", "input_grad"),
    [
        # two 16-bit columns of 3 x 3 x 5 and the kernel in 16 bits; 20 rows of 14 x 14 floats
        ({"channels": 16, "kernel": 3}, 4 * 45 + 2 * 16 * 45, 4 * 20 * 196, 0),
        ({"channels": 16}, 4 * 5, 4 * 20 * 196, 0),
        # two padded planes; one in floats and the gradient; one with a margin in floats
        ({"channels": 5, "kernel": 3, "groups": 5}, 2 * 256, 4 * (256 + 5 * 196), 4 * 256),
        ({"channels": 5, "kernel": 3, "groups": 5, "stride": 2}, 512, 4 * (256 + 5 * 49), 1024),
    ],
)
def test_scratch_of_tiny_engine(options, forward, weight_grad, input_grad):
    net = Net(5, 14, 14)
    net.conv(INPUT, "layer", **options)
    graph = net.graph()
    scratch = scratch_of(graph, graph["layer"], "tiny-engine")
    assert scratch.forward_bytes == forward
    assert scratch.weight_grad_bytes == weight_grad
    assert scratch.input_grad_bytes == input_grad
    assert scratch_of(graph, graph["layer"], "none") == Scratch()


def test_a_linear_layer_needs_no_scratch():
    net = Net(8)
    net.linear(INPUT, "head", 3)
    graph = net.graph()
    assert scratch_of(graph, graph["head"], "tiny-engine") == Scratch()


@pytest.mark.parametrize("op", ["avgpool", "window_max"])
@pytest.mark.parametrize("window", [(1, 3), (2, 2), (2, 7)])
def test_a_window_reads_each_of_its_inputs(op, window):
    net = Net(3, 4, 21)
    net.window(net.conv(INPUT, "layer", 3), "pool", op, window)
    layer = net.graph()["pool"]
    assert layer.out_shape == (3, 4 // window[0], 21 // window[1])
    assert passes_of(layer) == (window[0] * window[1],) * 2
    assert passes_of(net.graph()["layer"]) == (0, 0)


@pytest.mark.parametrize(
    ("padding", "width"), [((0, 0, 2, 3), 12), ((0, 0, 0, 5), 12), ((0, 1), 9), ((0, 0), 7)]
)
def test_ends_of_a_side_may_be_padded_differently(padding, width):
    net = Net(1, 1, 12)
    net.conv(INPUT, "layer", 2, kernel=(1, 6), padding=padding)
    assert net.graph()["layer"].out_shape == (2, 1, width)


def test_uneven_padding_is_written_only_where_it_is_uneven():
    with pytest.raises(SpecError, match="padding"):
        LayerSpec(name="layer", op="conv2d", out_shape=(1, 1, 4), padding=(0, 0, 1, 1))
