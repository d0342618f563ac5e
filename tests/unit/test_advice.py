"""Inverse questions agree with asking forwards."""

import json
from collections import Counter
from pathlib import Path

import pytest

from explorer import advice as advice_module
from explorer.cli import run
from explorer.device import load_device
from explorer.session import Session

FUSED_FITS = {
    "model": "digits-cnn",
    "device": "stm32f746",
    "policy": "full",
    "precision": "fp32",
    "update_timing": "deferred",
    "reserve_bytes": 60_000,
}
FLASH_DECIDES = {
    "model": "mcunet-5fps:resolution=48",
    "device": "stm32f746",
    "precision": "fp32",
    "policy": "none",
}
ONLY_A_PAIR_FITS = {
    "model": "digits-cnn",
    "device": "gap9",
    "policy": "full",
    "batch": 32,
    "optimizer": "adam",
    "reserve_bytes": 1_250_000,
}
LARGE_BATCH = {"model": "mbv2-w0.35", "device": "pi-zero-2w", "policy": "full", "batch": 512}


def changed(session, setting):
    """The session with the settings of a change."""
    for part in setting.split(", "):
        key, _, value = part.partition("=")
        if key == "micro_batch":
            session = session.with_batch(session.batch, int(value))
        else:
            session = getattr(session, f"with_{key}")(value)
    return session


@pytest.mark.parametrize(
    ("question", "largest"),
    [
        ({"model": "digits-cnn", "device": "stm32f746", "batch": 12, "policy": "full"}, 4),
        (FUSED_FITS, 0),
        (FUSED_FITS | {"update_timing": "fused"}, 1),
        (LARGE_BATCH, 64),
        (
            {
                "model": "mcunet-5fps",
                "device": "gap9",
                "policy": "last-k:k=8",
                "precision": "int8",
                "batch": 8,
                "micro_batch": 1,
            },
            0,
        ),
        (
            {
                "model": "mcunet-5fps",
                "device": "stm32h743",
                "policy": "sparse-update:scheme=99kb",
                "batch": 8,
                "micro_batch": 1,
            },
            1,
        ),
    ],
)
def test_largest_micro_batch_divides_the_batch_and_no_larger_one_fits(question, largest):
    session = Session(**question)
    fitting = [
        micro
        for micro in range(1, session.batch + 1)
        if session.batch % micro == 0 and session.with_batch(session.batch, micro).cost().fits_all
    ]
    advice = session.advise()
    expected = max(fitting, default=0)
    if session.batch == 1:
        expected = advice.largest_batch_count
    assert advice.largest_micro_batch_count == expected == largest
    if session.batch > 1 and advice.largest_batch_count:
        assert f"{largest or 'none'} of a batch of {session.batch}" in advice.sentences[0]


@pytest.mark.parametrize(
    "question",
    [
        {},
        {"device": "pi-zero-2w", "policy": "full"},
        {"model": "digits-cnn", "device": "stm32f746", "policy": "full", "batch": 12},
        {"model": "mbv2-w0.35", "device": "stm32f746", "policy": "full"},
    ],
)
def test_one_more_than_the_largest_batch_does_not_fit(question):
    session = Session(**question)
    largest = session.advise().largest_batch_count
    assert not session.with_batch(largest + 1).cost().fits_all
    assert largest == 0 or session.with_batch(largest).cost().fits_all


def test_devices_that_fit_come_smallest_first():
    advice = Session(model="mcunet-5fps", device="stm32f746", policy="full").advise()
    sizes = [load_device(name).level("data").usable_bytes for name in advice.devices]
    assert sizes == sorted(sizes)
    assert advice.smallest_device == advice.devices[0]
    assert "stm32f746" not in advice.devices


def test_devices_are_asked_in_the_precision_asked_for_where_they_have_it():
    session = Session(model="mcunet-5fps", device="stm32f746", policy="none", precision="fp32")
    advice = session.advise()
    assert "stm32f746" not in advice.devices
    for device, precision in zip(advice.devices, advice.precisions, strict=True):
        has_it = "fp32" in load_device(device).kernels
        assert precision == ("fp32" if has_it else load_device(device).default_precision)
        assert session.with_device(device).cost().fits_all
    assert advice.sentences[1].endswith(f"{advice.smallest_device} in {advice.precisions[0]}")


def test_a_precision_the_smallest_device_lacks_is_not_claimed():
    session = Session(model="digits-cnn", device="jetson-nano", policy="none", precision="fp16")
    advice = session.advise()
    profile = load_device(advice.smallest_device)
    assert "fp16" not in profile.kernels
    assert advice.precisions[0] == profile.default_precision


def test_a_board_of_the_users_own_is_among_the_devices(tmp_path):
    text = (Path(advice_module.__file__).parent / "devices" / "gap9.toml").read_text("utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(text.replace('name = "gap9"', 'name = "mine"', 1), "utf-8")
    advice = Session(model="digits-cnn", device=str(path), policy="last-layer").advise()
    assert str(path) in advice.devices


@pytest.mark.parametrize(
    "question",
    [
        FUSED_FITS | {"update_timing": "fused", "reserve_bytes": 150_000},
        FUSED_FITS | {"update_timing": "fused", "reserve_bytes": 150_000, "optimizer": "adam"},
        FUSED_FITS | {"reserve_bytes": 150_000, "optimizer": "adam", "batch": 8},
        FUSED_FITS,
        FLASH_DECIDES,
        ONLY_A_PAIR_FITS,
        LARGE_BATCH,
        {"model": "digits-cnn", "device": "gap9", "norm": "bn", "batch": 6, "policy": "tinytl"},
        {"model": "mcunet-5fps", "device": "stm32h743", "batch": 8, "policy": "last-k:k=6"},
    ],
)
def test_every_change_does_what_it_says(question):
    session = Session(**question)
    now = session.cost()
    advice = session.advise()
    assert [fit.to_dict() for fit in advice.fits] == [fit.to_dict() for fit in now.fits]
    assert advice.changes
    for change in advice.changes:
        then = changed(session, change.setting).cost()
        assert then.fits_all == change.fits, change.setting
        need = "peak_live_bytes" if change.level == now.fits[0].level else "flash_bytes"
        saved = now.memory[need] - then.memory[need]
        assert saved == pytest.approx(change.saved_bytes, rel=1e-12)
        assert change.saved_bytes > 0
        assert then.memory["peak_live_bytes"] == pytest.approx(change.peak_live_bytes, rel=1e-12)
        assert then.step_time_s == pytest.approx(change.step_time_s, rel=1e-12)
        assert then.step_time_s / now.step_time_s == pytest.approx(change.time_ratio)
        assert then.trained_parameters == change.trained_parameter_count
    fitting = [change.fits for change in advice.changes]
    assert fitting == sorted(fitting, reverse=True)


def test_a_verdict_between_live_bytes_and_arena_is_that_of_the_arena():
    session = Session(model="proxyless-w0.3", device="stm32h743", policy="full")
    target = session.with_policy("bias-only:last=12")
    memory = target.cost().memory
    assert memory["arena_bytes"] > memory["peak_live_bytes"]
    usable_bytes = session.profile.ram.usable_bytes
    for needed, fits in (
        (memory["arena_bytes"], True),
        (memory["arena_bytes"] - 1, False),
        (memory["peak_live_bytes"], False),
    ):
        tight = session.with_limits(reserve_bytes=int(usable_bytes - needed))
        verdicts = {change.setting: change.fits for change in tight.advise().changes}
        assert verdicts["policy=bias-only:last=12"] is fits


def test_a_deferred_misfit_is_offered_the_fused_update():
    session = Session(**FUSED_FITS)
    assert not session.cost().fits_all
    changes = {change.setting: change for change in session.advise().changes}
    assert changes["update_timing=fused"].fits


def test_bytes_saved_are_of_the_level_that_decides():
    session = Session(**FLASH_DECIDES)
    ram, flash = session.cost().fits
    assert ram.fits
    assert not flash.fits
    changes = session.advise().changes
    assert {change.level for change in changes} == {flash.level}
    (change,) = [change for change in changes if change.fits]
    assert change.setting == "precision=int8"
    then = session.with_precision("int8").cost()
    assert change.saved_bytes == flash.needed_bytes - then.fits[1].needed_bytes
    assert f"of {flash.level}" in change.sentence


def test_the_largest_split_that_fits_is_offered_first():
    advice = Session(**LARGE_BATCH).advise()
    splits = [change for change in advice.changes if change.setting.startswith("micro_batch")]
    assert [change.setting for change in splits] == ["micro_batch=64", "micro_batch=1"]
    assert splits[0].step_time_s < splits[1].step_time_s


def test_another_accounting_does_not_change_the_advice():
    session = Session(policy="full", batch=100, micro_batch=1, device="gap9")
    told = Session(**{**session.__getstate__(), "accounting": "tinytrain"}).advise()
    assert told == session.advise()


def test_a_pair_of_changes_is_offered_when_no_single_one_fits():
    changes = Session(**ONLY_A_PAIR_FITS).advise().changes
    fitting = [change for change in changes if change.fits]
    assert fitting
    assert all("," in change.setting for change in fitting)


def test_changes_are_screened_in_batches_and_few_are_placed(monkeypatch):
    screened, placed = [], []
    evaluate, place_rows = advice_module.evaluate, advice_module.place_rows

    def counted_evaluate(graph, device, designs):
        screened.append(((graph, device, designs.setup), len(designs)))
        return evaluate(graph, device, designs)

    def counted_place_rows(graph, device, costs, rows, enough_bytes=0):
        placed.append(float(costs.peak_live_bytes[0]))
        return place_rows(graph, device, costs, rows, enough_bytes)

    monkeypatch.setattr(advice_module, "evaluate", counted_evaluate)
    monkeypatch.setattr(advice_module, "place_rows", counted_place_rows)
    session = Session(
        model="digits-cnn", device="stm32f746", batch=64, policy="full", optimizer="adam"
    ).with_limits(reserve_bytes=300_000)
    assert not session.advise().changes[0].fits
    design_count = sum(count for _, count in screened)
    assert design_count > 100
    repeats = Counter(question for question, _ in screened).most_common(1)[0][1]
    assert repeats <= len(("as it is", "one change", "two changes", "devices"))
    assert len(placed) < design_count / 10


def test_a_question_that_cannot_be_asked_is_refused_in_one_sentence(capsys):
    assert run(["advise", "digits-cnn", "gap9", "--policy", "bias-only:last=99"]) == 2
    assert "allowed: a whole number" in capsys.readouterr().err


def test_terminal_prints_the_advice(capsys):
    assert run(["advise", "mcunet-5fps", "gap9", "--batch", "8", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {
        "fits",
        "largest_batch",
        "largest_micro_batch",
        "smallest_device",
        "devices",
        "precisions",
        "changes",
    }
    assert any(", " in change["setting"] for change in answer["changes"])
    assert run(["advise", "mcunet-5fps", "gap9", "--batch", "8"]) == 0
    printed = capsys.readouterr().out
    assert "smallest device" in printed
    assert "not even one sample at a time fits" in printed
    assert "single change" not in printed


def test_a_batch_norm_is_split_only_together_with_another_norm():
    """Its micro-batches do not add up to the batch; those of a group norm do."""
    baseline = Session(model="mi-bminet").with_policy("biotrain-full-bn")
    settings = [change.setting for change in baseline.advise().changes]
    splits = [setting for setting in settings if "micro_batch" in setting]
    assert splits
    assert all("norm=gn" in setting for setting in splits)
    assert len(splits) == len({setting.split(",")[0] for setting in splits}) <= 2
    assert baseline.advise().largest_micro_batch_count == 0
    inference = baseline.with_policy("none")
    assert inference.advise().largest_micro_batch_count == 2
