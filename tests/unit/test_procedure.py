"""A document's procedure chooses again on other data."""

import json

import pytest
import torch

import explorer
from explorer import Session, reselect
from explorer.accuracy import apply as accuracy_apply
from explorer.accuracy.torch_bridge import build_module
from explorer.device import load_device
from explorer.document import Named, PolicyDocument, parse_document
from explorer.errors import SpecError, UnknownNameError

SPEC = "tinytrain:macs=0.3"
SESSION = Session(model="digits-cnn", device="stm32f746", policy=SPEC)
OTHER = SESSION.with_task("quickdraw")


@pytest.fixture(scope="module")
def document():
    return SESSION.export()


def changed(document, **fields):
    return document.model_copy(update=fields)


def test_a_choice_by_scores_carries_every_option_and_its_budget_in_bytes(document):
    name, _, rest = document.procedure.partition(":")
    options = dict(pair.split("=") for pair in rest.split(","))
    memory = str(load_device("stm32f746").ram.usable_bytes)
    assert (name, options["memory"], options["macs"]) == ("tinytrain", memory, "0.3")
    assert {"channels", "criterion", "selection", "refill"} < set(options)
    less = Session(
        model="digits-cnn", device="stm32f746", policy=SPEC, reserve_bytes=200_000
    ).export()
    assert f"memory={int(memory) - 200_000}," in less.procedure


@pytest.mark.parametrize("policy", ["last-k:k=4", "full", "free:feature_mix=0.5", "tinytl"])
def test_a_choice_without_scores_carries_none(policy):
    assert Session(model="digits-cnn", policy=policy).export().procedure is None


def test_an_older_document_without_the_field_is_read(document):
    data = json.loads(document.to_json())
    del data["procedure"]
    assert parse_document(PolicyDocument, json.dumps(data), "old") == changed(
        document, procedure=None
    )


def test_the_same_data_give_the_same_document(document):
    again = reselect(document, SESSION.scores)
    assert again == changed(document, family=document.procedure)
    assert reselect(again, SESSION.scores) == again


def test_other_data_give_what_a_session_on_them_exports(document):
    again = reselect(document, OTHER.scores)
    theirs = OTHER.export()
    assert again.layers == theirs.layers
    assert again.layers != document.layers
    assert again.predicted == theirs.predicted
    assert (again.task, again.setup, again.device) == (
        document.task,
        document.setup,
        document.device,
    )


def test_the_documents_own_budget_holds_whatever_the_data(document):
    tight = changed(document, procedure="tinytrain:memory=30000,macs=1.0")
    loose = changed(document, procedure="tinytrain:memory=1e9,macs=1.0")
    peaks = [
        reselect(one, OTHER.scores).predicted["peak_live_bytes"].value for one in (tight, loose)
    ]
    assert peaks[0] <= 30000 < peaks[1]


def test_any_family_may_be_a_procedure(document):
    again = reselect(changed(document, procedure="last-k:k=2"), OTHER.scores)
    assert [layer.name for layer in again.layers] == ["blocks.2.pointwise2", "feature_mix"]


def gradients(apply, document, **options):
    """Of one step on a network with the same weights: by name, where there is any."""
    torch.manual_seed(0)
    module = build_module(SESSION.graph)
    apply(module, document, **options)
    module(torch.rand(4, 1, 8, 8)).square().sum().backward()
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def test_apply_policy_chooses_again_only_where_scores_are_given(document):
    alone = accuracy_apply.apply_policy
    first = gradients(explorer.apply_policy, document)
    again = gradients(explorer.apply_policy, document, scores=OTHER.scores)
    torch.testing.assert_close(first, gradients(alone, document), rtol=0, atol=0)
    expected = gradients(alone, reselect(document, OTHER.scores))
    torch.testing.assert_close(again, expected, rtol=0, atol=0)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(again, first)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"procedure": None}, "the document has none"),
        ({"device": None}, "the document names none"),
        ({"device": Named(name="gap9", digest="0" * 12)}, "which is now"),
        ({"model": Named(name="digits-cnn", digest="0" * 12)}, "the document is for digits-cnn"),
        ({"model": Named(name="mine", digest="0" * 12)}, "mine .* allowed: one given as graph="),
        ({"procedure": "tinytrain:macs=2"}, "macs"),
    ],
)
def test_what_cannot_be_followed_is_refused(change, words, document):
    with pytest.raises(SpecError, match=words):
        reselect(changed(document, **change), OTHER.scores)


def test_an_unknown_family_and_a_foreign_table_are_refused(document):
    with pytest.raises(UnknownNameError):
        reselect(changed(document, procedure="tinytrian"), OTHER.scores)
    foreign = Session(model="mbv2-w0.35", task="quickdraw").scores
    with pytest.raises(SpecError, match=r"scores: .* one of 3b9b2a28d115"):
        reselect(document, foreign)


def test_a_device_from_elsewhere_may_be_given(document):
    elsewhere = changed(document, device=Named(name="mine", digest="0" * 12))
    again = reselect(elsewhere, OTHER.scores, device=load_device("stm32f746"))
    assert again.layers == reselect(document, OTHER.scores).layers
