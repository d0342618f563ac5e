"""Sessions of one charge: the cell's nominal energy over that of a session."""

import json

import pytest

from explorer.cli import run
from explorer.costmodel.battery import Battery
from explorer.errors import SpecError
from explorer.session import Session

CELL = "320mAh@3.7V"


def test_the_published_sessions_follow_from_the_published_energy():
    """1,000 updates of 20.16 and 4.48 mJ: 211 and 951 sessions (arXiv 2604.13359)."""
    cell = Battery.of(CELL)
    assert cell.energy_j == pytest.approx(0.32 * 3.7 * 3600)
    assert int(cell.sessions(1000 * 20.16e-3)) == 211
    assert int(cell.sessions(1000 * 4.48e-3)) == 951


def test_units_of_the_charge():
    assert Battery.of("0.32Ah@3.7V").energy_j == pytest.approx(Battery.of(CELL).energy_j)
    assert Battery.of("1Ah@1V").energy_j == 3600


@pytest.mark.parametrize("text", ["", "320", "320mAh", "0mAh@3.7V", "320mAh@-1V", "1e3mAh@3V", 7])
def test_anything_else_is_refused_in_a_sentence(text):
    with pytest.raises(SpecError, match=r"320mAh@3\.7V"):
        Session(model="epidenet", battery=text)


def test_a_session_and_the_terminal_tell_the_same(capsys):
    session = Session(model="epidenet", policy="full", steps=1000, samples=200, battery=CELL)
    cost = session.cost()
    sessions = 0.32 * 3.7 * 3600 / cost.session["energy_j"]
    entry = cost.provenance["battery.sessions_per_charge"]
    assert entry.low < sessions < entry.high
    assert (f"sessions a charge of {CELL}", f"{sessions:,.1f}") in cost.summary()
    arguments = ["cost", "epidenet", "gap9", "--steps", "1000", "--samples", "200"]
    assert run([*arguments, "--battery", CELL, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["battery"]
    assert told == {
        "cell": CELL,
        "energy_j": pytest.approx(4262.4),
        "sessions_per_charge": pytest.approx(sessions),
    }


def test_without_a_battery_nothing_is_said_and_nothing_spent_is_no_number():
    assert "battery" not in Session(model="epidenet").cost().to_dict()
    idle = Session(model="epidenet", policy="none", battery=CELL).cost()
    assert idle.to_dict()["battery"]["sessions_per_charge"] is None
