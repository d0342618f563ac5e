"""A whole session: steps, the pass that selects, the samples kept; and what nothing can test."""

from dataclasses import replace

import pytest

from explorer import catalog
from explorer.app.answer import verdict_html
from explorer.costmodel.adaptation import Plan
from explorer.costmodel.detail import report
from explorer.design import TrainingSetup
from explorer.device import DeviceProfile, load_device
from explorer.errors import SpecError
from explorer.graph import INPUT
from explorer.session import Session
from tests.helpers import Net, batch_of, policy_of

GAP9 = load_device("gap9")


def two_layers():
    net = Net(4, 6, 6)
    net.linear(net.pool(net.conv(INPUT, "conv", 8, kernel=3, bias=False)), "head", 5, bias=False)
    return net.graph("two")


def session_of(selection="first", plan=None, share=(0, 1), **setup):
    graph = two_layers()
    policy = replace(policy_of(graph, list(share)), selection=selection)
    designs = batch_of(graph, policy, setup=TrainingSetup(**setup))
    cost = report(graph, GAP9, designs, plan=plan or Plan())
    return cost, cost.session


@pytest.mark.parametrize("selection", ["fisher", "gradient"])
def test_selection_is_one_pass_back_to_the_first_layer(selection):
    """dX of the head, not of the first layer; 7 samples are 3 micro-batches of 3."""
    cost, session = session_of(selection, Plan(steps=10, samples=7), micro_batch=3)
    rates, hertz, batch = GAP9.kernels["fp32"], GAP9.clock_hz, 3
    overhead_s = rates.layer_overhead_cycles / hertz
    element_s = 1 / (rates.elements_per_cycle * hertz)
    conv_s = batch * 8 * 4 * 9 * 36 / (rates.conv_macs_per_cycle * hertz)
    head_s = max(
        batch * 8 * 5 / (rates.linear_macs_per_cycle * hertz), 8 * 5 * 4 / rates.weight_bytes_per_s
    )
    pool_s = batch * 8 * element_s
    forward_s = conv_s + head_s + pool_s + 2 * overhead_s
    back_s = (head_s + overhead_s) / rates.input_grad_speed_ratio + pool_s
    assert session["selection_time_s"] == pytest.approx(3 * (forward_s + back_s), rel=1e-12)
    whole_s = 10 * cost.step_time_s + session["selection_time_s"]
    assert session["time_s"] == pytest.approx(whole_s, rel=1e-12)
    assert session["energy_j"] == pytest.approx(whole_s * rates.active_power_w, rel=1e-12)
    entry = cost.provenance["session.time_s"]
    assert entry.low < session["time_s"] < entry.high


@pytest.mark.parametrize("selection", ["first", "random", "magnitude"])
def test_what_needs_no_gradient_selects_for_nothing(selection):
    cost, session = session_of(selection, Plan(steps=3, samples=2))
    assert session["selection_time_s"] == 0
    assert session["time_s"] == pytest.approx(3 * cost.step_time_s)
    assert session["passes"] == 1.5


@pytest.mark.parametrize(("batch", "steps"), [(1, 1000), (25, 40), (8, 125), (30, 34)])
def test_by_default_every_sample_is_seen_forty_times(batch, steps):
    session = session_of(micro_batch=batch)[1]
    assert (session["steps"], session["samples"]) == (steps, 25)
    assert session["passes"] == steps * batch / 25 >= 40


def test_training_nothing_takes_no_step():
    session = session_of("fisher", share=(0, 0))[1]
    assert (session["steps"], session["time_s"], session["energy_j"]) == (0, 0, 0)


@pytest.mark.parametrize(("precision", "word_bytes"), [("fp32", 4), ("fp16", 2), ("int8", 1)])
def test_samples_are_kept_in_the_precision_with_a_label_each(precision, word_bytes):
    session = session_of(plan=Plan(samples=6), precision=precision)[1]
    assert session["sample_bytes"] == 6 * (4 * 6 * 6 * word_bytes + 2)


def test_a_session_passes_its_plan_on():
    session = Session(model="digits-cnn", policy="last-k:k=2", steps=7, samples=3)
    assert session.cost().session["steps"] == 7
    assert session.candidate_cost(session.chosen(), 0).session["samples"] == 3
    for wrong in ({"steps": 0}, {"samples": 0}):
        with pytest.raises(SpecError, match=next(iter(wrong))):
            replace(session, **wrong)


def test_a_session_against_another():
    full = Session(model="digits-cnn", policy="full", batch=4)
    last = full.with_policy("last-layer").against(full)
    assert (last.policy, last.p_faster, last.p_less_energy) == ("full", 1.0, 1.0)
    ours, theirs = (session.cost().step_time_s for session in (full.with_policy("none"), full))
    assert full.with_policy("none").against(full).time_ratio == pytest.approx(ours / theirs)
    twice = replace(full, batch=8, micro_batch=4)
    assert full.against(twice).time_ratio > 1  # a sample's share, of a step with one update less
    assert full.against(full.with_device("pi-zero-2w")).p_faster < 0.1


# what no measurement can test


def test_an_untested_precision_the_device_lacks_is_refused():
    text = catalog.read("device", "radxa-zero")
    with pytest.raises(SpecError, match=r"untested\.int8: there is no kernels\.int8"):
        DeviceProfile.from_toml(text.replace("[untested]\nfp32", "[untested]\nint8"))
    with pytest.raises(SpecError, match="untested"):
        DeviceProfile.from_toml(text.replace('"inference time", ', '"mood", '))


def test_the_face_says_so_only_where_it_matters():
    pi = Session(model="digits-cnn", device="pi-zero-2w", policy="last-layer")
    said = "no published measurement can test the training time of pi-zero-2w in fp32"
    assert pi.cost().warnings == (said,)
    assert said in verdict_html(pi.cost(), "x", "")
    assert pi.with_policy("none").cost().warnings == ()
    assert Session(model="digits-cnn", device="gap9", policy="full").cost().warnings == ()
    radxa = pi.with_device("radxa-zero")
    assert "training time or the energy of radxa-zero" in radxa.cost().warnings[0]
    assert "inference time or the energy" in radxa.with_policy("none").cost().warnings[0]
