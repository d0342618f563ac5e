"""Time and energy under drawn profiles: closed forms, laws, and what comparing says."""

from math import exp, log, log1p, sqrt
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer import catalog
from explorer.costmodel.detail import report
from explorer.costmodel.evaluate import evaluate
from explorer.costmodel.uncertainty import DRAWS, Against, drawn_rates, step_spending
from explorer.design import LayerAxes, TrainingSetup, UpdatePolicy
from explorer.device import SourceBlock, load_device
from explorer.graph import INPUT
from tests.helpers import (
    Net,
    batch_of,
    conv_chain,
    depthwise_net,
    parallel_branches,
    policy_of,
    random_policies,
    residual_net,
    setups,
)

DIGITS = catalog.load("model", "digits-cnn").build()
GRAPHS = (DIGITS, conv_chain(), residual_net("bn"), depthwise_net("gn"), parallel_branches("gn"))
KERNELS = [
    (name, precision) for name in catalog.names("device") for precision in load_device(name).kernels
]
NORMAL = NormalDist()
FIVE_PERCENT = NORMAL.inv_cdf(0.95)
RATE = "kernels.fp32.pointwise_macs_per_cycle"

any_graph = st.sampled_from(GRAPHS)
property_test = settings(max_examples=40, derandomize=True, deadline=None)


def pointwise_net():
    """One layer whose time on `one_rate` is its MACs over one rate."""
    net = Net(8, 6, 6)
    net.conv(INPUT, "only", 32, bias=False)
    return net.graph("pointwise")


def one_rate(spread, *, name="one-rate", speed=1.0):
    """A device that is slow only where its one uncertain rate is asked for."""
    gap9 = load_device("gap9")
    rates = gap9.kernels["fp32"].model_copy(
        update={
            "pointwise_macs_per_cycle": 1e-3 * speed,
            "layer_overhead_cycles": 0.0,
            "weight_bytes_per_s": 1e30,
            "elements_per_cycle": 1e30,
        }
    )
    blocks = (
        SourceBlock(kind="assumed", cite="one", fields=(RATE,), plus_minus_ratio=spread),
        SourceBlock(kind="published", cite="rest", fields=("clock_hz", "kernels", "memory")),
    )
    update = {"name": name, "kernels": {"fp32": rates}, "source": blocks}
    return gap9.model_copy(update=update)


def spending(device, share=0.0, graph=None):
    graph = graph or pointwise_net()
    return step_spending(graph, device, batch_of(graph, policy_of(graph, share)))


@pytest.mark.parametrize("spread", [0.1, 0.4, 1.0])
def test_one_rate_gives_the_lognormal(spread):
    """Median, 5 and 95 % and mean of exp(sigma z), for time and for energy at fixed power."""
    sigma = log1p(spread)
    spent = spending(one_rate(spread))
    for drawn in (spent.time_s, spent.energy_j):
        ratio = drawn.values[1:] / drawn.value
        low, high = drawn.interval()
        assert len(ratio) == DRAWS
        assert np.median(ratio) == pytest.approx(1, abs=0.06 * sigma)
        assert log(low / drawn.value) == pytest.approx(-FIVE_PERCENT * sigma, rel=0.08)
        assert log(high / drawn.value) == pytest.approx(FIVE_PERCENT * sigma, rel=0.08)
        assert ratio.mean() == pytest.approx(exp(sigma**2 / 2), rel=0.03)


@property_test
@given(st.data())
def test_a_wider_spread_gives_a_wider_interval(data):
    spreads = sorted(data.draw(st.lists(st.floats(0.01, 2), min_size=2, max_size=4, unique=True)))
    ends = [spending(one_rate(spread)).time_s.interval() for spread in spreads]
    lows, highs = zip(*ends, strict=True)
    assert list(lows) == sorted(lows, reverse=True)
    assert list(highs) == sorted(highs)


@property_test
@given(any_graph, setups, st.data())
def test_without_spread_the_interval_is_the_value(graph, setup, data):
    designs = batch_of(graph, data.draw(random_policies(graph)), setup=setup)
    gap9 = load_device("gap9")
    exact = tuple(block.model_copy(update={"plus_minus_ratio": 0.0}) for block in gap9.source)
    provenance = report(graph, gap9.model_copy(update={"source": exact}), designs).provenance
    for path, entry in provenance.items():
        if path.endswith(("time_s", "energy_j")):
            assert entry.high == pytest.approx(entry.low, rel=1e-12), path


@property_test
@given(any_graph, setups, st.data())
def test_the_profile_itself_is_what_screening_says(graph, setup, data):
    designs = batch_of(graph, data.draw(random_policies(graph)), setup=setup)
    device = load_device("gap9")
    costs = evaluate(graph, device, designs)
    spent = step_spending(graph, device, designs)
    assert spent.time_s.value == pytest.approx(costs.step_time_s[0], rel=1e-12)
    assert spent.energy_j.value == pytest.approx(costs.step_energy_j[0], rel=1e-12)


@pytest.mark.parametrize(("name", "precision"), KERNELS)
def test_every_profile_gives_an_interval_around_its_value(name, precision):
    device = load_device(name)
    designs = batch_of(DIGITS, policy_of(DIGITS, 1.0), setup=TrainingSetup(precision=precision))
    spent = step_spending(DIGITS, device, designs)
    for drawn in (spent.time_s, spent.energy_j):
        low, high = drawn.interval()
        assert low < 0.95 * drawn.value
        assert high > 1.05 * drawn.value
        assert np.isfinite(drawn.values).all()


def test_numbers_of_one_source_err_half_together_and_others_apart():
    """A slow draw has low rates and a high overhead at once."""
    rates = drawn_rates(load_device("stm32f746"), "int8")
    names = (
        "conv_macs_per_cycle",
        "pointwise_macs_per_cycle",
        "layer_overhead_cycles",
        "input_grad_speed_ratio",
        "active_power_w",
    )
    logs = np.corrcoef([np.log(rates[name][1:]) for name in names])
    assert logs[0, 1] == pytest.approx(0.5, abs=0.1)
    assert logs[0, 2] == pytest.approx(-0.5, abs=0.1)
    assert np.abs(logs[[0, 0, 3], [3, 4, 4]]).max() < 0.1


def test_draws_do_not_change_from_call_to_call():
    before = drawn_rates(load_device("gap9"), "fp32")["conv_macs_per_cycle"].copy()
    drawn_rates.cache_clear()
    assert np.array_equal(drawn_rates(load_device("gap9"), "fp32")["conv_macs_per_cycle"], before)


# comparing


@property_test
@given(any_graph, st.data())
def test_training_less_is_surely_faster_and_the_same_is_a_tie(graph, data):
    device = load_device("gap9")
    more = data.draw(random_policies(graph))
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=1, max_size=60)))
    slices = np.where(np.resize(kept, len(more.slices)), more.slices, 0)
    less = UpdatePolicy.of(
        "less",
        LayerAxes.of(graph),
        slices=slices,
        update_bias=more.update_bias,
        update_norm=more.update_norm,
        channel_axis=more.channel_axis,
    )
    of_more, of_less = (
        step_spending(graph, device, batch_of(graph, policy)) for policy in (more, less)
    )
    answer = Against.of(of_less, of_more, "more")
    if slices.tolist() == list(more.slices):
        assert (answer.time_ratio, answer.p_faster, answer.p_less_energy) == (1.0, 0.5, 0.5)
    else:
        assert answer.time_ratio < 1
        assert (answer.p_faster, answer.p_less_energy) == (1.0, 1.0)


@property_test
@given(any_graph, st.data())
def test_one_of_two_is_faster(graph, data):
    device = load_device("gap9")
    one, other = (
        step_spending(graph, device, batch_of(graph, data.draw(random_policies(graph))))
        for _ in range(2)
    )
    there, back = Against.of(one, other, "other"), Against.of(other, one, "one")
    assert there.p_faster + back.p_faster == pytest.approx(1)
    assert there.time_ratio * back.time_ratio == pytest.approx(1)


@pytest.mark.parametrize("speed", [0.5, 1.0, 1.3, 4.0])
def test_two_devices_err_on_their_own(speed):
    """P(a < b) of two independent lognormals whose medians differ by `speed`."""
    spread = 0.4
    fast = spending(one_rate(spread, name="fast", speed=speed))
    slow = spending(one_rate(spread, name="slow"))
    expected = NORMAL.cdf(log(speed) / (sqrt(2) * log1p(spread)))
    assert Against.of(fast, slow, "").p_faster == pytest.approx(expected, abs=0.03)
    assert Against.of(fast, slow, "").time_ratio == pytest.approx(1 / speed)


def test_on_one_device_the_common_error_cancels():
    """Half the work is surely faster, however uncertain the rate; on another board it is not."""
    whole, half = (spending(one_rate(1.0), share) for share in (1.0, 0.5))
    assert half.time_s.chance_below(whole.time_s) == 1.0
    elsewhere = spending(one_rate(1.0, name="elsewhere"), 1.0)
    assert 0.5 < half.time_s.chance_below(elsewhere.time_s) < 0.9
