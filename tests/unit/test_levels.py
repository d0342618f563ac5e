"""What sits in which memory level, what moves between them, and what swapping costs."""

from itertools import pairwise

import numpy as np
import pytest

from explorer import catalog
from explorer.costmodel.arena import place_at_run_time
from explorer.costmodel.detail import report
from explorer.costmodel.evaluate import evaluate
from explorer.costmodel.levels import overflow_bytes, overflow_joules, overflow_seconds
from explorer.costmodel.lifetimes import buffer_columns
from explorer.costmodel.memory_map import memory_map
from explorer.design import TrainingSetup
from explorer.device import load_device
from explorer.session import Session
from explorer.units import MIB
from tests.helpers import batch_of, policy_of

PI = load_device("pi-zero-2w")
DEVICES = catalog.names("device")
OVERFLOWING = [name for name in DEVICES if load_device(name).level("overflow")]
MCUNET = catalog.load("model", "mcunet-5fps").build()
ITERATIONS = 40


def without(device, *holds):
    kept = tuple(level for level in device.memory if level.holds not in holds)
    return device.model_copy(update={"memory": kept, "name": f"{device.name}-plain"})


def full(device, micro_batch=1, steps=1):
    setup = TrainingSetup(
        micro_batch=micro_batch, accumulation_steps=steps, precision=device.default_precision
    )
    return batch_of(MCUNET, policy_of(MCUNET, 1.0), setup=setup)


# overflow: the swap regime of the Pi and GAP9's external RAM


def test_each_mb_in_swap_costs_seven_seconds_over_a_task():
    peaks = PI.ram.usable_bytes + np.array([-5.0, 0.0, 1.0, 2.0, 100.0]) * MIB
    task_s = ITERATIONS * overflow_seconds(PI, TrainingSetup(), peaks)
    assert task_s == pytest.approx([0, 0, 7, 14, 700], rel=0.005)
    assert overflow_joules(PI, task_s) == pytest.approx(0.8 * task_s)


def test_published_time_of_full_training_is_its_macs_and_its_swap():
    """MCUNet on the Pi: LastLayer took 8 min without swap, FullTrain 90 min with 906 MB."""
    macs_ratio = (22.45 + 44.9) / (22.45 + 1.57)
    wait_s = overflow_seconds(PI, TrainingSetup(), np.array([906 * MIB]))[0]
    predicted_min = macs_ratio * 8 + ITERATIONS * wait_s / 60
    assert predicted_min == pytest.approx(90, rel=0.1)


@pytest.mark.parametrize(("memory_mb", "seconds_per_mb"), [(906, 6.7), (542, 7.6)])
def test_swap_seconds_per_mb_are_those_of_the_two_published_points(memory_mb, seconds_per_mb):
    """They were read off against 300 MB of RAM; the profile has 275 MiB usable."""
    wait_s = overflow_seconds(PI, TrainingSetup(), np.array([memory_mb * MIB]))[0]
    assert ITERATIONS * wait_s == pytest.approx((memory_mb - 300) * seconds_per_mb, rel=0.1)


@pytest.mark.parametrize("name", OVERFLOWING)
def test_overflow_is_moved_out_and_back_in_every_pass(name):
    device = load_device(name)
    micro_batch = 100 if name == "pi-zero-2w" else 8
    plain = without(device, "overflow")
    for steps in (1, 3):
        designs = full(device, micro_batch, steps)
        dear, cheap = (evaluate(MCUNET, board, designs) for board in (device, plain))
        level = device.level("overflow")
        over = cheap.peak_live_bytes[0] - device.ram.usable_bytes
        assert over > 0
        wait_s = dear.step_time_s[0] - cheap.step_time_s[0]
        assert wait_s == pytest.approx(steps * 2 * over / level.bytes_per_s, rel=1e-9)
        spent_j = dear.step_energy_j[0] - cheap.step_energy_j[0]
        assert spent_j == pytest.approx(wait_s * level.wait_power_w, rel=1e-9)
        assert dear.peak_live_bytes == cheap.peak_live_bytes


@pytest.mark.parametrize("name", DEVICES)
def test_what_fits_costs_the_same_with_and_without_other_levels(name):
    device = load_device(name)
    plain = without(device, "inner", "overflow")
    graph = catalog.load("model", "digits-cnn").build()
    setup = TrainingSetup(precision=device.default_precision)
    designs = batch_of(graph, policy_of(graph, 0.5), setup=setup)
    costs, expected = evaluate(graph, device, designs), evaluate(graph, plain, designs)
    assert costs.step_time_s == expected.step_time_s
    assert costs.step_energy_j == expected.step_energy_j
    if name not in OVERFLOWING:  # nor is there anywhere for a misfit to go
        misfit = full(device, 100)
        times = [evaluate(MCUNET, board, misfit).step_time_s for board in (device, plain)]
        assert times[0] == times[1]
        assert overflow_bytes(device, np.array([1e12])) == 0


def test_a_batch_of_designs_waits_as_each_alone():
    share = [0.0, 0.25, 1.0]
    policies = [policy_of(MCUNET, value) for value in share]
    setup = TrainingSetup(micro_batch=100)
    together = evaluate(MCUNET, PI, batch_of(MCUNET, *policies, setup=setup))
    alone = [evaluate(MCUNET, PI, batch_of(MCUNET, policy, setup=setup)) for policy in policies]
    assert together.step_time_s.tolist() == [cost.step_time_s[0] for cost in alone]


def test_swapping_is_a_misfit_with_a_row_and_a_sentence():
    cost = report(MCUNET, PI, full(PI, 100))
    (row,) = [row for row in cost.layer_rows if row["op"] == "overflow"]
    assert not cost.fits_all
    assert row["name"] == "swap"
    assert 0 < row["time_s"] < cost.step_time_s
    slower = cost.step_time_s / (cost.step_time_s - row["time_s"])
    sentence = f"over RAM: runs from swap, steps take {slower:.2g} times as long"
    assert sum(sentence in warning for warning in cost.warnings) == 1
    assert sum(one["time_s"] for one in cost.layer_rows) == pytest.approx(cost.step_time_s)
    known = cost.provenance["step.time_s"]
    assert "TinyTrain" in known.source
    assert known.low < cost.step_time_s < known.high
    small = report(MCUNET, PI, full(PI, 1))
    assert not any("swap" in warning for warning in small.warnings)
    assert "TinyTrain" not in small.provenance["step.time_s"].source


def test_more_than_the_overflow_level_does_not_run():
    gap9 = load_device("gap9")
    warnings = "; ".join(report(MCUNET, gap9, full(gap9, 8)).warnings)
    assert "more than the 8.00 MiB of external RAM: does not run" in warnings


def test_another_accounting_keeps_time_rows_and_warnings():
    designs = full(PI, 100)
    own, other = (report(MCUNET, PI, designs, accounting=name) for name in ("device", "tinytrain"))
    assert other.layer_rows == own.layer_rows
    assert other.warnings == own.warnings
    assert other.fits == own.fits
    assert other.macs != own.macs
    assert other.memory.keys() == own.memory.keys()


# inner: which buffers sit in L1 or DTCM


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("policy", ["none", "last-k:k=6", "full"])
def test_every_buffer_sits_in_one_level_beside_its_contemporaries(name, policy):
    session = Session(model="mcunet-5fps", device=name, policy=policy, batch=1)
    memory, device = session.memory_map(), session.profile
    sizes, births, deaths = buffer_columns([buffer for buffer, _ in memory.placed])
    level_of = np.array(memory.level_of)
    assert len(level_of) == len(memory.placed)
    assert set(level_of) <= {device.ram.name, *(lv.name for lv in device.memory[1:])}
    for use in memory.levels[:2]:
        if use.holds not in ("data", "inner"):
            continue
        here = level_of == use.level
        ends = (memory.level_offsets + sizes)[here]
        assert use.needed_bytes == ends.max(initial=0)
        assert not (memory.level_offsets[here] % device.alignment_bytes).any()
        for step in range(deaths.max()):
            alive = here & (births <= step) & (step < deaths)
            spans = sorted(
                zip(memory.level_offsets[alive], sizes[alive], strict=True), key=lambda s: s[0]
            )
            for (start, size), (following, _) in pairwise(spans):
                assert start + size <= following
    inner = device.level("inner")
    if inner is None:
        assert set(level_of) == {device.ram.name}
        assert memory.levels[0].needed_bytes == memory.arena_bytes
    else:
        held = {use.level: use for use in memory.levels}
        assert held[inner.name].needed_bytes <= inner.usable_bytes
        assert held[inner.name].needed_bytes > 0.5 * inner.usable_bytes
        assert held[device.ram.name].needed_bytes <= memory.arena_bytes
    frame = memory.to_frame()
    assert frame["level"].tolist() == list(memory.level_of)
    assert frame["size_bytes"].sum() == sizes.sum()


def test_an_inner_level_takes_the_busiest_bytes_first():
    """Traffic a byte and step inside is above that of buffers left out that would have fitted."""
    session = Session(model="mcunet-5fps", device="stm32f746", policy="last-k:k=6", batch=1)
    memory, inner = session.memory_map(), session.profile.level("inner")
    frame = memory.to_frame()
    frame["life"] = frame["death"] - frame["birth"]
    inside, outside = frame[frame["level"] == "DTCM"], frame[frame["level"] == "SRAM"]
    assert inside["life"].mean() < outside["life"].mean()
    first = frame.sort_values(["life", "size_bytes"], ascending=[True, False]).iloc[0]
    assert (first["level"] == "DTCM") == (first["size_bytes"] <= inner.usable_bytes)


def test_an_inner_level_that_holds_everything_leaves_nothing():
    device = load_device("gap9")
    roomy = device.level("inner").model_copy(
        update={"size_bytes": 10**8, "usable_bytes": 10**8, "name": "TCM"}
    )
    device = device.model_copy(update={"memory": (device.ram, roomy), "name": "roomy"})
    memory = memory_map(MCUNET, device, full(load_device("gap9")))
    assert set(memory.level_of) == {"TCM"}
    assert memory.levels[0].needed_bytes == memory.levels[0].traffic_bytes == 0


# traffic and the run-time allocator


def test_traffic_in_closed_form():
    """Inference of a chain: every tensor once out, once in; no weights in RAM."""
    session = Session(model="digits-cnn", device="stm32f746", policy="none", batch=1)
    memory = session.memory_map()
    written = sum(buffer.size_bytes for buffer, _ in memory.placed)
    held = {use.level: use for use in memory.levels}
    assert held["SRAM"].traffic_bytes + held["DTCM"].traffic_bytes == 2 * written
    flash_bytes = session.cost().memory["flash_bytes"]
    assert held["flash"].traffic_bytes == held["flash"].needed_bytes == flash_bytes


def test_frozen_weights_are_read_again_where_a_gradient_passes():
    session = Session(model="digits-cnn", device="stm32f746", policy="bias-only", batch=1)
    table = session.graph
    first, *rest = (table.weight_elements(table[name]) for name in table.weighted)
    (use,) = [use for use in session.memory_map().levels if use.holds == "weights"]
    assert first > 0
    assert use.traffic_bytes == use.needed_bytes + sum(rest)  # int8: a byte a weight


def test_overflow_in_the_map_is_that_of_the_step_time():
    memory = memory_map(MCUNET, PI, full(PI, 100))
    over = memory.live_bytes.max() - PI.ram.usable_bytes
    assert [use.holds for use in memory.levels] == ["data", "overflow"]
    assert memory.levels[-1].needed_bytes == over
    assert memory.levels[-1].traffic_bytes == 2 * over


@pytest.mark.parametrize("name", DEVICES)
def test_report_and_map_agree_on_the_run_time_allocator(name):
    session = Session(model="digits-cnn", device=name, policy="last-k:k=3")
    memory = session.memory_map()
    columns = buffer_columns([buffer for buffer, _ in memory.placed])
    expected = place_at_run_time(*columns, session.profile.alignment_bytes).arena_bytes
    assert memory.runtime_arena_bytes == expected
    assert session.cost().memory["runtime_arena_bytes"] == expected
