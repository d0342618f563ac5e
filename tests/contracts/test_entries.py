"""Every entry of the catalogue is tested the day it is dropped in."""

import numpy as np
import pytest

from explorer import catalog
from explorer.accuracy.torch_bridge import model_module, state_digest
from explorer.costmodel.tables import layer_table
from explorer.errors import MissingDataError, SpecError, UnknownNameError
from explorer.family import build_policy, known_specs
from explorer.search.sources import own_weights
from explorer.session import Session

MODELS = catalog.names("model")
POLICIES = catalog.names("policy")


@pytest.mark.parametrize("name", MODELS)
def test_model_builds_and_meets_its_expectations(name):
    module = catalog.load("model", name)
    graph = module.build()
    assert graph.name == name
    assert graph.source.cite
    assert module.TASK in catalog.names("task")
    table = layer_table(graph)
    for quantity, expected in module.EXPECTED.items():
        assert getattr(table, quantity).sum() == expected
    counted = table.weight_count + table.bias_count + table.norm_count
    assert counted.sum() == graph.parameter_count


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("family", POLICIES)
def test_policy_builds_where_it_applies_and_says_why_not(model, family):
    context = Session(model=model, policy="none")._context
    module = catalog.load("policy", family)
    assert module.SUMMARY
    if reason := module.reason_against(context):
        with pytest.raises(SpecError) as problem:
            build_policy(context, family)
        assert reason in str(problem.value)
    else:
        policy = build_policy(context, family)
        assert policy.layer_names == context.graph.weighted
        for spec in module.known(context):
            built = build_policy(context, spec)
            assert catalog.split_spec(built.family) == catalog.split_spec(spec)


@pytest.mark.parametrize("family", POLICIES)
def test_policy_refuses_an_unknown_option_by_name(family):
    context = Session(policy="none")._context
    if catalog.load("policy", family).reason_against(context):
        pytest.skip("does not apply to this network")
    with pytest.raises(SpecError, match="colour"):
        build_policy(context, f"{family}:colour=1")


@pytest.mark.parametrize("model", MODELS)
def test_known_policies_run_from_nothing_to_everything(model):
    session = Session(model=model, policy="none")
    specs = known_specs(session._context)
    assert {"none", "full", "last-layer"} <= set(specs)
    table = session.compare()
    assert [label for label in table.labels if label in specs] == specs
    specs = list(table.labels)  # and those that bring another norm
    assert table.training_extra_bytes[specs.index("none")] == 0
    macs = table.costs.weight_grad_macs
    assert macs[specs.index("full")] == macs.max()


@pytest.mark.parametrize("name", catalog.names("sampler"))
def test_sampler_is_seeded_and_stays_in_bounds(name):
    session = Session(model="digits-cnn", policy="none")
    trials = 26 if name == "gp" else 40  # one more than its start: each takes seconds
    first = session.search(trials, sampler=name, seed=3, warm=False)
    again = session.search(trials, sampler=name, seed=3, warm=False)
    assert np.array_equal(first.table.designs.slices, again.table.designs.slices)
    assert len(first.table) == trials + len(session.compare())
    assert first.hypervolume >= session.compare().hypervolume


@pytest.mark.parametrize("kind", ["model", "device", "policy", "sampler", "task"])
def test_unknown_name_offers_the_nearest(kind):
    near = catalog.names(kind)[0]
    reader = catalog.read if kind == "device" else catalog.load
    with pytest.raises(UnknownNameError, match=near):
        reader(kind, near + "x")


VISION = [name for name in MODELS if "resolution" in catalog.load("model", name).OPTIONS]


@pytest.mark.parametrize("name", VISION)
def test_resolution_changes_positions_and_not_weights(name):
    build = catalog.load("model", name).build
    usual, small = build(), build(resolution="84")
    assert build(resolution="128").digest == usual.digest != small.digest
    assert (small.name, small.input_shape) == (usual.name, (3, 84, 84))
    assert small.parameter_count == usual.parameter_count
    assert small.weighted == usual.weighted
    sides = {layer.out_shape[1] for layer in small.layers if len(layer.out_shape) == 3}
    assert sides == {42, 21, 11, 6, 3}
    for layer in small.layers:
        if layer.op == "conv2d":
            before = usual[layer.name]
            macs = small.weight_elements(layer) * np.prod(layer.out_shape[1:])
            assert layer_table(small).forward_macs[small.weighted.index(layer.name)] == macs
            assert layer.out_shape[0] == before.out_shape[0]
    for bad in ("0", "31", "513", "84.0", "-84", "big"):
        with pytest.raises(SpecError, match="resolution"):
            build(resolution=bad)


WEIGHTED = [name for name in MODELS if hasattr(catalog.load("model", name), "WEIGHTS_DIGEST")]


@pytest.mark.parametrize("name", WEIGHTED)
def test_own_weights_are_those_the_entry_names(name):
    entry = catalog.load("model", name)
    try:
        module = model_module(entry.build())
    except MissingDataError:
        pytest.skip("its weights are not here")
    assert state_digest(module) == entry.WEIGHTS_DIGEST == own_weights(entry.build())


def test_default_digests_stay():
    """Ledgers and score tables in data_cache were made for these."""
    digests = {name: catalog.load("model", name).build().digest for name in MODELS}
    known = {
        "mcunet-5fps": "84469c5c2e96",
        "mbv2-w0.35": "9fe89605cba0",
        "proxyless-w0.3": "0a352e5bed73",
        "mbv2-w0.35-tinytrain": "5bd8f7e2387c",
    }
    assert known.items() <= digests.items()
