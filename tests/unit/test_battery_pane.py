"""The battery pane: sessions of a cell for every policy, and what they rest on."""

import numpy as np
import pytest

from explorer.app.battery_pane import DEFAULT_CELL, BatteryPane
from explorer.app.panes import Shown
from explorer.app.view import CHOICE, View, selection_of
from explorer.costmodel.battery import Battery
from explorer.figures import charges
from explorer.session import Session


def shown_of(session: Session) -> Shown:
    view = View(
        session=session, cost=session.cost(), chosen=session.chosen(), known=session.compare()
    )
    return Shown(view=view, chosen=selection_of(view), cost=view.cost, searching=None)


@pytest.fixture(scope="module")
def shown() -> Shown:
    return shown_of(Session(model="epidenet").with_policy("biotrain-edge"))


def test_bars_are_the_cells_energy_over_that_of_a_session(shown):
    session = shown.view.session
    names = ("full", "last-layer", "none")
    costs = {name: session.with_policy(name).cost() for name in names}
    data = charges.charges_data(costs, Battery.of("100mAh@3V"), "full")
    assert data.names == ("last-layer", "full")
    assert data.idle == ("none",)
    for name, sessions in zip(data.names, data.sessions, strict=True):
        assert sessions == pytest.approx(0.1 * 3 * 3600 / costs[name].session["energy_j"])
    assert np.all(data.low < data.sessions)
    assert np.all(data.sessions < data.high)
    drawn = charges.draw(data)
    assert drawn.data[0].marker.color[1] != drawn.data[0].marker.color[0]
    assert drawn.layout.xaxis.range[1] > data.high.max()


def test_a_policy_that_does_not_fit_is_hatched():
    session = Session(model="mcunet-5fps", device="stm32f746")
    costs = {name: session.with_policy(name).cost() for name in ("full", "bias-only:last=12")}
    data = charges.charges_data(costs, Battery.of(DEFAULT_CELL), "full")
    assert data.misfits == {"full"}
    shapes = dict(zip(data.names, charges.draw(data).data[0].marker.pattern.shape, strict=True))
    assert shapes == {"full": "/", "bias-only:last=12": ""}


def test_the_choice_stands_once_among_the_known_policies(shown):
    pane = BatteryPane(None)
    pane.show(shown)
    assert [name for name in pane._costs if "biotrain-edge" in name] == [
        "your choice: biotrain-edge"
    ]


def test_policies_that_spend_nothing_draw_no_bar(shown):
    data = charges.charges_data(
        {"none": shown.view.session.with_policy("none").cost()}, Battery.of(DEFAULT_CELL), "none"
    )
    assert data.names == ()
    assert len(charges.draw(data).data[0].x) == 0


def test_a_larger_cell_lasts_longer_and_its_source_is_said(shown):
    pane = BatteryPane(None)
    pane.show(shown)
    assert pane.battery.energy_j == pytest.approx(Battery.of(DEFAULT_CELL).energy_j)
    assert "BioTrain" in pane.words.value
    assert "1,000 steps" not in pane.words.value
    assert "125 steps of 8 over 25 kept samples" in pane.words.value
    assert "nothing else draws from it" in pane.words.value
    before = pane._plot.box.outputs[0]["data"]
    pane.charge.value = 2 * pane.charge.value
    assert pane.battery.energy_j == pytest.approx(2 * Battery.of(DEFAULT_CELL).energy_j)
    assert "set here" in pane.words.value
    assert pane._plot.box.outputs[0]["data"] != before


def test_the_cell_of_the_question_is_the_first(shown):
    pane = BatteryPane("0.05Ah@4.2V")
    assert (pane.charge.value, pane.volts.value) == (50, 4.2)
    assert shown.view.selected_id == CHOICE
    pane.volts.value = 3
    assert pane.words.value == ""
