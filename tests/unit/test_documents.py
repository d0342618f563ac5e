"""Policy documents: same bytes, the shipped schema, back to the same policy."""

import json
import runpy
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from explorer import load_policy
from explorer.document import PolicyDocument, parse_document
from explorer.errors import SpecError
from explorer.session import Session

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "explorer" / "policy.schema.json").read_text("utf-8"))
SPECS = [
    ("mcunet-5fps", "none"),
    ("mcunet-5fps", "full"),
    ("mcunet-5fps", "sparse-update:scheme=99kb"),
    ("mcunet-5fps", "tinytrain:macs=0.2,channels=0.25"),
    ("mcunet-5fps", "free:blocks.3.depthwise=0.5,bias=1"),
    ("digits-cnn", "last-k:k=3"),
    ("digits-cnn", "bias-only:last=all"),
    ("digits-cnn", "tinytl"),
    ("digits-cnn", "lora:rank=2,alpha=8"),
    ("digits-cnn", "last-k-blocks:k=2"),
    ("mcunet-5fps", "adapter-drop:share=0.75"),
]


def document(model, policy):
    return Session(model=model, policy=policy).export()


def test_shipped_schema_is_generated_from_the_types():
    script = runpy.run_path(str(ROOT / "scripts" / "write_schema.py"))
    assert script["PATH"].read_text("utf-8") == script["schema_text"]()


@pytest.mark.parametrize(("model", "policy"), SPECS)
def test_document_round_trips_to_the_same_bytes_and_meets_the_schema(model, policy, tmp_path):
    text = document(model, policy).to_json()
    assert text == document(model, policy).to_json()
    jsonschema.validate(json.loads(text), SCHEMA)
    path = tmp_path / "policy.json"
    path.write_text(text, "utf-8")
    assert load_policy(path).to_json() == text


@pytest.mark.parametrize(("model", "policy"), SPECS)
def test_document_is_the_same_policy_again(model, policy):
    session = Session(model=model, policy=policy)
    before, after = session.chosen_policy, session.export().policy(session.graph)
    assert (before.slices, before.update_bias, before.update_norm) == (
        after.slices,
        after.update_bias,
        after.update_norm,
    )
    assert before.channel_axis == after.channel_axis or not any(before.slices)


def test_channels_of_a_criterion_are_listed_best_first_cut():
    session = Session(model="mcunet-5fps", policy="tinytrain:channels=0.25")
    exported = session.export()
    assert exported.layers
    for layer in exported.layers:
        index = session.graph.weighted.index(layer.name)
        fisher = session.scores.columns["fisher_out"][index]
        best = np.argsort(-fisher, kind="stable")[: layer.slices]
        assert sorted(best) == list(layer.channels)


@pytest.mark.parametrize("version", [0, 2, "1", None, 1.5])
def test_another_schema_version_is_refused(version):
    data = json.loads(document("digits-cnn", "full").to_json()) | {"schema_version": version}
    with pytest.raises(SpecError, match="schema_version"):
        parse_document(PolicyDocument, json.dumps(data), "x.json")


def test_predictions_carry_unit_kind_and_interval():
    predicted = document("mcunet-5fps", "full").predicted
    assert predicted["step_time_s"].unit == "s"
    assert predicted["step_time_s"].low < predicted["step_time_s"].value
    assert {quantity.kind for quantity in predicted.values()} <= {"modelled", "assumed"}
