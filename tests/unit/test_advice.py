"""Inverse questions agree with asking forwards."""

import json

import pytest

from explorer.cli import run
from explorer.device import load_device
from explorer.session import Session


def test_largest_micro_batch_fits_and_one_more_does_not():
    session = Session(model="digits-cnn", device="stm32f746", policy="full")
    largest = session.advise().largest_micro_batch_count
    assert largest > 1
    assert session.with_batch(largest).cost().fits_all
    assert not session.with_batch(largest + 1).cost().fits_all


def test_no_micro_batch_when_one_sample_is_too_much():
    session = Session(model="mcunet-5fps", device="stm32f746", policy="full")
    assert session.advise().largest_micro_batch_count == 0


def test_devices_that_fit_come_smallest_first():
    advice = Session(model="mcunet-5fps", device="stm32f746", policy="full").advise()
    sizes = [load_device(name).level("data").usable_bytes for name in advice.devices]
    assert sizes == sorted(sizes)
    assert advice.smallest_device == advice.devices[0]
    assert "stm32f746" not in advice.devices


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_every_change_does_what_it_says(batch, optimizer):
    session = Session(
        model="digits-cnn",
        device="stm32f746",
        policy="full",
        batch=batch,
        optimizer=optimizer,
        precision="fp32",
        reserve_bytes=150_000,
    )
    now = session.cost()
    advice = session.advise()
    assert advice.changes
    for change in advice.changes:
        changed = session
        for part in change.setting.split(", "):
            key, _, value = part.partition("=")
            if key == "micro_batch":
                changed = changed.with_batch(batch, int(value))
            else:
                changed = getattr(changed, f"with_{key}")(value)
        then = changed.cost()
        assert then.fits_all == change.fits
        saved = now.memory["peak_live_bytes"] - then.memory["peak_live_bytes"]
        assert saved == change.saved_bytes > 0
        assert then.step_time_s / now.step_time_s == pytest.approx(change.time_ratio)
    fitting = [change.fits for change in advice.changes]
    assert fitting == sorted(fitting, reverse=True)


def test_a_pair_of_changes_is_offered_when_no_single_one_fits():
    session = Session(
        model="digits-cnn", device="gap9", policy="full", batch=32, optimizer="adam"
    ).with_limits(reserve_bytes=1_250_000)
    changes = session.advise().changes
    fitting = [change for change in changes if change.fits]
    assert fitting
    assert all("," in change.setting for change in fitting)


def test_terminal_prints_the_advice(capsys):
    assert run(["advise", "mcunet-5fps", "gap9", "--batch", "8", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {"fits", "largest_micro_batch", "smallest_device", "devices", "changes"}
    assert run(["advise", "mcunet-5fps", "gap9"]) == 0
    assert "smallest device" in capsys.readouterr().out
