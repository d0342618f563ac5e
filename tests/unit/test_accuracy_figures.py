"""Figures of accuracy show what was measured, and the published table stays as printed."""

import numpy as np
import pytest

from explorer.accuracy.episodes import Outcome
from explorer.accuracy.published import published_accuracy
from explorer.accuracy.trainer import EpisodeResult
from explorer.errors import SpecError
from explorer.figures import channels, losses, measured
from explorer.search.criteria import study
from explorer.search.sources import measured_runs, model_graph, score_table

GRAPH = model_graph("digits-cnn")
TABLE = score_table(GRAPH, "digits")
STUDY = study(GRAPH, measured_runs(GRAPH, "digits"), TABLE)


def test_channels_are_sorted_and_mean_one():
    data = channels.channels_data(TABLE)
    widths = [len(column) for column in TABLE.columns["fisher_out"]]
    assert [int(np.isfinite(row).sum()) for row in data.mean_ratio] == widths
    assert np.nanmean(data.mean_ratio, axis=1) == pytest.approx(1)
    for row, width in zip(data.mean_ratio, widths, strict=True):
        assert (np.diff(row[:width]) <= 0).all()
    assert data.layer_ratio.sum() == pytest.approx(1)
    heat, bars = channels.draw(data).data
    assert list(heat.y) == list(bars.y) == list(GRAPH.weighted)
    assert np.nanmin(heat.z) >= np.log10(channels.SMALLEST_RATIO)


def test_each_measured_design_is_a_point_with_two_standard_errors():
    data = measured.measured_data(STUDY, ("Fisher sum", "depth"))
    figure = measured.draw(data)
    assert len(figure.data) == 2
    for trace in figure.data:
        assert list(trace.y) == list(STUDY.gain)
        assert list(trace.error_y.array) == list(2 * STUDY.gain_error)
    assert list(figure.data[0].x) == list(STUDY.criteria["Fisher sum"])
    assert [panel.is_null for panel in data.panels] == [False, True]
    with pytest.raises(SpecError, match="no such"):
        measured.measured_data(STUDY, ("no such",))


def test_nothing_measured_is_still_drawn():
    empty = study(GRAPH, [], TABLE)
    assert len(measured.draw(measured.measured_data(empty)).data) == len(measured.SHOWN)


def test_loss_curves_name_what_they_reached():
    result = EpisodeResult(before=Outcome(0.5, 1), after=Outcome(0.75, 1), losses=(2.0, 1.0))
    curves = losses.losses_data({"full": result})
    assert curves[0].title == "full: 50% to 75%"
    (line,) = losses.draw(curves).data
    assert (list(line.x), list(line.y)) == ([1, 2], [2.0, 1.0])


def test_published_means_are_those_the_paper_prints():
    frame = published_accuracy().beside({})
    means = {method: 100 * mean for (method, _), mean in frame["published mean"].items()}
    printed = {
        "None": 44.5,
        "LastLayer": 54.6,
        "AdapterDrop-50%": 61.8,
        "TinyTL": 66.1,
        "SparseUpdate": 64.3,
        "TinyTrain": 69.3,
        "FullTrain": 66.9,
    }
    assert means == pytest.approx(printed, abs=0.06)


def test_measured_runs_stand_beside_published_ones():
    runs = measured_runs(model_graph("mcunet-5fps"), "sign-digits")
    frame = published_accuracy().beside({"ours": runs})
    full = next(run for run in runs if run.design.family == "full")
    assert frame.loc[("FullTrain", "full"), "ours"] == full.accuracy
    assert frame.loc[("FullTrain", "full"), "ours ±"] == full.standard_error
    assert np.isnan(published_accuracy().beside({"ours": []})["ours"]).all()
