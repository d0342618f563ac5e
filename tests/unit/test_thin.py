"""Kernels of their own: thin convolutions and the backward pass of depthwise ones."""

import pytest

from explorer import catalog
from explorer.costmodel.ops import special_kernel
from explorer.costmodel.tables import layer_table
from explorer.costmodel.timing import pass_times
from explorer.design import TrainingSetup
from explorer.device import load_device
from explorer.graph import LayerSpec, ModelGraph
from tests.helpers import SOURCE, depthwise_net

VISION = [
    name for name in catalog.names("model") if "resolution" in catalog.load("model", name).OPTIONS
]


def temporal(channels, out, kernel, groups=1, length=64):
    """One convolution along time, or across electrodes for a kernel of (n, 1)."""
    shape = (out, 8 - kernel[0] + 1, length - kernel[1] + 1)
    layer = LayerSpec(name="layer", op="conv2d", out_shape=shape, kernel=kernel, groups=groups)
    return ModelGraph("temporal", (channels, 8, length), (layer,), SOURCE)


@pytest.mark.parametrize(
    ("graph", "thin"),
    [
        (temporal(16, 64, (1, 4)), True),
        (temporal(64, 16, (1, 4)), True),
        (temporal(17, 17, (1, 4)), False),
        (temporal(1, 32, (8, 1)), True),
        (temporal(32, 32, (1, 16), groups=32), True),
        (temporal(32, 32, (1, 15), groups=32), False),
        (temporal(16, 16, (1, 3), groups=16), True),
        (temporal(8, 8, (1, 1)), False),
        (temporal(3, 16, (3, 3)), False),
    ],
)
def test_thin_is_one_dimensional_with_few_channels_or_many_taps(graph, thin):
    expected = "thin" if thin else ""
    assert special_kernel(graph, graph["layer"]) == expected
    assert layer_table(graph).special == (expected,)


@pytest.mark.parametrize("name", VISION)
def test_no_layer_of_a_vision_network_is_thin(name):
    assert "thin" not in layer_table(catalog.load("model", name).build()).special


@pytest.mark.parametrize(("precision", "rate"), [("fp32", 0.57), ("fp16", 0.91)])
@pytest.mark.parametrize("groups", [1, 32])
def test_gap9_runs_thin_layers_at_their_own_rate(precision, rate, groups):
    """0.57 MAC per cycle forward, 3.42 backward, in fp32; 260,000 cycles a pass."""
    gap9 = load_device("gap9")
    channels = 32 if groups == 32 else 4
    graph = temporal(channels, channels, (1, 20), groups)
    times = times_of(graph, gap9, precision)
    overhead_s = 260_000 / gap9.clock_hz
    macs = layer_table(graph).forward_macs.sum()
    work_s = macs / (rate * gap9.clock_hz)
    backward_s = macs / (6 * rate * gap9.clock_hz)
    assert times.forward_s == pytest.approx([work_s + overhead_s])
    assert times.input_grad_s == pytest.approx([backward_s + overhead_s])
    assert times.weight_grad_s == pytest.approx([backward_s])
    assert times.overhead_s == pytest.approx([overhead_s])


@pytest.mark.parametrize(("name", "precision"), [("gap9", "int8"), ("stm32f746", "int8")])
def test_without_a_thin_rate_the_kind_decides(name, precision):
    device = load_device(name)
    graph = temporal(4, 4, (1, 20))
    rates = device.kernels[precision]
    seconds = layer_table(graph).forward_macs.sum() / (rates.conv_macs_per_cycle * device.clock_hz)
    overhead_s = rates.layer_overhead_cycles / device.clock_hz
    assert times_of(graph, device, precision).forward_s == pytest.approx([seconds + overhead_s])


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_backward_of_a_depthwise_layer_on_gap9_is_half_as_fast(precision):
    gap9 = load_device("gap9")
    graph = depthwise_net()
    table, rates = layer_table(graph), gap9.kernels[precision]
    times = times_of(graph, gap9, precision)
    for layer, op in enumerate(table.op_index):
        dx, dw = rates.input_grad_speed_ratio, rates.weight_grad_speed_ratio
        if table.depthwise[layer]:
            dx = dw = 0.5
        forward_s = times.forward_s[op]
        whole_dw_s = times.weight_grad_s[layer] + times.overhead_s[layer]
        assert times.input_grad_s[op] == pytest.approx(forward_s / dx)
        assert whole_dw_s == pytest.approx(forward_s / dw)


def times_of(graph, device, precision):
    return pass_times(layer_table(graph), device, TrainingSetup(precision=precision), training=True)


def test_wide_depthwise_kernels_have_their_own_rate_where_it_is_known():
    graph = catalog.load("model", "mcunet-5fps").build()
    table = layer_table(graph)
    wide = [graph[name].groups > 1 and graph[name].kernel > (3, 3) for name in table.axes.names]
    assert [special == "wide_depthwise" for special in table.special] == wide
    h743 = load_device("stm32h743")
    rates = h743.kernels["int8"]
    times = times_of(graph, h743, "int8").forward_s[table.op_index]
    overhead_s = rates.layer_overhead_cycles / h743.clock_hz
    work_s = table.forward_macs[wide] / (rates.wide_depthwise_macs_per_cycle * h743.clock_hz)
    assert times[wide] == pytest.approx(work_s + overhead_s)
