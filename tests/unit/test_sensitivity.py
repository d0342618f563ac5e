"""Which number of a device decides: a closed form, a changed device that turns the order."""

from dataclasses import replace

import numpy as np
import pytest

from explorer.app.advice_bar import AdviceBar
from explorer.app.answer_pane import AnswerPane
from explorer.app.bars import MeasureBar
from explorer.app.rival import compared_html, decider_words, rival_of, value_text
from explorer.app.view import Selection, View, selection_of
from explorer.costmodel.evaluate import evaluate
from explorer.costmodel.sensitivity import QUANTILE, Contender, DeviceNumber, decider
from explorer.costmodel.uncertainty import _log_factors
from explorer.design import DesignBatch, LayerAxes, TrainingSetup, nothing
from explorer.device import DeviceProfile, load_device
from explorer.graph import LayerSpec, ModelGraph
from explorer.provenance import Kind
from explorer.session import Session
from tests.helpers import SOURCE

FREE = {  # a device on which nothing but two rates takes time
    "elements_per_cycle": 1e6,
    "layer_overhead_cycles": 0.0,
    "weight_bytes_per_s": 1e15,
    "input_grad_speed_ratio": 1.0,
    "weight_grad_speed_ratio": 1.0,
    "trainer_speed_ratio": 1.0,
    "energy_j_per_mac": 0.0,
    "active_power_w": 0.05,
    "pointwise_macs_per_cycle": 2.0,
    "depthwise_macs_per_cycle": 0.5,
    "conv_macs_per_cycle": 1.0,
    "linear_macs_per_cycle": 1.0,
}


def device_with(spreads: dict[str, float], **rates: float) -> DeviceProfile:
    """Every number known but those given a spread."""
    numbers = FREE | rates
    lines = "\n".join(f"{name} = {float(value)!r}" for name, value in numbers.items())
    unsure = "\n".join(
        f'[[source]]\nkind = "assumed"\ncite = "made up for {name}"\n'
        f'fields = ["kernels.fp32.{name}"]\nplus_minus_ratio = {spread}\n'
        for name, spread in spreads.items()
    )
    return DeviceProfile.from_toml(
        'name = "made-up"\nsummary = ""\ncore = ""\nclock_hz = 1e6\n'
        'default_precision = "fp32"\n'
        '[[memory]]\nname = "RAM"\nholds = "data"\n'
        "size_bytes = 1000000000\nusable_bytes = 1000000000\n"
        f"[kernels.fp32]\n{lines}\n"
        '[[source]]\nkind = "measured"\ncite = "known"\n'
        'fields = ["clock_hz", "memory", "kernels"]\n' + unsure
    )


def one_layer(name: str, channels: int, groups: int) -> ModelGraph:
    """A single 1x1 or depthwise layer over 4 x 4."""
    kernel = (1, 1) if groups == 1 else (3, 3)
    padding = (kernel[0] // 2,) * 2
    layer = LayerSpec(
        name="layer",
        op="conv2d",
        out_shape=(channels, 4, 4),
        kernel=kernel,
        padding=padding,
        groups=groups,
    )
    return ModelGraph(name, (channels, 4, 4), (layer,), SOURCE)


def inference(graph: ModelGraph, device: DeviceProfile) -> Contender:
    axes = LayerAxes.of(graph)
    return Contender(
        graph=graph, device=device, designs=DesignBatch.of(axes, [nothing(axes)], TrainingSetup())
    )


def test_two_layers_of_one_rate_each_have_a_closed_form():
    """t1 = m1 / r1 and t2 = m2 / r2: the wider rate decides and the order turns at equal times."""
    spreads = {"pointwise_macs_per_cycle": 0.1, "depthwise_macs_per_cycle": 0.5}
    device = device_with(spreads)
    wide, deep = one_layer("wide", 16, 1), one_layer("deep", 16, 16)
    wide_macs, deep_macs = 16 * 16 * 16, 16 * 9 * 16
    found = decider(inference(deep, device), inference(wide, device))
    assert found.number.path == "kernels.fp32.depthwise_macs_per_cycle"
    assert found.number.kind is Kind.ASSUMED
    factor = 1.5**QUANTILE
    assert (found.number.low, found.number.high) == pytest.approx((0.5 / factor, 0.5 * factor))
    ratio = (deep_macs / 0.5) / (wide_macs / 2.0)
    assert found.now_ratio == pytest.approx(ratio, rel=1e-4)
    assert found.low_ratio == pytest.approx(ratio * factor, rel=1e-4)
    assert found.high_ratio == pytest.approx(ratio / factor, rel=1e-4)
    assert found.turns_at is None
    faster = device_with(spreads, depthwise_macs_per_cycle=1.0)
    found = decider(inference(deep, faster), inference(wide, faster))
    assert found.turns_at == pytest.approx(2.0 * deep_macs / wide_macs, rel=0.01)


def test_no_spread_no_decider():
    device = device_with({})
    one, other = one_layer("wide", 16, 1), one_layer("deep", 16, 16)
    assert decider(inference(one, device), inference(other, device)) is None


def test_what_is_the_same_is_moved_by_nothing():
    device = device_with({"pointwise_macs_per_cycle": 0.5})
    one = inference(one_layer("wide", 16, 1), device)
    assert decider(one, one) is None


PAIRS = [
    ("mcunet-5fps", "gap9", "fp32", "last-k:k=8", "sparse-update:scheme=99kb"),
    ("mcunet-5fps", "gap9", "fp32", "last-k:k=4", "bias-only:last=12"),
    ("mbv2-w0.35", "gap9", "fp32", "last-k:k=8", "tinytl"),
    ("proxyless-w0.3", "stm32h743", "int8", "last-k:k=4", "bias-only:last=12"),
    ("mcunet-5fps", "gap9", "fp32", "full", "tinytl"),
]


@pytest.mark.parametrize(("model", "name", "precision", "mine", "theirs"), PAIRS)
def test_a_device_with_that_number_changed_has_the_ratio_and_the_order_said(
    model, name, precision, mine, theirs
):
    session = Session(model=model, device=name, precision=precision)
    designs = [session.with_policy(spec).designs for spec in (mine, theirs)]
    device = session.profile
    found = decider(
        *(Contender(graph=session.graph, device=device, designs=one) for one in designs)
    )

    def ratio(changed: DeviceProfile) -> float:
        costs = [evaluate(session.graph, changed, one) for one in designs]
        values = [c.step_time_s if found.quantity == "time" else c.step_energy_j for c in costs]
        return float(values[0][0] / values[1][0])

    def at(value: float) -> DeviceProfile:
        return with_number(device, found.number.path, value)

    assert ratio(device) == pytest.approx(found.now_ratio)
    assert ratio(at(found.number.low)) == pytest.approx(found.low_ratio)
    assert ratio(at(found.number.high)) == pytest.approx(found.high_ratio)
    inside = np.geomspace(found.number.low, found.number.high, 21)
    turned = [np.sign(np.log(ratio(at(v)))) != np.sign(np.log(found.now_ratio)) for v in inside]
    if found.turns_at is None:
        assert not any(turned)
    else:
        assert (ratio(at(found.turns_at)) - 1) * (found.now_ratio - 1) < 0
        nearer = found.turns_at + 0.02 * (found.number.value - found.turns_at)
        assert (ratio(at(nearer)) - 1) * (found.now_ratio - 1) > 0


def with_number(device: DeviceProfile, path: str, value: float) -> DeviceProfile:
    head, _, name = path.rpartition(".")
    if not head:
        return device.model_copy(update={name: value})
    kind, _, where = head.partition(".")
    if kind == "memory":
        levels = tuple(
            level.model_copy(update={name: value}) if level.name == where else level
            for level in device.memory
        )
        return device.model_copy(update={"memory": levels})
    kernels = device.kernels[where].model_copy(update={name: value})
    return device.model_copy(update={"kernels": {**device.kernels, where: kernels}})


def test_the_interval_is_that_of_the_draws():
    """0.9 of the draws of one number lie between its ends."""
    device = load_device("gap9")
    path = "kernels.fp32.depthwise_macs_per_cycle"
    spread = device.find_block(path).plus_minus_ratio
    inside = np.abs(_log_factors(device, path)[1:]) < QUANTILE * np.log1p(spread)
    assert inside.mean() == pytest.approx(0.9, abs=0.02)


def view_of(session: Session) -> View:
    return View(
        session=session, cost=session.cost(), chosen=session.chosen(), known=session.compare()
    )


def test_the_rival_is_the_newest_pin_or_the_nearest_of_the_front():
    view = view_of(Session(model="digits-cnn"))
    chosen = selection_of(view)
    rival = rival_of(view, chosen, ())
    assert rival.table.on_front[rival.row]
    mine = chosen.table.memory_bytes[0], chosen.table.step_energy_j[0]
    assert (rival.table.memory_bytes[rival.row], rival.table.step_energy_j[rival.row]) != mine
    pin = Selection(session=view.session, label="pinned", table=view.known, row=0)
    assert rival_of(view, chosen, (pin, chosen)) is pin
    assert rival.label in compared_html(view, chosen, rival, None)
    assert compared_html(view, chosen, None, None) == ""


def test_a_rival_that_is_the_choice_makes_one_sentence_of_two():
    view = view_of(Session(model="digits-cnn", policy="last-layer"))
    known = view.known.labels
    chosen, same, other = (
        Selection(session=view.session, label=label, table=view.known, row=known.index(label))
        for label in ("full", "last-layer", "none")
    )
    against = view.session.against(view.session, chosen.table, chosen.row)
    chances = "against your choice last-layer: faster with probability under 0.01, less energy with"
    for rival, count in ((same, 1), (other, 2), (None, 1)):
        text = compared_html(view, chosen, rival, against)
        assert text.count(chances) == 1
        assert text.count("against ") == text.count('class="note"') == count
    assert "what would change that most" in compared_html(view, chosen, same, against)
    assert "against none, " in compared_html(view, chosen, other, against)


def test_the_answer_says_it_and_follows_what_is_pinned():
    view = view_of(Session(model="digits-cnn"))
    pane = AnswerPane(MeasureBar(), AdviceBar(lambda: view, print))
    pane.show(view)
    assert pane.decider.value == ""
    pane.complete(view)
    first = pane.decider.value
    assert rival_of(view, selection_of(view), ()).label in first
    pins = [
        Selection(session=view.session, label=f"pin {row}", table=view.known, row=row)
        for row in range(2)
    ]
    pane.complete(view, pins)
    assert "against pin 1, " in pane.decider.value
    elsewhere = Session(model="tdssm", device="radxa-zero")
    pin = Selection(session=elsewhere, label="full", table=elsewhere.chosen(), row=0)
    pane.complete(view, [pin])
    assert "against full of tdssm on radxa-zero, " in pane.decider.value
    pane.complete(view)
    assert pane.decider.value == first


def test_the_sentence_has_number_interval_kind_and_turn():
    device = device_with(
        {"pointwise_macs_per_cycle": 0.1, "depthwise_macs_per_cycle": 0.5},
        depthwise_macs_per_cycle=1.0,
    )
    one, other = one_layer("deep", 16, 16), one_layer("wide", 16, 1)
    found = decider(inference(one, device), inference(other, device))
    words = decider_words(found, "<b>")
    assert "depthwise MACs per cycle of made-up in fp32, 1 (assumed, 90 %: 0.513 to 1.95)" in words
    assert f"at {found.turns_at:.3g} and above the selection takes less" in words
    assert "the order stays" in decider_words(replace(found, turns_at=None), "x")
    still = replace(found, low_ratio=found.now_ratio, high_ratio=found.now_ratio)
    assert "no number of made-up moves that by 1 %" in decider_words(still, "x")


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("clock_hz", 370e6, "370 MHz"),
        ("kernels.fp32.weight_bytes_per_s", 2.0**30, "1,024 MiB/s"),
        ("kernels.fp32.active_power_w", 0.047, "47 mW"),
        ("kernels.int8.energy_j_per_mac", 4.6e-12, "4.6 pJ"),
        ("kernels.fp32.thin_overhead_cycles", 260_000.0, "260 k"),
        ("kernels.fp32.conv_macs_per_cycle", 2.3, "2.3"),
    ],
)
def test_numbers_are_written_in_their_units(path, value, text):
    number = DeviceNumber(
        device="d", path=path, value=value, low=value, high=value, kind=Kind.ASSUMED
    )
    assert value_text(number, value) == text
