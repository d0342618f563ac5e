"""S4D and wired CfC cells against closed forms, the recurrence and ncps, where it is installed."""

import hashlib

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from explorer import catalog
from explorer.accuracy.apply import apply_to_copy
from explorer.accuracy.tdssm import CfcCell, S4d, circuit_masks
from explorer.accuracy.torch_bridge import build_module
from explorer.errors import SpecError
from explorer.session import Session

pytestmark = pytest.mark.train

SIZES = (9, 5, 6)  # inter, command, motor
# of the masks that ncps 1.0.1 makes: AutoNCP(20, 6) on so many inputs
NCPS_DIGESTS = {
    8: "99130ef97e02",
    64: "76b89af6d97c",
    128: "3ff07a9d2ed1",
    160: "5b197565af41",
    256: "499aa3801e82",
}


def s4d(channels=5, states=12, form="fft") -> S4d:
    torch.manual_seed(3)
    return S4d(channels, states, form).double()


def cells(features=128) -> list[CfcCell]:
    torch.manual_seed(4)
    return [CfcCell(mask) for mask in circuit_masks(features, *SIZES)]


def decode(network: list[CfcCell], features):
    for cell in network:
        features = cell(features)
    return features


def decode_as_sequence(network: list[CfcCell], features):
    """The upstream code's way: rows of a batch taken as time steps of one sequence."""
    states = [torch.zeros(1, len(cell.bias)) for cell in network]
    outputs = []
    for row in features:
        last = row[None]
        for index, cell in enumerate(network):
            states[index] = last = cell(last, states[index])
        outputs.append(last)
    return torch.cat(outputs)


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 300])
def test_convolution_equals_recurrence(length):
    operator = s4d()
    signal = torch.randn(3, 5, 1, length, dtype=torch.float64)
    by_transform = operator(signal)
    operator.form = "recurrent"
    torch.testing.assert_close(operator(signal), by_transform, rtol=0, atol=1e-13)


def test_both_forms_have_the_same_gradients():
    gradients = []
    signal = torch.randn(2, 5, 40, dtype=torch.float64)
    for form in ("fft", "recurrent"):
        operator = s4d(form=form)
        operator(signal).square().sum().backward()
        gradients.append([p.grad for p in operator.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("length", [1, 7, 100, 4096])
def test_the_split_kernel_equals_the_whole_vandermonde_sum(length):
    operator = s4d()
    dt = operator.log_step.exp()[:, None]
    pole = torch.complex(-operator.log_decay.exp(), operator.frequency)
    weight = torch.view_as_complex(operator.output) * ((pole * dt).exp() - 1) / pole
    powers = (pole * dt)[..., None] * torch.arange(length)
    whole = 2 * (weight[..., None] * powers.exp()).sum(1).real
    torch.testing.assert_close(operator.kernel(length), whole, rtol=0, atol=1e-13)


def test_first_poles_are_those_of_s4d_lin():
    operator = S4d(6, 8)
    assert torch.equal(operator.log_decay.exp(), torch.full((6, 4), 0.5))
    torch.testing.assert_close(operator.frequency[2], torch.pi * torch.arange(4.0))
    dt = operator.log_step.exp()
    assert 0.001 <= dt.min() <= dt.max() <= 0.1


def test_an_impulse_gives_the_kernel_and_nothing_before_it():
    operator = s4d()
    signal = torch.zeros(1, 5, 50, dtype=torch.float64)
    signal[..., 20] = 1
    answer = operator(signal)[0]
    assert answer[:, :20].abs().max() < 1e-14
    expected = operator.kernel(30)
    expected[:, 0] += operator.skip
    torch.testing.assert_close(answer[:, 20:], expected, rtol=0, atol=1e-13)


def test_a_frozen_kernel_is_made_once_and_again_after_a_change(monkeypatch):
    operator, made = s4d(), []
    kernel = S4d.kernel
    monkeypatch.setattr(S4d, "kernel", lambda *given: made.append(1) or kernel(*given))
    signal = torch.randn(2, 5, 30, dtype=torch.float64, requires_grad=True)
    trained = operator(signal)
    operator(signal)
    assert len(made) == 2  # its parameters train
    operator.requires_grad_(False)
    frozen = operator(signal)
    operator(signal).sum().backward()
    assert len(made) == 3
    assert torch.equal(trained, frozen)
    with torch.no_grad():
        operator.skip.add_(1.0)
        operator.log_step.add_(0.1)
    changed = operator(signal)
    assert len(made) == 4
    assert not torch.allclose(changed, frozen)


@pytest.mark.parametrize("given", [{"form": "parallel"}, {"states": 7}, {"states": 0}])
def test_s4d_refuses_other_forms_and_sizes(given):
    with pytest.raises(SpecError, match="s4d"):
        S4d(**{"channels": 2, "states": 4} | given)


@pytest.mark.parametrize("features", NCPS_DIGESTS)
def test_wiring_is_that_of_ncps(features):
    masks = circuit_masks(features, *SIZES)
    packed = b"".join(np.packbits(mask).tobytes() for mask in masks)
    assert hashlib.sha256(packed).hexdigest()[:12] == NCPS_DIGESTS[features]


def test_density_of_the_wiring():
    inter, command, motor = circuit_masks(128, *SIZES)
    assert [mask.shape for mask in (inter, command, motor)] == [(9, 137), (5, 14), (6, 11)]
    assert (inter[:, :128].sum(axis=0) == 4).all()
    assert (command[:, :9].sum(axis=0) == 2).all()
    assert (motor[:, :5].sum(axis=1) == 2).all()
    for mask, inputs in ((inter, 128), (command, 9), (motor, 5)):
        assert mask[:, inputs:].all()
        assert mask.any(axis=1).all()


def test_cells_equal_those_of_ncps():
    wirings = pytest.importorskip("ncps.wirings")
    reference = pytest.importorskip("ncps.torch").CfC(128, wirings.AutoNCP(20, 6), batch_first=True)
    network = cells()
    with torch.no_grad():
        for cell, theirs in zip(network, reference.rnn_cell._layers, strict=True):
            assert torch.equal(cell.mask, theirs.sparsity_mask)
            for gate, name in enumerate(("ff1", "ff2", "time_a", "time_b")):
                cell.weight[..., gate] = getattr(theirs, name).weight
                cell.bias[..., gate] = getattr(theirs, name).bias
    features = torch.randn(7, 128)
    torch.testing.assert_close(decode(network, features), reference(features[:, None])[0][:, 0])
    torch.testing.assert_close(decode_as_sequence(network, features), reference(features)[0])


def test_a_sample_does_not_see_the_others_of_its_batch():
    network, features = cells(), torch.randn(12, 128)
    order = torch.randperm(12)
    clean = decode(network, features)
    torch.testing.assert_close(decode(network, features[order]), clean[order])
    leaked = decode_as_sequence(network, features)
    torch.testing.assert_close(leaked[0], clean[0])
    assert (leaked[1:] - clean[1:]).abs().max() > 0.01
    assert not torch.allclose(decode_as_sequence(network, features[order]), leaked[order])


def test_logits_stay_between_minus_one_and_one_and_masked_weights_have_no_gradient():
    network = cells()
    with torch.no_grad():
        for cell in network:
            cell.weight.mul_(3)
    logits = decode(network, 3 * torch.randn(64, 128))
    assert logits.abs().max() < 1
    logits.sum().backward()
    for cell in network:
        inputs = cell.mask.shape[1] - len(cell.mask)
        assert not cell.mask.requires_grad
        assert not cell.weight.grad[..., :2][cell.mask == 0].any()
        assert cell.weight.grad[:, :inputs, 2:].any()
        assert not cell.weight.grad[:, inputs:].any()  # the state is zero in the only step


def network(**options):
    torch.manual_seed(5)
    return build_module(
        catalog.load("model", "tdssm").build(**{key: str(size) for key, size in options.items()})
    )


@pytest.mark.parametrize("channels", [8, 128])
def test_the_graph_has_the_modules_parameters_and_masks(channels):
    module = network(d_model=channels)
    assert sum(p.numel() for p in module.parameters()) == module.graph.parameter_count
    assert sum(b.numel() for b in module.buffers()) == module.graph.constant_count


def test_gradients_of_a_batch_are_the_mean_of_its_samples():
    module = network(d_model=12, length=50).requires_grad_(True)
    signals, labels = torch.rand(6, 12, 1, 50), torch.rand(6, 6).round()

    def gradients(part: slice):
        module.zero_grad(set_to_none=True)
        logits = module(signals[part])
        torch.nn.functional.binary_cross_entropy_with_logits(logits, labels[part]).backward()
        return [p.grad.clone() for p in module.parameters()]

    whole = gradients(slice(None))
    parts = [gradients(slice(at, at + 1)) for at in range(6)]
    for one, *others in zip(whole, *parts, strict=True):
        torch.testing.assert_close(torch.stack(others).mean(0), one, rtol=1e-5, atol=1e-7)


def test_the_network_answers_each_sample_alone_and_within_bounds():
    module, signals = network(d_model=16, length=64), 5 * torch.randn(9, 12, 1, 64)
    with torch.no_grad():
        logits = module(signals)
        order = torch.randperm(9)
        torch.testing.assert_close(module(signals[order]), logits[order])
        torch.testing.assert_close(module(signals[:1]), logits[:1])
    assert logits.shape == (9, 6)
    assert logits.abs().max() < 1


def test_both_forms_of_the_network_agree():
    module, other = network(d_model=6, length=40), network(d_model=6, length=40, form="recurrent")
    other.load_state_dict(module.state_dict())
    signals = torch.rand(2, 12, 1, 40)
    torch.testing.assert_close(module(signals), other(signals), rtol=1e-5, atol=1e-5)


def test_dropout_takes_whole_channels():
    module = network(d_model=64, length=30)
    dropout = module.get_submodule("middle.dropout").train()
    dropped = dropout(torch.ones(8, 64, 1, 30))
    assert (dropped.amin(-1) == dropped.amax(-1)).all()
    assert 0 < (dropped == 0).float().mean() < 0.3


def products(policy: str, batch: int) -> tuple[int, int]:
    """Multiply-accumulates of convolutions and matrix products, forward and backward."""
    asked = Session(model="tdssm:length=1024", device="radxa-zero", policy=policy)
    module = build_module(asked.graph).requires_grad_(False)
    chosen = zip(asked.chosen_policy.layer_names, asked.chosen_policy.slices, strict=True)
    for name, taken in chosen:
        module.get_submodule(name).requires_grad_(taken > 0)
    counts = []
    for backward in (False, True):
        with FlopCounterMode(display=False) as counter:
            answer = module(torch.rand(batch, 12, 1, 1024))
            if backward:
                answer.sum().backward()
        counts.append(counter.get_total_flops() // 2)
    return counts[0], counts[1] - counts[0]


# torch's counter sees no Fourier transform
@pytest.mark.parametrize(
    ("policy", "per_sample", "once"),
    [("full", 2, 3), ("mu-train", 2, 3), ("mu-finetune", 1, 0), ("decoder-only", 0, 0)],
)
def test_products_are_those_that_torch_counts(policy, per_sample, once):
    one, two = products(policy, 1), products(policy, 2)
    each = tuple(more - less for less, more in zip(one, two, strict=True))
    output, encoder, kernel = 1024 * 128 * 256, 1024 * 12 * 128, 2 * 128 * 32 * 1024
    trains_encoder = policy in ("full", "mu-finetune")
    assert each[0] == pytest.approx(output + encoder, rel=1e-3)  # the rest is the decoder
    backward = per_sample * output + trains_encoder * encoder
    assert each[1] == pytest.approx(backward, rel=1e-3, abs=20_000)
    assert 2 * sum(one) - sum(two) == once * kernel


@pytest.mark.parametrize(
    "policy",
    ["full", "mu-train", "mu-finetune", "decoder-only", "bias-only:last=all", "last-k:k=3", "none"],
)
def test_what_trains_in_torch_is_what_the_cost_counts(policy):
    asked = Session(model="tdssm:d_model=16,length=64", device="radxa-zero", policy=policy)
    trained = apply_to_copy(build_module(asked.graph), asked.graph, asked.chosen_policy, None)
    assert sum(p.numel() for p in trained) == asked.cost().trained_parameters
