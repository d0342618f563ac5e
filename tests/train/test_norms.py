"""`apply_policy` gives any torch module the norms that a document's setup asks for."""

import pytest
import torch
from torch import nn

from explorer import Session, apply_policy, check_applied, trace
from explorer.accuracy.torch_bridge import build_module
from explorer.errors import SpecError

pytestmark = pytest.mark.train
SIDE = 6


class Plain(nn.Module):
    """Conv, norm, ReLU twice and a classifier, as anybody writes it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(16, eps=1e-3)
        self.body = nn.Conv2d(16, 24, 1, bias=False)
        self.body_bn = nn.BatchNorm2d(24, eps=1e-3)
        self.head = nn.Linear(24, 4)

    def forward(self, images):
        images = torch.relu(self.stem_bn(self.stem(images)))
        images = torch.relu(self.body_bn(self.body(images)))
        return self.head(images.mean((2, 3)))


@pytest.fixture
def plain():
    torch.manual_seed(0)
    module = Plain().eval()
    for norm in (module.stem_bn, module.body_bn):
        norm.weight.data.uniform_(0.5, 2)
        norm.bias.data.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return module


def session_of(module, tmp_path, **question):
    """The module as a model of ours, traced to a file."""
    path = tmp_path / "plain.json"
    trace(module, (3, SIDE, SIDE)).save(path)
    return Session(model=str(path), policy="last-k:k=2", task="digits", **question)


def batch_of(count=4):
    return torch.randn(count, 3, SIDE, SIDE)


@pytest.mark.parametrize("norm", [None, "bn", "frozen-bn", "gn"])
def test_what_torch_does_is_what_a_document_in_that_norm_says(norm, plain, tmp_path):
    session = session_of(plain, tmp_path, norm=norm, batch=4)
    document = session.export()
    assert document.setup.norm == norm
    groups = apply_policy(plain, document, graph=session.graph)
    plain.train()
    report = check_applied(plain, document, batch_of(), graph=session.graph)
    assert report.agrees, report.problems
    names = {id(parameter): name for name, parameter in plain.named_parameters()}
    trained = {names[id(parameter)] for group in groups for parameter in group["params"]}
    scale = set() if norm == "frozen-bn" else {"body_bn.weight"}
    assert trained == {"body.weight", "body_bn.bias", "head.weight", "head.bias"} | scale


@pytest.mark.parametrize(("norm", "moves"), [(None, True), ("bn", True), ("frozen-bn", False)])
def test_running_statistics_of_a_frozen_batch_norm_stay(norm, moves, plain, tmp_path):
    session = session_of(plain, tmp_path, norm=norm, batch=4)
    apply_policy(plain, session.export(), graph=session.graph)
    plain.train()
    before = plain.stem_bn.running_mean.clone()
    images = batch_of()
    inside = {}
    plain.stem_bn.register_forward_hook(lambda part, inputs, out: inside.update(x=inputs[0], y=out))
    plain(images)
    assert torch.equal(plain.stem_bn.running_mean, before) != moves
    if not moves:
        expected = nn.functional.batch_norm(
            inside["x"],
            before,
            plain.stem_bn.running_var,
            plain.stem_bn.weight,
            plain.stem_bn.bias,
            eps=1e-3,
        )
        torch.testing.assert_close(inside["y"], expected)


def test_another_document_thaws_batch_norms(plain, tmp_path):
    frozen, own = (session_of(plain, tmp_path, norm=norm, batch=4) for norm in ("frozen-bn", None))
    apply_policy(plain, frozen.export(), graph=frozen.graph)
    apply_policy(plain, own.export(), graph=own.graph)
    before = plain.train().stem_bn.running_mean.clone()
    plain(batch_of())
    assert not torch.equal(plain.stem_bn.running_mean, before)


def test_a_swapped_norm_has_our_groups_and_the_scale_and_offset_there_were(plain, tmp_path):
    old = plain.body_bn
    session = session_of(plain, tmp_path, norm="gn")
    apply_policy(plain, session.export(), graph=session.graph)
    new = plain.body_bn
    assert isinstance(new, nn.GroupNorm)
    assert (new.num_groups, new.num_channels, new.eps) == (3, 24, 1e-3)
    assert torch.equal(new.weight, old.weight)
    assert torch.equal(new.bias, old.bias)
    values = torch.randn(2, 24, 5, 5)
    grouped = values.view(2, 3, -1)
    normal = (grouped - grouped.mean(-1, keepdim=True)) / torch.sqrt(
        grouped.var(-1, keepdim=True, unbiased=False) + 1e-3
    )
    expected = normal.view_as(values) * old.weight[:, None, None] + old.bias[:, None, None]
    torch.testing.assert_close(new(values), expected)
    assert apply_policy(plain, session.export(), graph=session.graph)
    assert plain.body_bn is new


@pytest.mark.parametrize("norm", ["bn", "frozen-bn", "gn"])
def test_a_module_of_a_normalised_graph_stays_as_it_is(norm):
    session = Session(model="mcunet-5fps", policy="last-k:k=4", norm=norm)
    module = build_module(session.graph)
    before = dict(module.named_modules())
    apply_policy(module, session.export())
    assert dict(module.named_modules()) == before
    assert module.graph.digest == session.graph.digest


def test_our_own_module_of_a_batch_norm_graph_follows_its_document():
    own, wanted = (Session(model="mcunet-5fps", policy="last-k:k=4", norm=n) for n in ("bn", "gn"))
    module = build_module(own.graph)
    apply_policy(module, wanted.export())
    assert module.graph.digest == wanted.graph.digest
    twin = build_module(wanted.graph)
    twin.load_state_dict(module.state_dict())
    images = torch.randn(2, *own.graph.input_shape)
    with torch.no_grad():
        torch.testing.assert_close(module(images), twin(images))


@pytest.mark.parametrize(
    ("norm", "parts", "words"),
    [
        ("gn", [], "no norm to make it of"),
        ("bn", [nn.GroupNorm(1, 8)], "no norm to make it of"),
        ("none", [nn.BatchNorm2d(8)], "the module has 1"),
        ("frozen-bn", [nn.BatchNorm2d(8, track_running_stats=False)], "1 has no running"),
    ],
)
def test_norms_that_cannot_be_set_are_refused(norm, parts, words):
    module = nn.Sequential(nn.Conv2d(1, 8, 1), *parts)
    document = Session(model="digits-cnn", policy="none").export()
    setup = document.setup.model_copy(update={"norm": norm})
    with pytest.raises(SpecError, match=words):
        apply_policy(module, document.model_copy(update={"setup": setup}))
