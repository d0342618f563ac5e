"""The bars add up to the step."""

import pytest

from explorer.figures.spending import draw, spending_data
from explorer.session import Session


@pytest.mark.parametrize("shown", [1, 15, 10_000])
def test_bars_add_up_to_the_step(shown):
    cost = Session(policy="full").cost()
    data = spending_data(cost.layers, "assumed", shown)
    assert data.time_s.sum() == pytest.approx(cost.step_time_s)
    assert data.energy_j.sum() == pytest.approx(cost.step_energy_j)
    assert list(data.time_s[:shown]) == sorted(data.time_s[:shown], reverse=True)
    assert len(data.names) == len(data.time_s) == min(shown + 1, len(cost.layers))
    assert list(draw(data).data[0].y) == list(data.names)
