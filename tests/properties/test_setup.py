"""One rule for the setup: what a person chose, else what the policy is published with."""

import json
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer import catalog
from explorer.cli import run
from explorer.design import OPTIMIZERS, RECOMPUTES, UPDATE_TIMINGS
from explorer.family import policy_setup
from explorer.question import SETUP_FIELDS, USUAL
from explorer.session import Session

FAMILIES = catalog.names("policy")
PUBLISHED = [name for name in FAMILIES if policy_setup(name)]
NETWORKS = ("mi-bminet", "mcunet-5fps", "tdssm:d_model=16")
OPTIONS = {"update_timing": "--update"}

quick = settings(max_examples=40, derandomize=True, deadline=None)
priced = settings(max_examples=10, derandomize=True, deadline=None)
choices = st.fixed_dictionaries(
    {},
    optional={
        "batch": st.sampled_from((1, 2, 4, 8, 12)),
        "norm": st.sampled_from(("bn", "gn", "frozen-bn")),
        "optimizer": st.sampled_from(OPTIMIZERS),
        "update_timing": st.sampled_from(UPDATE_TIMINGS),
        "recompute": st.sampled_from(RECOMPUTES),
    },
)


def network_for(family):
    """A network that the family applies to, and a spec of it that can be built."""
    for model in NETWORKS:
        session = Session(model=model, policy="none")
        info = {one.name: one for one in session.policies()}[family]
        if info.applicable:
            return model, "sparse-update:layers=2" if family == "sparse-update" else family
    raise AssertionError(f"{family} applies to none of {NETWORKS}")


def printed(*arguments):
    out = StringIO()
    with redirect_stdout(out):
        assert run([*arguments, "--json"]) == 0
    return json.loads(out.getvalue())


def chosen(session, values):
    """The session after a person chose field by field."""
    rest = dict(values)
    if "batch" in rest:
        session = session.with_batch(rest.pop("batch"))
    for name, value in rest.items():
        session = getattr(session, f"with_{name}")(value)
    return session


def flags(values):
    return [
        part
        for key, value in values.items()
        for part in (OPTIONS.get(key, f"--{key.replace('_', '-')}"), str(value))
    ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("values", [{}, {"batch": 4, "optimizer": "adam"}], ids=["none", "some"])
def test_constructor_with_policy_and_terminal_agree(family, values):
    model, spec = network_for(family)
    built = Session(model=model, policy=spec, **values)
    assert Session(model=model, policy="none", **values).with_policy(spec) == built
    assert chosen(Session(model=model).with_policy(spec), values) == built
    cost = built.cost().to_dict()
    assert printed("cost", model, "gap9", "--policy", spec, *flags(values)) == json.loads(
        json.dumps(cost)
    )
    for name, value in values.items():
        assert cost["setup"][name] == value
    for name, value in policy_setup(spec).items():
        if name not in values and not {"batch", "norm"} & values.keys():
            assert cost["setup"][name] == value


@quick
@given(values=choices, family=st.sampled_from(PUBLISHED), before=st.sampled_from(("none", "full")))
def test_leaving_a_policy_gives_back_what_was_before(values, family, before):
    session = Session(model="mi-bminet", policy=before, **values)
    there = session.with_policy(family)
    assert there.with_policy(before) == session
    assert there.own_setup == session.own_setup == values
    for name, value in values.items():
        assert getattr(there, name) == value
    assert not there.brought_setup.keys() & values.keys()


@quick
@given(values=choices, family=st.sampled_from(PUBLISHED))
def test_a_choice_equal_to_what_was_brought_is_a_choice(values, family):
    there = chosen(Session(model="mi-bminet", policy=family), values)
    assert there.own_setup == values
    back = there.with_policy("none")
    for name in SETUP_FIELDS:
        assert getattr(back, name) == values.get(name, USUAL.get(name))


@priced
@given(values=choices, policy=st.sampled_from((*PUBLISHED, "none")))
def test_every_row_of_a_comparison_is_under_its_own_setup(values, policy):
    session = Session(model="mi-bminet", policy=policy, **values)
    table = session.compare()
    assert table.labels == replace(session, policy="full").compare().labels
    for row, spec in enumerate(table.labels):
        asked = session.with_policy(spec)
        assert table.designs[row].setup == asked._setup()
        cost = asked.cost()
        np.testing.assert_allclose(table.peak_live_bytes[row], cost.memory["peak_live_bytes"])
        np.testing.assert_allclose(table.step_energy_j[row], cost.step_energy_j)


def test_a_comparison_says_which_rows_are_under_a_published_setup(capsys):
    rows = {row["policy"]: row for row in printed("compare", "mi-bminet", "gap9")}
    for spec, row in rows.items():
        asked = printed("cost", "mi-bminet", "gap9", "--policy", spec)
        assert row["setup"] == asked["setup"]
        assert bool(row["setup_note"]) == (spec in PUBLISHED)
    assert "batch 8" in rows["biotrain-full-bn"]["setup_note"]
    capsys.readouterr()
    assert run(["compare", "mi-bminet", "gap9"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "biotrain-edge: under its published setup: batch 8, update timing deferred" in words


def test_a_search_takes_no_policy_under_another_setup_than_its_own():
    front = Session(model="mi-bminet", policy="none").search(trials=0)
    assert not set(PUBLISHED) & set(front.table.labels)
    edge = Session(model="mi-bminet", policy="biotrain-edge").search(trials=0).table
    assert "biotrain-edge" in edge.labels
    assert "biotrain-full-bn" not in edge.labels
    assert {setup.effective_batch for setup in edge.designs.row_setups} == {8}


def test_a_micro_batch_of_another_batch_is_not_taken_over():
    edge = Session(model="mi-bminet", policy="biotrain-edge")
    assert [edge.with_batch(batch)._setup().micro_batch for batch in (1, 4, 16)] == [1, 1, 1]
    assert edge.with_norm("bn")._setup().micro_batch == 8
    whole = Session(model="mi-bminet", policy="biotrain-full-bn")
    assert [whole.with_batch(batch)._setup().micro_batch for batch in (1, 4, 16)] == [1, 4, 16]


def test_advice_names_the_batch_where_a_policy_that_goes_had_brought_it():
    full = Session(model="mi-bminet", policy="biotrain-full-bn")
    for change in full.advise().changes:
        leaves = "policy=" in change.setting
        assert (change.batch == 1) == leaves
        assert (" of batch 1," in change.sentence) == leaves


def test_the_largest_batch_is_of_one_pass_also_where_micro_batches_are_brought():
    edge = Session(model="mi-bminet", policy="biotrain-edge", device="pi-zero-2w")
    largest = edge.advise().largest_batch_count
    fits = [edge.with_batch(count, count).cost().fits_all for count in (largest, largest + 1)]
    assert fits == [True, False]


def test_what_is_usual_gives_way_to_the_policy_and_to_a_choice():
    usual = (("batch", 32), ("micro_batch", 4))
    session = Session(model="mi-bminet", policy="full", usual=usual)
    assert (session.batch, session.micro_batch) == (32, 4)
    assert session.brought_setup == session.own_setup == {}
    assert session.setup_note == ""
    assert session.with_policy("biotrain-full-bn").batch == 8
    assert session.with_policy("biotrain-full-bn").micro_batch == 8
    assert session.with_batch(2).micro_batch is None
    assert session.with_batch(8).micro_batch == 4
