"""Widths of TDSSM: what was measured against the width, and against what an update costs."""

import numpy as np
import pytest

from explorer.errors import SpecError
from explorer.figures.sizes import draw, sizes_data
from explorer.search.sources import MEASURED_WIDTHS, measured_runs
from explorer.session import Session
from explorer.units import format_joules

POLICIES = ("none", "decoder-only", "mu-finetune", "mu-train", "full")
QUANTITY = "energy of an update"


@pytest.fixture(scope="module")
def asked() -> dict[int, Session]:
    return {
        width: Session(
            model=f"tdssm:d_model={width},length=1024", device="radxa-zero", policy="none"
        )
        for width in MEASURED_WIDTHS
    }


@pytest.fixture(scope="module")
def runs(asked):
    found = [
        {run.design.family: run for run in measured_runs(one.graph, "ecg-rhythm")}
        for one in asked.values()
    ]
    return {policy: [of_width[policy] for of_width in found] for policy in POLICIES}


@pytest.fixture(scope="module")
def costs(asked):
    return {
        policy: [one.with_policy(policy).cost().step_energy_j for one in asked.values()]
        for policy in POLICIES
    }


def test_every_width_has_its_own_network_and_weights(asked, runs):
    digests = [one.graph.digest for one in asked.values()]
    for of_policy in runs.values():
        assert [run.model.digest for run in of_policy] == digests
        assert len({run.weights_digest for run in of_policy}) == len(digests)
        assert {run.protocol.words for run in of_policy} == {runs["none"][0].protocol.words}


def test_lines_hold_what_was_measured_and_what_it_costs(runs, costs):
    data = sizes_data("d_model", MEASURED_WIDTHS, runs, "macro_f1", QUANTITY, costs, format_joules)
    assert [line.name for line in data.lines] == list(POLICIES)
    trained = data.lines[POLICIES.index("mu-train")]
    expected = [run.metrics["macro_f1"] for run in runs["mu-train"]]
    assert trained.values.tolist() == [metric.after for metric in expected]
    assert trained.errors.tolist() == [metric.standard_error for metric in expected]
    assert np.all(np.diff(trained.costs) > 0)
    assert data.merit_axis.title == "macro F1 (measured)"
    assert data.merit_axis.low < (trained.values - trained.errors).min()
    assert data.size_axis.tick_texts == ("8", "16", "32", "64", "128")
    figure = draw(data)
    assert len(figure.data) == 2 * len(POLICIES)
    assert figure.data[1].text == ("8", "16", "32", "64", "128")
    assert figure.layout.xaxis2.title.text == QUANTITY


def test_what_is_missing_is_named(runs, costs):
    short = {"full": runs["full"][1:]}
    with pytest.raises(SpecError, match="4 runs and 5 costs"):
        sizes_data("d_model", MEASURED_WIDTHS, short, "accuracy", QUANTITY, costs, format_joules)
    with pytest.raises(SpecError, match="recall"):
        sizes_data("d_model", MEASURED_WIDTHS, runs, "recall", QUANTITY, costs, format_joules)
