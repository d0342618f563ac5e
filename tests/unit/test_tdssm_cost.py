"""The state-space network in the cost model: closed forms, segments, the look-ahead."""

import numpy as np
import pytest

from explorer import catalog
from explorer.adapters import adapter_blocks
from explorer.costmodel.evaluate import evaluate
from explorer.costmodel.ops import RULES, input_grad_macs
from explorer.costmodel.procedure import procedure_cost
from explorer.costmodel.tables import layer_table
from explorer.design import DesignBatch, TrainingSetup
from explorer.device import load_device
from explorer.errors import SpecError
from explorer.family import build_policy
from explorer.phases import Distillation, Phase, Procedure
from explorer.session import Session

SEGMENTS = ("mu-train", "mu-finetune", "decoder-only", "full")
FRESH, REUSED, SWAPPED = "mu-distilled", "mu-distilled:reuse=1", "mu-distilled:trains=ends"
MACS = ("forward_macs", "input_grad_macs", "weight_grad_macs", "recompute_macs", "per_pass_macs")


def graph(**options):
    return catalog.load("model", "tdssm").build(**{name: str(v) for name, v in options.items()})


def session(policy="full", **rest):
    return Session(model="tdssm:d_model=16,length=256", device="radxa-zero", policy=policy, **rest)


def costs_of(*policies, setup=None):
    asked = session()
    built = [build_policy(asked._context, spec) for spec in policies]
    designs = DesignBatch.of(asked._context.axes, built, setup or TrainingSetup())
    return evaluate(asked.graph, asked.profile, designs)


@pytest.mark.parametrize("channels", [8, 24, 100])
@pytest.mark.parametrize("labels", [2, 6])
def test_parameters_have_closed_forms(channels, labels):
    network = graph(d_model=channels, labels=labels)
    middle = 2 * channels**2 + 6 * channels + 2 * 64 * channels
    command = int(0.4 * (20 - labels))
    inter = 20 - labels - command
    masks = inter * (channels + inter) + command * (inter + command) + labels * (command + labels)
    assert network.constant_count == masks
    assert network.parameter_count == middle + 13 * channels + 4 * (masks + 20)


def test_counts_of_a_state_space_are_those_of_its_transforms():
    network = graph(d_model=10, length=32)
    rule, layer = RULES["s4d"], network["middle.s4d"]
    transform = 10 * 2.5 * 64 * 6 / 2  # 2.5 n log2 n operations, two a multiply-accumulate
    product, skip, kernel = 10 * 33 * 3, 10 * 32, 10 * 32 * 32 * 2
    assert rule.macs(network, layer) == 2 * transform + product + skip
    assert rule.input_grad_macs(network, layer) == transform + product + skip
    assert rule.shared_grad_macs(network, layer) == transform
    assert rule.weight_grad_macs(network, layer) == product + skip
    assert rule.pass_macs(network, layer) == 3 * kernel + 2 * transform


def test_steps_of_the_recurrent_form():
    network = graph(d_model=10, length=32, form="recurrent")
    table = layer_table(network)
    at = network.weighted.index("middle.s4d")
    steps = 10 * 32 * 32 * 6
    assert table.forward_macs[at] == steps + 320
    assert table.weight_macs[at] == 2 * steps + 320
    assert dict(input_grad_macs(network, network["middle.s4d"])) == {
        ("encoder.linear",): 320,  # of the skip connection
        ("middle.s4d",): steps,  # of the adjoint states, for dX and for dW
    }
    assert not table.pass_macs.any()
    plain, recurrent = (
        Session(model=f"tdssm:form={form}", device="radxa-zero", policy="mu-train").cost()
        for form in ("fft", "recurrent")
    )
    # complex states of one sample in 64 of 4,096, and of the 64 samples between two of them
    states = 2 * 64 * 128 * 32 * 2 * 4
    saved = recurrent.memory["saved_activation_bytes"] - plain.memory["saved_activation_bytes"]
    assert saved == states


def test_the_spectrum_of_the_kernel_stays_in_memory():
    spectrum = 128 * 4097 * 8
    for policy in ("none", "mu-finetune"):
        costs = [
            Session(model=f"tdssm:form={form}", device="radxa-zero", policy=policy).cost()
            for form in ("fft", "recurrent")
        ]
        peaks = [cost.memory["peak_live_bytes"] for cost in costs]
        assert peaks[0] - peaks[1] == spectrum


def test_segments_train_what_their_names_say():
    trained = {}
    for policy in SEGMENTS:
        asked = session(policy)
        names = asked.chosen_policy.layer_names
        taken = asked.chosen_policy.slices
        trained[policy] = {name.split(".")[0] for name, n in zip(names, taken, strict=True) if n}
    assert trained == {
        "mu-train": {"middle"},
        "mu-finetune": {"encoder", "decoder"},
        "decoder-only": {"decoder"},
        "full": {"encoder", "middle", "decoder"},
    }


def test_a_transform_of_the_gradient_is_paid_once_by_whoever_needs_it():
    full, middle, ends = (costs_of(policy) for policy in ("full", "mu-train", "mu-finetune"))
    network = session().graph
    transform = RULES["s4d"].shared_grad_macs(network, network["middle.s4d"])
    assert full.weight_grad_macs == middle.weight_grad_macs + ends.weight_grad_macs
    assert full.input_grad_macs == ends.input_grad_macs
    rest = layer_table(network).forward_macs[network.weighted.index("middle.output")]
    above = middle.input_grad_macs - rest - transform
    assert 0 < above == costs_of("decoder-only").input_grad_macs + 4 * 9 * (16 + 9)


@pytest.mark.parametrize("batch", [1, 4])
def test_kernels_are_made_once_a_micro_batch_and_not_at_all_when_frozen(batch):
    costs = costs_of(*SEGMENTS, "none", setup=TrainingSetup(micro_batch=batch))
    made = layer_table(session().graph).pass_macs.sum()
    assert made > 0
    assert costs.per_pass_macs.tolist() == [made, 0, 0, made, 0]


@pytest.mark.parametrize("other", ["batch", "accumulated"])
def test_energy_counts_a_kernel_for_each_micro_batch(other):
    """By a device whose energy is that of multiply-accumulates alone."""
    asked = session("mu-train")
    kernels = asked.profile.kernels["fp32"].model_copy(
        update={"active_power_w": 0.0, "energy_j_per_mac": 1.0}
    )
    device = asked.profile.model_copy(update={"kernels": {"fp32": kernels}})
    setup = TrainingSetup(micro_batch=4)
    passes = 1
    if other == "accumulated":
        setup, passes = TrainingSetup(micro_batch=2, accumulation_steps=2), 2
    designs = DesignBatch.of(asked._context.axes, [asked.chosen_policy], setup)
    costs = evaluate(asked.graph, device, designs)
    sample = costs.forward_macs + costs.input_grad_macs + costs.weight_grad_macs
    assert costs.step_energy_j == pytest.approx(4 * sample + passes * costs.per_pass_macs)


def test_a_distilled_step_is_two_steps_and_an_inference():
    fresh, reused, middle, ends, swapped = (
        costs_of(policy) for policy in (FRESH, REUSED, "mu-train", "mu-finetune", SWAPPED)
    )
    assert fresh.forward_macs == 3 * middle.forward_macs
    assert reused.forward_macs == 2 * middle.forward_macs
    for name in MACS[1:]:
        summed = getattr(middle, name) + getattr(ends, name)
        for costs in (fresh, reused, swapped):
            assert getattr(costs, name) == summed
    inference_s = fresh.step_time_s - reused.step_time_s
    assert inference_s > 0
    assert fresh.step_time_s == pytest.approx(middle.step_time_s + ends.step_time_s + inference_s)
    assert fresh.trained_parameter_count == middle.trained_parameter_count


@pytest.mark.parametrize("timing", ["fused", "deferred"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_memory_of_a_look_ahead(timing, optimizer):
    setup = TrainingSetup(micro_batch=3, update_timing=timing, optimizer=optimizer)
    fresh, reused, middle, ends, full = (
        costs_of(policy, setup=setup)
        for policy in (FRESH, REUSED, "mu-train", "mu-finetune", "full")
    )
    copies = 4 * ends.trained_parameter_count
    assert fresh.weight_bytes == middle.weight_bytes + copies
    assert fresh.optimizer_bytes == full.optimizer_bytes
    assert fresh.saved_activation_bytes == middle.saved_activation_bytes
    assert reused.saved_activation_bytes == full.saved_activation_bytes
    later = max(middle.peak_live_bytes[0], ends.peak_live_bytes[0])
    assert later < fresh.peak_live_bytes < later + 40 * copies
    assert reused.peak_live_bytes >= full.peak_live_bytes


@pytest.mark.parametrize("policy", [FRESH, REUSED, SWAPPED])
@pytest.mark.parametrize("setup", [{}, {"batch": 8}, {"batch": 8, "micro_batch": 2}])
def test_a_distilled_design_is_one_everywhere(policy, setup):
    """Arena, memory map, rows of operators and intervals belong to the same step."""
    asked = session(policy, optimizer="adam", **setup)
    cost, shown = asked.cost(), asked.memory_map()
    assert cost.memory["peak_live_bytes"] <= cost.memory["arena_bytes"] == shown.arena_bytes
    assert shown.live_bytes.max() == cost.memory["peak_live_bytes"]
    in_map = np.zeros(len(shown.step_labels))
    for buffer, _ in shown.placed:
        in_map[buffer.birth : buffer.death] += buffer.size_bytes
    np.testing.assert_allclose(in_map, shown.live_bytes, atol=len(shown.placed))
    for name, total in cost.macs.items():
        assert sum(row[f"{name}_macs"] for row in cost.layer_rows) == pytest.approx(total)
    saved = sum(row["saved_bytes"] for row in cost.layer_rows)
    assert saved == pytest.approx(cost.memory["saved_activation_bytes"])
    assert sum(row["time_s"] for row in cost.layer_rows) == pytest.approx(cost.step_time_s)
    interval = cost.provenance["step.time_s"]
    assert interval.low <= cost.step_time_s <= interval.high


def test_rows_of_a_batch_do_not_see_each_other():
    policies = ["none", FRESH, "mu-train", REUSED, "full", SWAPPED]
    whole = costs_of(*policies)
    for row, policy in enumerate(policies):
        alone = costs_of(policy)
        for name in whole.columns():
            if name != "arena_bytes":
                assert getattr(whole, name)[row] == pytest.approx(getattr(alone, name)[0])


def test_a_document_keeps_the_look_ahead(tmp_path):
    asked = session(f"{FRESH}:alpha=0.4,reuse=1")
    path = tmp_path / "policy.json"
    path.write_text(asked.export().to_json())
    again = asked.with_policy(str(path))
    assert again.chosen_policy.distillation == Distillation(
        soft_label_ratio=0.4, reuse_forward=True
    )
    assert again.cost().macs == asked.cost().macs


def test_options_out_of_range_are_named():
    with pytest.raises(SpecError, match="alpha"):
        session().with_policy(f"{FRESH}:alpha=1.5")
    for option, bad in (("d_model", "0"), ("length", "x"), ("form", "slow"), ("labels", "17")):
        with pytest.raises(SpecError, match=option):
            graph(**{option: bad})
    digits = Session(model="digits-cnn", policy="none")
    with pytest.raises(SpecError, match="no encoder"):
        digits.with_policy("mu-train")


def test_radxa_zero_is_where_it_runs():
    entry = catalog.load("model", "tdssm")
    assert entry.DEVICE == "radxa-zero"
    profile = load_device(entry.DEVICE)
    cost = Session(model="tdssm", device=entry.DEVICE, policy="mu-finetune", batch=32).cost()
    assert profile.default_precision == "fp32"
    assert cost.fits_all


def test_a_procedure_costs_the_sum_of_its_phases_and_the_highest_peak():
    asked = session(batch=4, samples=10, optimizer="adam")
    whole = asked.procedure("sandwich")
    assert whole.policies == ("mu-train", "full", "mu-train")
    assert whole.steps.tolist() == [150, 600, 150]  # three steps an epoch
    parts = [session(policy, batch=4, optimizer="adam").cost() for policy in whole.policies]
    seconds = [part.step_time_s * n for part, n in zip(parts, whole.steps, strict=True)]
    assert whole.time_s == pytest.approx(seconds)
    assert whole.spending.time_s.value == pytest.approx(sum(seconds))
    assert whole.spending.energy_j.value == pytest.approx(whole.energy_j.sum())
    assert whole.whole_peak_bytes == max(part.memory["peak_live_bytes"] for part in parts)
    assert whole.to_frame()["policy"].tolist() == list(whole.policies)
    low, high = whole.spending.time_s.interval()
    assert low < sum(seconds) < high


def test_distilling_costs_half_as_much_again_as_the_epochs_it_replaces():
    """Half of 300 epochs at 2.03 times the work: the integrated procedure against full training."""
    asked = Session(model="tdssm", device="radxa-zero", batch=32, samples=32)
    distilled, plain = asked.procedure("integrated"), asked.procedure("standard")
    assert distilled.steps.sum() == plain.steps.sum() == 300
    assert distilled.macs.sum() / plain.macs.sum() == pytest.approx((1 + 2.03) / 2, rel=0.01)


def test_a_procedure_needs_a_policy_for_each_phase():
    asked = session()
    procedure = Procedure(phases=(Phase(policy="full", epoch_count=1),))
    with pytest.raises(SpecError, match="one a phase"):
        procedure_cost(
            asked.graph, asked.profile, asked.designs.take(np.array([0, 0])), procedure, 4
        )
    with pytest.raises(SpecError, match="integrated"):
        asked.procedure("none such")


def test_signals_have_no_adapters():
    assert adapter_blocks(graph()) == ()
    with pytest.raises(SpecError, match="tinytl"):
        session().with_policy("tinytl")
