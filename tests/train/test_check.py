"""`check_applied` sees what torch does, and sees when it is not what the document says."""

import pytest
import torch

from explorer import Session, apply_policy, check_applied
from explorer.accuracy.torch_bridge import adapted_module, build_module
from explorer.errors import SpecError
from explorer.search.sources import model_graph
from tests.train.test_eager import hooked_bytes

pytestmark = pytest.mark.train
BATCH = 2
SPECS = (
    "none",
    "last-layer",
    "last-k:k=4",
    "full",
    "bias-only:last=3",
    "free:feature_mix=0.25,blocks.2.depthwise=0.5,bias=1",
    "tinytl",
    "lora:rank=2,alpha=8",
    "last-k-blocks:k=2",
)


def applied(spec, model="digits-cnn", **question):
    session = Session(model=model, policy=spec, **question)
    document = session.export()
    module = build_module(session.graph)
    if document.adapters:
        module = adapted_module(module, document.adapters)
    module = module.to(memory_format=torch.contiguous_format).train()
    return module, document, torch.randn(BATCH, *session.graph.input_shape)


@pytest.mark.parametrize("spec", SPECS)
def test_an_applied_policy_does_what_its_document_says(spec):
    module, document, batch = applied(spec)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    apply_policy(module, document)
    report = check_applied(module, document, batch)
    assert report.agrees, report.problems
    assert report.to_frame()["agrees"].all()
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_what_a_document_needs_is_less_than_what_eager_torch_does():
    module, document, batch = applied("free:feature_mix=0.25")
    apply_policy(module, document)
    frame = check_applied(module, document, batch).to_frame()
    assert frame.needed["weight_grad_macs"] * 4 == frame.found["weight_grad_macs"]
    assert frame.needed["trained_parameters"] == frame.found["trained_parameters"]


def test_a_layer_that_was_freed_by_hand_is_found():
    module, document, batch = applied("last-layer")
    apply_policy(module, document)
    module.get_submodule("blocks.1.pointwise1").weight.requires_grad_(True)
    report = check_applied(module, document, batch)
    assert not report.agrees
    named = " ".join(report.problems)
    assert all(word in named for word in ("trained_parameters", "weight_grad_macs", "saved"))


def test_another_network_is_refused_with_both_names():
    module, document, batch = applied("last-layer")
    with pytest.raises(SpecError, match=r"digits-cnn .* not for mcunet-5fps"):
        check_applied(module, document, batch, graph=Session(model="mcunet-5fps").graph)


def test_a_network_of_other_options_is_found_by_its_digest():
    module, document, batch = applied("last-layer", model="mcunet-5fps:resolution=84")
    apply_policy(module, document)
    assert document.model.name == "mcunet-5fps"
    assert check_applied(module, document, batch).agrees


@pytest.mark.parametrize("spec", ["full", "mu-finetune", "lora", "none"])
def test_what_torch_cannot_foretell_of_a_state_space_is_only_told(spec):
    module, document, batch = applied(spec, model="tdssm:d_model=8")
    apply_policy(module, document)
    report = check_applied(module, document, batch, graph=model_graph("tdssm:d_model=8"))
    assert report.agrees, report.problems
    rows = {row.quantity: row for row in report.rows}
    assert rows["trained_parameters"].expected == rows["trained_parameters"].found
    kept = rows["saved_activation_bytes"]
    assert kept.expected is None
    assert kept.found == hooked_bytes(module, batch)
    assert (kept.found > 0) == (spec != "none")
    assert report.to_frame()["expected"].isna().sum() == 4


@pytest.mark.parametrize("model", ["mcunet-5fps", "mbv2-w0.35"])
def test_published_schemes_on_vision_networks(model):
    module, document, batch = applied("sparse-update:scheme=49kb", model=model)
    apply_policy(module, document)
    report = check_applied(module, document, batch)
    assert report.agrees, report.problems
