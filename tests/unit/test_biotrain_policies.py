"""BioTrain's policies bring their setup along, and train what the public export trains."""

import json

import pytest

from explorer.cli import run
from explorer.session import Session

EDGE, BASELINE, LAST = "biotrain-edge", "biotrain-full-bn", "biotrain-last-layer"
SETUPS = {EDGE: ("gn", 8, 1), BASELINE: ("bn", 8, 8), LAST: ("gn", 8, 1)}


@pytest.mark.parametrize("policy", SETUPS)
@pytest.mark.parametrize("model", ["mi-bminet", "epidenet"])
def test_a_policy_brings_its_setup_along(model, policy):
    session = Session(model=model).with_policy(policy)
    norm, batch, micro_batch = SETUPS[policy]
    setup = session.cost().setup
    assert session.graph.norm == norm
    assert (setup["batch"], setup["micro_batch"]) == (batch, micro_batch)
    assert (setup["optimizer"], setup["update_timing"]) == ("sgd", "deferred")
    assert session.with_batch(4, 2).cost().setup["micro_batch"] == 2


@pytest.mark.parametrize(("model", "offsets"), [("mi-bminet", 96), ("epidenet", 68)])
def test_offsets_of_norms_train_only_where_asked(model, offsets):
    session = Session(model=model)
    full = session.graph.parameter_count
    counts = {
        spec: session.with_policy(spec).cost().trained_parameters
        for spec in (EDGE, BASELINE, f"{EDGE}:norm_bias=1", "full")
    }
    assert list(counts.values()) == [full - offsets, full - offsets, full, full]


@pytest.mark.parametrize(("model", "count"), [("mi-bminet", 1858), ("epidenet", 187)])
def test_the_last_layer_is_the_classifier(model, count):
    cost = Session(model=model).with_policy(LAST).cost()
    assert cost.trained_parameters == count
    assert cost.macs["input_grad"] == 0


def test_they_are_known_where_the_network_filters_signals_in_time():
    assert EDGE in Session(model="mi-bminet").compare().labels
    assert BASELINE in Session(model="mi-bminet", norm="bn", batch=8).compare().labels
    assert EDGE not in Session(model="digits-cnn").compare().labels


def test_the_terminal_takes_the_setup_where_it_says_nothing_else(capsys):
    def setup_of(*options):
        arguments = ("cost", "epidenet", "gap9", "--policy", EDGE, *options, "--json")
        assert run(list(arguments)) == 0
        return json.loads(capsys.readouterr().out)["setup"]

    own, other = setup_of(), setup_of("--norm", "bn", "--batch", "4")
    assert (own["norm"], own["batch"], own["micro_batch"]) == ("gn", 8, 1)
    assert (other["norm"], other["batch"], other["micro_batch"]) == ("bn", 4, 4)
    for batch in (8, 4):  # its samples still come one at a time
        assert setup_of("--batch", str(batch))["micro_batch"] == 1
    assert setup_of("--policy", BASELINE, "--batch", "4")["micro_batch"] == 4


@pytest.mark.parametrize("policy", SETUPS)
def test_a_document_carries_what_the_policy_brought(policy, tmp_path):
    session = Session(model="mi-bminet").with_policy(policy)
    path = tmp_path / "policy.json"
    path.write_text(session.export().to_json())
    again = Session(model="mi-bminet", norm=SETUPS[policy][0]).with_policy(str(path))
    assert again.cost().memory == session.cost().memory
    assert again.cost().setup == session.cost().setup
