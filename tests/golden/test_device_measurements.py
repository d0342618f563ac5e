"""Every published measurement is predicted or refused with a reason, within a stated error."""

from collections import defaultdict

import numpy as np
import pytest
from golden.device_error import (
    FIT_ERROR,
    MEASURED,
    PREDICTED,
    TIME,
    coverage,
    device_errors,
    untested,
)
from golden.device_rows import (
    NETWORKS,
    REFUSED,
    STACKS,
    Prediction,
    answers,
    network,
    predicted_rows,
    refused_rows,
)
from golden.device_table import measurements
from golden.networks.sketch import FOREIGN_OPS, foreign_ops

from explorer import catalog
from explorer.costmodel.ops import RULES
from explorer.costmodel.tables import layer_table
from explorer.device import load_device

# The fits knew the operators of some networks by share only; ours have every layer.
AIR = 1.25
SATURATED = 2.0  # as many rates as rows: the fit is exact, and elements are counted on top
CARRIED = AIR * 23.0  # rates of a like board, or one ratio: 23 % was found on held-out int8 rows
# Phases no fit error is known of, per cent.
JUDGED = {
    ("GAP9", "fp16", "step MAC/cycle"): SATURATED,
    ("GAP9", "fp32", MEASURED): 8.0,  # the fit had 5.6 % over three of these five rows
    ("GAP9", "fp32", "power"): 20.0,  # one task of another network, 57.6 mW against 47
    ("GAP9", "fp32", PREDICTED): 20.0,  # the time's error, and power within 14 %
    ("GAP9", "int8", TIME): SATURATED,
    ("GAP9", "int8", PREDICTED): 12.0,  # as with the measured time
    ("Jetson Nano CPU, 1 thread", "int8", TIME): CARRIED,
    ("Jetson Nano CPU, 4 threads", "int8", TIME): CARRIED,
    ("NanoPi R2S RK3328", "int8", TIME): CARRIED,
    ("Orange Pi Zero 2 H616", "int8", TIME): CARRIED,
    ("Raspberry Pi 3B+, 1 thread", "int8", TIME): CARRIED,
    ("Raspberry Pi 3B+, 4 threads", "int8", TIME): CARRIED,
    ("Raspberry Pi Zero 2 W, 1 thread", "int8", TIME): SATURATED,
    ("Raspberry Pi Zero 2 W, 4 threads", "fp32", "power"): 8.0,  # published to two digits
    ("Raspberry Pi Zero 2 W, 4 threads", "int8", TIME): SATURATED,
}
BOUNDS = {key: AIR * percent for key, percent in FIT_ERROR.items()} | JUDGED
MISSED = {
    ("NanoPi R2S RK3328", "int8", TIME): (
        "vgg16 runs 2.5 times faster in int8 than the rates carried over from another board"
    ),
}
ERRORS = device_errors()


@pytest.mark.parametrize("error", ERRORS, ids=["-".join(error.key) for error in ERRORS])
def test_mean_error_is_within_its_bound(error):
    bound = BOUNDS[error.key]
    print(f"{error.key}: {error.row_count} rows, MAPE {100 * error.mean_error_ratio:.1f} %")
    if reason := MISSED.get(error.key):
        assert 100 * error.mean_error_ratio > bound, f"within its bound now; take away: {reason}"
        pytest.xfail(reason)
    assert 100 * error.mean_error_ratio <= bound


def test_intervals_hold_about_as_many_figures_as_they_say():
    inside, total = np.sum(list(coverage().values()), axis=0)
    print(f"{inside} of {total} measured figures lie in their 90 % interval")
    assert total > 100
    assert 0.8 <= inside / total <= 0.98


def test_every_bound_is_of_a_phase_there_is():
    assert BOUNDS.keys() == {error.key for error in ERRORS}
    assert MISSED.keys() <= BOUNDS.keys()


def test_every_published_figure_is_answered_once():
    """Energy comes twice where its time is predicted too; nothing is dropped in silence."""
    answered = defaultdict(set)
    for answer in answers():
        predicted = isinstance(answer, Prediction)
        answered[answer.line].add(answer.phase if predicted else answer.quantity)
    assert len(measurements()) == 265
    for row in measurements():
        assert row.published, row
        kinds = {
            "power" if kind == "power" else "energy" if kind.startswith("energy") else "latency"
            for kind in answered[row.line]
        }
        assert kinds == row.published.keys(), row


def test_every_refusal_has_a_reason_and_every_reason_a_refusal():
    assert all(row.reason for row in refused_rows())
    used = {(row.quantity, row.reason) for row in refused_rows()}
    assert {(quantity, reason) for _, quantity, reason in REFUSED} <= used


@pytest.mark.parametrize("workload", NETWORKS)
def test_networks_have_the_published_work(workload):
    """To the digit where it was counted from the layers, else to the rounding published."""
    rows = [row for row in measurements() if row.network == workload and row.macs]
    steps = {row.workload: 3 if row.workload.endswith("full train") else 1 for row in rows}
    with foreign_ops():
        table = layer_table(network(workload))
    macs, weights = table.forward_macs.sum(), table.weight_count.sum()
    assert rows
    for row in rows:
        published = row.macs / steps[row.workload]
        rounded = published % 10_000 == 0
        assert macs == pytest.approx(published, rel=0.01 if rounded else 0.002)
        assert weights == pytest.approx(row.weights, rel=0.03)
        if "MLPerf" in workload or row.device in ("STM32H747", "STM32N6"):
            assert (macs, weights) == (published, row.weights)


def test_a_time_is_the_closed_form():
    """Ten linear layers of the autoencoder on an M7 at 280 MHz, 0.73 MAC and 2900 cycles."""
    row = next(
        row for row in predicted_rows() if row.device == "STM32H7A3" and "AD" in row.workload
    )
    cycles = 264_192 / 0.73 + 10 * 2900
    assert row.predicted == pytest.approx(STACKS["Cortex-M7"]["X-CUBE-AI 7"] * cycles / 280e6)


def test_a_row_can_be_predicted_with_a_changed_profile():
    """The microcontroller rates all count cycles, so twice the clock is half the time."""
    for row in predicted_rows():
        if row.phase != TIME or not row.device.startswith("STM32F7"):
            continue
        fast = row.profile.kernels["int8"].model_copy(update={"weight_bytes_per_s": 1e12})
        changed = {"clock_hz": 2 * row.profile.clock_hz, "kernels": {"int8": fast}}
        assert row.model(row.profile.model_copy(update=changed)) == pytest.approx(row.predicted / 2)


def test_boards_without_a_row_are_named():
    named = {(name, precision): text for name, precision, text in untested()}
    assert named["radxa-zero", "fp32"] == "inference time, training time, energy"
    assert "training time" in named["pi-zero-2w", "fp32"]
    assert ("stm32h7a3", "int8") in named
    assert "inference" not in named["stm32h7a3", "int8"]


def test_rules_of_foreign_operators_stay_here():
    for row in predicted_rows():
        assert np.isfinite(row.predicted)
    assert not FOREIGN_OPS.keys() & RULES.keys()


def test_profiles_say_what_no_row_can_test():
    said = {
        (name, precision): sorted(named)
        for name in catalog.names("device")
        for precision, named in load_device(name).untested.items()
    }
    found = {(name, precision): sorted(what.split(", ")) for name, precision, what in untested()}
    assert said == found
