"""Published points: read once into our units, beside ours on the panels, never among them."""

from dataclasses import replace

import numpy as np
import pytest

from explorer import catalog
from explorer.accuracy.published_points import published_tables, tables_about
from explorer.app.evidence import published_html
from explorer.app.view import View, points_of, published_of
from explorer.figures import theme, tradeoff
from explorer.figures.published import marks_of
from explorer.figures.roles import ROLES
from explorer.figures.traces import TraceData
from explorer.provenance import Kind
from explorer.session import Session

PUBLISHED = [role.name for role in ROLES].index("published")


def view_of(session: Session) -> View:
    return View(
        session=session, cost=session.cost(), chosen=session.chosen(), known=session.compare()
    )


def drawn(session: Session, panel: int) -> TraceData:
    data = tradeoff.tradeoff_data(points_of(view_of(session)))
    return data.panels[panel].traces[PUBLISHED]


@pytest.mark.parametrize("table", published_tables(), ids=lambda table: table.model)
def test_a_table_names_entries_of_ours(table):
    assert table.model in catalog.names("model")
    assert table.device in catalog.names("device")
    for row in table.row:
        Session(model=table.model).with_policy(row.policy)


def test_numbers_are_those_of_the_table_in_our_units():
    eeg = tables_about("mi-bminet", "gap9", "eeg-motor")[0]
    last, full, edge = eeg.row
    assert edge.accuracy == pytest.approx(0.864)
    assert edge.peak_bytes == pytest.approx(670_000)
    assert edge.energy_j == pytest.approx(20.16e-3)
    assert eeg.batch / edge.time_s == pytest.approx(17, abs=0.5)
    assert last.energy_j == pytest.approx(0.360 * 0.0452)
    assert np.isnan(full.energy_j)
    assert np.isnan(full.time_s)
    eog = tables_about("epidenet:pool=max", "gap9", "eog-saccades")[0]
    assert eog.batch / eog.row[2].time_s == pytest.approx(85, abs=0.5)
    assert tables_about("mi-bminet", "stm32f746", "eeg-motor") == ()
    assert tables_about("mi-bminet", "gap9", "eog-saccades") == ()


def test_they_are_a_kind_of_their_own_on_the_panel_that_can_show_them():
    session = Session(model="mi-bminet").with_policy("biotrain-edge")
    points = points_of(view_of(session))
    assert points.worth_name != "accuracy"
    shown = drawn(session, 2)
    np.testing.assert_allclose(shown.x, [0.360 * 0.0452, 20.16e-3], rtol=1e-6)
    np.testing.assert_allclose(shown.y, [190_000, 670_000], rtol=1e-6)
    assert shown.ids == ()
    assert shown.symbols == theme.KIND_SYMBOLS[Kind.PUBLISHED]
    assert len(drawn(session, 0).x) == len(drawn(session, 1).x) == 0
    data = tradeoff.tradeoff_data(points)
    assert "published" in data.shown_roles
    assert not any("BioTrain Edge-FT" in label for label in points.labels)
    for axis, values in ((data.panels[2].x_axis, shown.x), (data.panels[2].y_axis, shown.y)):
        assert axis.low < values.min() <= values.max() < axis.high


def test_on_an_accuracy_axis_they_are_in_every_panel_and_on_no_front():
    points = points_of(view_of(Session(model="mi-bminet").with_policy("biotrain-edge")))
    table = tables_about("mi-bminet", "gap9", "eeg-motor")[0]
    accurate = replace(
        points,
        worth_name="accuracy",
        marks=marks_of(table, is_accuracy=True, is_peak=True),
    )
    data = tradeoff.tradeoff_data(accurate)
    assert [len(panel.traces[PUBLISHED].x) for panel in data.panels] == [3, 2, 2]
    envelope = [role.name for role in ROLES].index("envelope")
    without = tradeoff.tradeoff_data(replace(accurate, marks=()))
    for mine, plain in zip(data.panels, without.panels, strict=True):
        np.testing.assert_array_equal(mine.traces[envelope].y, plain.traces[envelope].y)


def test_the_hover_says_paper_table_conditions_and_why_it_may_differ():
    text = drawn(Session(model="mi-bminet").with_policy("biotrain-edge"), 2).hovers[1]
    words = text.replace("<br>", " ")
    for part in ("published", "Table IV", "arXiv 2604.13359", "five people", "may differ"):
        assert part in words
    assert "86.4% ± 7.9%" in words
    assert "470 ms, 20.2 mJ" in words
    assert max(map(len, text.split("<br>"))) <= 64


def test_evidence_lists_them_and_says_why_one_is_not_on_the_panels():
    session = Session(model="mi-bminet").with_policy("biotrain-edge")
    tables = published_of(session)
    shown = published_html(tables, session.chosen().designs.setup)
    assert shown.count("<td>published</td>") == 3
    assert "Not on the panels" not in shown
    other = published_html(tables, session.with_batch(4).chosen().designs.setup)
    assert "Not on the panels, because an update there is of 8 samples, not of 4." in other
    assert published_html((), session.chosen().designs.setup) == ""


def test_another_setup_or_memory_axis_has_no_place_for_them():
    session = Session(model="mi-bminet").with_policy("biotrain-edge")
    assert len(drawn(session.with_batch(4), 2).x) == 0
    table = tables_about("mi-bminet", "gap9", "eeg-motor")[0]
    assert "of 8 samples, not of 4" in table.reason_against(4, "fp32")
    assert "fp32, not in fp16" in table.reason_against(8, "fp16")
    above = session.with_memory_objective("above-inference")
    assert len(drawn(above, 2).x) == 0
    assert len(drawn(Session(model="digits-cnn"), 2).x) == 0
