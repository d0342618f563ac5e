"""What must hold for any policy, whatever the numbers are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer import catalog
from explorer.costmodel.arena import place
from explorer.costmodel.detail import report
from explorer.costmodel.evaluate import CHUNK, arena_plan, evaluate, live_profile
from explorer.costmodel.report import MACS_COLUMNS, CostReport
from explorer.design import OPTIMIZERS, UPDATE_TIMINGS, LayerAxes, TrainingSetup, UpdatePolicy
from explorer.device import PRECISIONS, Kernels, SourceBlock, load_device
from explorer.graph import INPUT, NORM_OPS
from explorer.provenance import Kind, weakest
from tests.helpers import (
    Net,
    batch_of,
    conv_chain,
    depthwise_net,
    device_for,
    parallel_branches,
    policy_of,
    random_policies,
    random_policy,
    residual_net,
    setups,
    small_graphs,
    two_consumers,
)

DIGITS = catalog.load("model", "digits-cnn").build()
MBV2 = catalog.load("model", "mbv2-w0.35-tinytrain").build()
GRAPHS = (
    DIGITS,
    MBV2,
    conv_chain(),
    residual_net("bn"),
    depthwise_net("gn"),
    two_consumers("bn"),
    parallel_branches("gn"),
)
DEVICES = catalog.names("device")
KERNELS = [(name, precision) for name in DEVICES for precision in load_device(name).kernels]
ENERGY_RATES = {"active_power_w", "energy_j_per_mac"}
BACKWARD_RATES = {name for name in Kernels.model_fields if name.endswith("speed_ratio")}
COUNTED = tuple(
    name for name in CostReport.columns() if not name.startswith("step_") and name != "arena_bytes"
)
TIMED = ("step_time_s", "step_energy_j")

any_graph = st.sampled_from(GRAPHS)
property_test = settings(max_examples=40, derandomize=True, deadline=None)


def cost_of(graph, policy, setup=None, device=None) -> dict[str, float]:
    """All columns of one design."""
    setup = setup or TrainingSetup()
    device = device or device_for(setup.precision)
    costs = evaluate(graph, device, batch_of(graph, policy, setup=setup))
    return {name: float(getattr(costs, name)[0]) for name in CostReport.columns()}


def flat(graph, policy, **fields) -> dict[str, float]:
    return cost_of(graph, policy, TrainingSetup(**fields))


def assert_same_rows(left: CostReport, right: CostReport) -> None:
    for name in COUNTED:
        assert getattr(left, name).tolist() == getattr(right, name).tolist(), name
    for name in TIMED:  # sums of floats: their order may differ
        np.testing.assert_allclose(getattr(left, name), getattr(right, name), rtol=1e-12)


# batches


@given(graph=any_graph, setup=setups, seed=st.integers(0, 10**6))
@property_test
def test_a_batch_is_its_rows_and_order_does_not_matter(graph, setup, seed):
    rng = np.random.default_rng(seed)
    policies = [random_policy(graph, rng) for _ in range(7)]
    device = device_for(setup.precision)
    together = evaluate(graph, device, batch_of(graph, *policies, setup=setup))
    order = rng.permutation(len(policies))
    shuffled = batch_of(graph, *[policies[row] for row in order], setup=setup)
    assert_same_rows(evaluate(graph, device, shuffled), together.take(order))
    for row, policy in enumerate(policies):
        alone = evaluate(graph, device, batch_of(graph, policy, setup=setup))
        assert_same_rows(alone, together.take(np.array([row])))


def test_a_batch_longer_than_a_chunk():
    graph, rng = depthwise_net("gn"), np.random.default_rng(0)
    policies = [random_policy(graph, rng) for _ in range(CHUNK + 3)]
    device = device_for("fp32")
    together = evaluate(graph, device, batch_of(graph, *policies))
    assert len(together) == len(policies)
    for row in (0, CHUNK - 1, CHUNK, CHUNK + 2):
        alone = evaluate(graph, device, batch_of(graph, policies[row]))
        assert_same_rows(alone, together.take(np.array([row])))


# monotone


@given(graph=any_graph, setup=setups, data=st.data(), seed=st.integers(0, 10**6))
@property_test
def test_training_more_never_costs_less(graph, setup, data, seed):
    rng = np.random.default_rng(seed)
    fewer = data.draw(random_policies(graph))
    axes = LayerAxes.of(graph)
    channels = axes.channels(fewer.channel_axis)
    extra = rng.integers(0, channels + 1) * (rng.random(len(channels)) < 0.3)
    more = UpdatePolicy.of(
        "more",
        axes,
        slices=np.minimum(np.array(fewer.slices) + extra, channels),
        update_bias=np.array(fewer.update_bias) | (rng.random(len(channels)) < 0.2),
        update_norm=np.array(fewer.update_norm) | (rng.random(len(channels)) < 0.2),
        channel_axis=fewer.channel_axis,
    )
    precision = data.draw(st.sampled_from(["fp32", "int8"]))
    device = load_device(data.draw(st.sampled_from(["gap9", "pi-zero-2w", "stm32f746"])))
    setup = TrainingSetup(micro_batch=setup.micro_batch, precision=precision)
    low, high = cost_of(graph, fewer, setup, device), cost_of(graph, more, setup, device)
    for name in (*MACS_COLUMNS, "saved_activation_bytes", "peak_live_bytes", "optimizer_bytes"):
        assert high[name] >= low[name], name
    for name in TIMED:
        assert high[name] >= low[name] * (1 - 1e-12), name


@given(graph=any_graph, setup=setups, data=st.data())
@property_test
def test_twice_the_micro_batch_saves_twice_the_bytes(graph, setup, data):
    """Exactly, except the statistics of a batch norm, of which a micro-batch has one set."""
    policy = data.draw(random_policies(graph))
    sizes = (setup.micro_batch, 2 * setup.micro_batch, 4 * setup.micro_batch)
    costs = [flat(graph, policy, micro_batch=m, precision=setup.precision) for m in sizes]
    once, twice, four_times = (cost["saved_activation_bytes"] for cost in costs)
    statistics = 2 * once - twice
    channels = [layer.out_shape[0] for layer in graph.layers if layer.op == "batchnorm"]
    assert 0 <= statistics <= 4 * sum(channels)
    assert four_times - twice == 2 * (twice - once)
    for name in ("weight_bytes", "flash_bytes", "optimizer_bytes", "gradient_bytes", *MACS_COLUMNS):
        assert len({cost[name] for cost in costs}) == 1, name


def test_statistics_of_a_fully_trained_batch_norm_net():
    graph = residual_net("bn")
    once, twice = (
        flat(graph, policy_of(graph, 1.0, norm=True), micro_batch=m)["saved_activation_bytes"]
        for m in (1, 2)
    )
    channels = sum(layer.out_shape[0] for layer in graph.layers if layer.op in NORM_OPS)
    assert 2 * once - twice == 4 * channels


# ends


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_everything_frozen_is_inference(graph, precision):
    for flash in (True, False):
        device = device_for(precision, weights_in_flash=flash)
        setup = TrainingSetup(precision=precision, micro_batch=3, optimizer="adam")
        cost = cost_of(graph, policy_of(graph), setup, device)
        nothing = ("training_extra_bytes", "input_grad_macs", "weight_grad_macs")
        nothing += ("saved_activation_bytes", "gradient_bytes", "optimizer_bytes")
        assert {name: cost[name] for name in nothing} == dict.fromkeys(nothing, 0.0)
        assert cost["trained_parameter_count"] == 0
        assert (cost["weight_bytes"] == 0) == flash


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)
def test_full_update_takes_a_forward_pass_for_each_gradient(graph):
    policy = policy_of(graph, 1.0, bias=True, norm=True)
    cost = cost_of(graph, policy)
    rows = report(graph, device_for("fp32"), batch_of(graph, policy)).layer_rows
    rows = rows[: len(graph.layers)]
    readers_of_input = [row["forward_macs"] for row in rows if not graph[row["name"]].inputs]
    assert cost["weight_grad_macs"] == cost["forward_macs"]
    assert cost["input_grad_macs"] == cost["forward_macs"] - sum(readers_of_input)
    assert cost["trained_parameter_count"] == graph.parameter_count


@pytest.mark.parametrize("first", [1, 4, 10])
def test_a_frozen_prefix_keeps_nothing_and_has_no_gradient(first):
    share = (np.arange(len(DIGITS.weighted)) >= first) * 1.0
    rows = report(DIGITS, device_for("fp32"), batch_of(DIGITS, policy_of(DIGITS, share)))
    earliest = DIGITS.weighted[first]
    names = [row["name"] for row in rows.layer_rows]
    below = rows.layer_rows[: names.index(earliest)]
    trained = rows.layer_rows[names.index(earliest)]
    for row in below:
        assert (row["saved_bytes"], row["input_grad_macs"], row["weight_grad_macs"]) == (0, 0, 0)
    assert trained["input_grad_macs"] == 0
    assert trained["weight_grad_macs"] == trained["forward_macs"] > 0
    assert trained["saved_bytes"] > 0


def test_bias_only_keeps_masks_and_what_norms_keep_but_no_inputs():
    graph = residual_net("none")
    cost = cost_of(graph, policy_of(graph, bias=True))
    masks = [layer for layer in graph.layers if layer.op in ("relu", "relu6")]
    assert cost["saved_activation_bytes"] == sum(-(-layer.out_elements // 8) for layer in masks)
    assert cost["weight_grad_macs"] == 0
    assert cost["input_grad_macs"] > 0


# optimizers, weights


@given(graph=any_graph, setup=setups, data=st.data())
@property_test
def test_each_optimizer_state_is_one_word_a_trained_parameter(graph, setup, data):
    policy = data.draw(random_policies(graph))
    costs = [flat(graph, policy, optimizer=o, precision=setup.precision) for o in OPTIMIZERS]
    assert OPTIMIZERS == ("sgd", "sgd-momentum", "adam")
    words = 4 * costs[0]["trained_parameter_count"]
    for states, cost in enumerate(costs):
        assert cost["optimizer_bytes"] == states * words
        assert cost["peak_live_bytes"] == costs[0]["peak_live_bytes"] + states * words
        assert cost["step_time_s"] >= costs[0]["step_time_s"]


@given(graph=any_graph, setup=setups, data=st.data())
@property_test
def test_every_weight_is_somewhere_once(graph, setup, data):
    policy = data.draw(random_policies(graph))
    weights = sum(graph.weight_elements(graph[name]) for name in graph.weighted)
    others = graph.parameter_count - weights
    bits = {"fp32": (4, 4), "fp16": (2, 2), "int8": (1, 4)}[setup.precision]
    total = weights * bits[0] + others * bits[1]
    split = cost_of(graph, policy, setup)
    assert split["weight_bytes"] + split["flash_bytes"] == total
    device = device_for(setup.precision, weights_in_flash=False)
    together = cost_of(graph, policy, setup, device)
    assert (together["weight_bytes"], together["flash_bytes"]) == (total, 0)


@given(graph=any_graph, data=st.data(), setup=setups)
@property_test
def test_deferred_updates_hold_every_gradient_and_fused_ones_the_largest(graph, data, setup):
    policy = data.draw(random_policies(graph))
    fused = flat(graph, policy, precision=setup.precision)
    deferred = flat(graph, policy, precision=setup.precision, update_timing="deferred")
    word = 2 if setup.precision == "fp16" else 4
    assert deferred["gradient_bytes"] == word * deferred["trained_parameter_count"]
    assert fused["gradient_bytes"] <= deferred["gradient_bytes"]
    assert fused["peak_live_bytes"] <= deferred["peak_live_bytes"]


# sums, time, fit


@given(graph=any_graph, setup=setups, data=st.data())
@property_test
def test_rows_of_layers_sum_to_the_totals(graph, setup, data):
    policy = data.draw(random_policies(graph))
    device = load_device(data.draw(st.sampled_from(["gap9", "stm32h743", "pi-zero-2w"])))
    if setup.precision not in device.kernels:
        setup = TrainingSetup(micro_batch=setup.micro_batch, accumulation_steps=2, precision="int8")
    rates = device.kernels[setup.precision].model_copy(update={"energy_j_per_mac": 1e-11})
    device = device.model_copy(update={"kernels": {setup.precision: rates}})
    cost = report(graph, device, batch_of(graph, policy, setup=setup))
    waits = [row for row in cost.layer_rows if row["op"] == "overflow"]
    names = [layer.name for layer in graph.layers] + [row["name"] for row in waits]
    assert [row["name"] for row in cost.layer_rows] == names
    total = {
        name: sum(row[name] for row in cost.layer_rows)
        for name in cost.layer_rows[0]
        if name not in ("name", "op", "trained_ratio")
    }
    for phase, value in cost.macs.items():
        assert total[f"{phase}_macs"] == value
    assert total["saved_bytes"] == cost.memory["saved_activation_bytes"]
    assert total["time_s"] == pytest.approx(cost.step_time_s, rel=1e-12)
    assert total["energy_j"] == pytest.approx(cost.step_energy_j, rel=1e-12)
    step_macs = sum(cost.macs.values()) * setup.micro_batch * setup.accumulation_steps
    wait_s = sum(row["time_s"] for row in waits)
    energy_j = rates.active_power_w * (cost.step_time_s - wait_s) + 1e-11 * step_macs
    energy_j += sum(device.level("overflow").wait_power_w * row["time_s"] for row in waits)
    assert cost.step_energy_j == pytest.approx(energy_j, rel=1e-12)


def test_time_of_two_layers_in_closed_form():
    """Compute-bound, then weight-bound; dX only above the trained layer, dW only in it."""
    net = Net(4, 6, 6)
    net.linear(net.pool(net.conv(INPUT, "conv", 8, kernel=3, bias=False)), "head", 5, bias=False)
    graph = net.graph()
    device = load_device("gap9")
    rates = device.kernels["fp32"].model_copy(
        update={"trainer_speed_ratio": 0.5, "linear_macs_per_cycle": 1e6}
    )
    device = device.model_copy(update={"kernels": {"fp32": rates}, "active_cores": 2})
    hertz, batch = device.clock_hz * 2, 3
    overhead_s = rates.layer_overhead_cycles / device.clock_hz
    head_s = 8 * 5 * 4 / rates.weight_bytes_per_s
    setup = TrainingSetup(micro_batch=batch, optimizer="adam")
    for trains in (False, True):
        speed = hertz * (rates.trainer_speed_ratio if trains else 1)
        conv_s = batch * 8 * 4 * 9 * 36 / (rates.conv_macs_per_cycle * speed)
        element_s = 1 / (rates.elements_per_cycle * speed)
        expected = conv_s + overhead_s + head_s + overhead_s + batch * 8 * element_s
        if trains:  # half the slices of the convolution
            expected += (head_s + overhead_s) / rates.input_grad_speed_ratio
            expected += batch * 8 * element_s  # pool
            expected += (conv_s / 2 + overhead_s) / rates.weight_grad_speed_ratio
            expected += 8 * 4 * 9 / 2 * (3 + 2 * 2) * element_s  # weight, gradient, two states
        cost = cost_of(graph, policy_of(graph, [0.5 * trains, 0]), setup, device)
        assert cost["step_time_s"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", DEVICES)
def test_time_falls_when_the_clock_rises(name):
    device = load_device(name)
    setup = TrainingSetup(precision=device.default_precision)
    for policy in (policy_of(MBV2), policy_of(MBV2, 1.0, bias=True)):
        times = [
            cost_of(MBV2, policy, setup, device.model_copy(update={"clock_hz": hertz}))
            for hertz in (device.clock_hz, 1.5 * device.clock_hz, 3 * device.clock_hz)
        ]
        seconds = [cost["step_time_s"] for cost in times]
        joules = [cost["step_energy_j"] for cost in times]
        assert seconds == sorted(seconds, reverse=True)
        assert joules == sorted(joules, reverse=True)
        assert len(set(seconds)) == 3
        assert seconds[0] <= 3 * seconds[2] * (1 + 1e-12)


def test_time_of_accumulation_is_that_of_its_passes():
    policy = policy_of(DIGITS, 1.0)
    one = flat(DIGITS, policy, micro_batch=2)
    none = flat(DIGITS, policy_of(DIGITS), micro_batch=2)
    none_twice = flat(DIGITS, policy_of(DIGITS), micro_batch=2, accumulation_steps=2)
    twice = flat(DIGITS, policy, micro_batch=2, accumulation_steps=2)
    assert none_twice["step_time_s"] == pytest.approx(2 * none["step_time_s"], rel=1e-12)
    assert one["step_time_s"] < twice["step_time_s"] < 2 * one["step_time_s"]


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("reserve_bytes", [0, 50_000])
def test_fits_compares_what_each_memory_level_needs(name, reserve_bytes):
    device = load_device(name)
    setup = TrainingSetup(precision=device.default_precision)
    rng = np.random.default_rng(0)
    wasted = []
    for policy in (policy_of(DIGITS), *(random_policy(DIGITS, rng) for _ in range(20))):
        cost = report(DIGITS, device, batch_of(DIGITS, policy, setup=setup), reserve_bytes)
        wasted.append(cost.memory["arena_bytes"] - cost.memory["peak_live_bytes"])
        assert [fit.level for fit in cost.fits] == [level.name for level in device.fit_levels]
        for fit, level in zip(cost.fits, device.fit_levels, strict=True):
            data = level.holds == "data"
            assert fit.needed_bytes == cost.memory["arena_bytes" if data else "flash_bytes"]
            assert fit.usable_bytes == level.usable_bytes - data * reserve_bytes
            assert fit.fits == (fit.needed_bytes <= fit.usable_bytes)
        assert cost.fits_all == all(fit.fits for fit in cost.fits)
    assert max(wasted) > 0  # else this could not tell arena from peak


# arena


def assert_placed(sizes, births, deaths, offsets, arena_bytes, alignment) -> None:
    sizes, births, deaths, offsets = map(np.asarray, (sizes, births, deaths, offsets))
    ends = offsets + sizes
    together = (births[:, None] < deaths) & (births < deaths[:, None])
    overlap = (offsets[:, None] < ends) & (offsets < ends[:, None]) & (sizes > 0)
    clashes = together & overlap & ~np.eye(len(sizes), dtype=bool)
    assert not clashes.any()
    assert not (offsets % alignment).any()
    assert arena_bytes == ends.max()
    steps = np.arange(deaths.max())[:, None]
    alive = (births <= steps) & (steps < deaths)
    assert (alive @ sizes).max() <= arena_bytes
    assert arena_bytes <= (-(-sizes // alignment) * alignment).sum()


lifetimes = st.tuples(st.integers(1, 300), st.integers(0, 8), st.integers(1, 6))


@given(
    buffers=st.lists(lifetimes, min_size=1, max_size=25),
    copies=st.integers(1, 3),
    alignment=st.sampled_from([1, 4, 16, 64]),
)
@settings(max_examples=200, derandomize=True, deadline=None)
def test_random_buffers_are_placed_apart(buffers, copies, alignment):
    """Copies have the same size and the same lifetime as the original."""
    sizes, births, lengths = np.array(buffers * copies, dtype=np.int64).T
    plan = place(sizes, births, births + lengths, alignment)
    assert_placed(sizes, births, births + lengths, plan.offsets, plan.arena_bytes, alignment)


def test_buffers_that_never_meet_share_an_address_and_twins_do_not():
    one_after_another = place(np.array([64, 64]), np.array([0, 3]), np.array([3, 6]))
    assert (one_after_another.offsets.tolist(), one_after_another.arena_bytes) == ([0, 0], 64)
    twins = place(np.array([60, 60]), np.array([0, 0]), np.array([3, 3]), 16)
    assert (sorted(twins.offsets.tolist()), twins.arena_bytes) == ([0, 64], 124)


def columns_of(buffers) -> tuple[list[int], ...]:
    names = ("size_bytes", "birth", "death")
    return tuple([getattr(buffer, name) for buffer in buffers] for name in names)


@given(graph=st.sampled_from((*small_graphs(), DIGITS)), setup=setups, data=st.data())
@settings(max_examples=80, derandomize=True, deadline=None)
def test_the_arena_of_a_step_holds_its_peak(graph, setup, data):
    policy = data.draw(random_policies(graph))
    device = device_for(setup.precision, weights_in_flash=data.draw(st.booleans()))
    designs = batch_of(graph, policy, setup=setup)
    placed, arena_bytes = arena_plan(graph, device, designs)
    offsets = [offset for _, offset in placed]
    columns = columns_of([buffer for buffer, _ in placed])
    assert_placed(*columns, offsets, arena_bytes, device.alignment_bytes)
    cost = report(graph, device, designs)
    assert cost.memory["arena_bytes"] == arena_bytes
    assert cost.memory["peak_live_bytes"] <= arena_bytes


@pytest.mark.parametrize("timing", UPDATE_TIMINGS)
def test_buffers_add_up_to_the_live_bytes_of_every_step(timing):
    for graph in (*small_graphs(), DIGITS):
        rng = np.random.default_rng(0)
        setup = TrainingSetup(micro_batch=3, update_timing=timing, optimizer="adam")
        for _ in range(12):
            designs = batch_of(graph, random_policy(graph, rng), setup=setup)
            device = device_for("fp32", workspace=str(rng.choice(["none", "tiny-engine"])))
            placed, _ = arena_plan(graph, device, designs)
            sizes, births, deaths = map(np.array, columns_of([buffer for buffer, _ in placed]))
            profile = live_profile(graph, device, designs)[0][0]
            steps = np.arange(len(profile))[:, None]
            alive = ((births <= steps) & (steps < deaths)) @ sizes
            assert alive.tolist() == profile.tolist()


# provenance


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_result_is_better_than_modelled(name, share):
    device = load_device(name)
    setup = TrainingSetup(precision=device.default_precision)
    cost = report(DIGITS, device, batch_of(DIGITS, policy_of(DIGITS, share), setup=setup))
    for path, estimate in cost.provenance.items():
        if not path.endswith("usable_bytes"):
            assert Kind.of(estimate.kind) >= Kind.MODELLED, path
    for scope, shown in (("step", cost.to_dict()["step"]), ("sample", cost.to_dict()["sample"])):
        for quantity, value in shown.items():
            estimate = cost.provenance[f"{scope}.{quantity}"]
            assert estimate.low <= value <= estimate.high


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize(("name", "precision"), KERNELS)
def test_time_and_energy_are_as_weak_as_the_weakest_number(name, precision, share):
    device = load_device(name)
    given_rates = device.kernels[precision].model_dump(exclude_unset=True, exclude={"workspace"})
    paths = {field: f"kernels.{precision}.{field}" for field in given_rates}
    paths["clock_hz"] = "clock_hz"
    if not share:  # inference uses no training rate
        for field in BACKWARD_RATES & paths.keys():
            del paths[field]
    kinds = {field: device.find_source(path).kind for field, path in paths.items()}
    of_time = [kind for field, kind in kinds.items() if field not in ENERGY_RATES]
    found = kinds_of(device, share, precision)
    assert found == (weakest(of_time), weakest(kinds.values()))


@pytest.mark.parametrize(
    "field", ["clock_hz", *sorted(Kernels.model_fields.keys() - {"workspace"})]
)
def test_one_assumed_number_makes_the_result_assumed(field):
    """On a device where all else is measured; inference does not mind a backward rate."""
    path = field if field == "clock_hz" else f"kernels.fp32.{field}"
    measured = SourceBlock(kind="measured", cite="all", fields=("clock_hz", "kernels", "memory"))
    doubtful = SourceBlock(kind="assumed", cite="one", fields=(path,))
    rates = load_device("gap9").kernels["fp32"].model_dump()
    rates |= {"activation_bytes_per_s": 1e9, "energy_j_per_mac": 1e-12}
    device = load_device("gap9").model_copy(
        update={"source": (doubtful, measured), "kernels": {"fp32": Kernels(**rates)}}
    )
    of_time = Kind.MODELLED if field in ENERGY_RATES else Kind.ASSUMED
    assert kinds_of(device, 1.0, "fp32")[0] == of_time
    if field != "energy_j_per_mac":
        assert kinds_of(device, 1.0, "fp32")[1] == Kind.ASSUMED
    if field in BACKWARD_RATES:
        assert kinds_of(device, 0.0, "fp32") == (Kind.MODELLED, Kind.MODELLED)


def kinds_of(device, share, precision) -> tuple[Kind, Kind]:
    """Kinds of the time and the energy of a step."""
    setup = TrainingSetup(precision=precision)
    designs = batch_of(DIGITS, policy_of(DIGITS, share), setup=setup)
    provenance = report(DIGITS, device, designs).provenance
    return Kind.of(provenance["step.time_s"].kind), Kind.of(provenance["step.energy_j"].kind)
