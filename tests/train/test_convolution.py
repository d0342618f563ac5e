"""Our convolution's gradients are torch's, and cost what the trained slices cost."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from explorer.accuracy.convolution import Convolution, Slices
from explorer.check import MacCounter

pytestmark = pytest.mark.train

torch.set_num_threads(1)
FEATURES = 8


def pair(kernel, stride, groups, size, bias=True):
    """Ours and torch's with the same weights, the same images, and a gradient of the output."""
    torch.manual_seed(0)
    shape = {"stride": stride, "padding": kernel // 2, "groups": groups}
    ours, plain = (
        of(FEATURES, FEATURES, kernel, bias=bias, **shape).to(memory_format=torch.channels_last)
        for of in (Convolution, nn.Conv2d)
    )
    plain.load_state_dict(ours.state_dict())
    images = torch.randn(3, FEATURES, *size).to(memory_format=torch.channels_last)
    return ours, plain, images, torch.randn_like(plain(images))


def gradients(layer, images, slope):
    images = images.clone().requires_grad_()
    layer(images).backward(slope)
    return images.grad, layer.weight.grad, None if layer.bias is None else layer.bias.grad


def close(left, right):
    return torch.allclose(left, right, rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.sampled_from((1, 3, 5, 7)),
    stride=st.sampled_from((1, 2)),
    depthwise=st.booleans(),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    axis=st.sampled_from(("out", "in")),
    count=st.none() | st.integers(1, 5),
    bias=st.booleans(),
)
def test_trained_slices_have_torchs_gradient_and_the_rest_none(
    kernel, stride, depthwise, size, axis, count, bias
):
    ours, plain, images, slope = pair(kernel, stride, FEATURES if depthwise else 1, size, bias)
    channels = None if count is None else torch.randperm(FEATURES)[:count]
    ours.trained = Slices(axis, channels)
    own, torchs = gradients(ours, images, slope), gradients(plain, images, slope)
    assert close(ours(images), plain(images))
    assert close(own[0], torchs[0])
    assert own[2] is torchs[2] is None or close(own[2], torchs[2])
    mask = torch.ones_like(plain.weight).bool()
    if channels is not None:
        mask[:] = False
        mask[channels if axis == "out" or depthwise else (slice(None), channels)] = True
    assert close(own[1][mask], torchs[1][mask])
    assert not own[1][~mask].any()


@pytest.mark.parametrize("groups", [1, 2, FEATURES])
def test_a_bias_alone_has_torchs_gradient(groups):
    ours, plain, images, slope = pair(3, 1, groups, (6, 5))
    for layer in (ours, plain):
        layer.weight.requires_grad_(False)
    own, torchs = gradients(ours, images, slope), gradients(plain, images, slope)
    assert own[1] is torchs[1] is None
    assert close(own[0], torchs[0])
    assert close(own[2], torchs[2])


def test_the_weight_gradient_costs_its_share():
    ours, _, images, slope = pair(3, 1, 1, (6, 6))
    ours.trained = Slices("out", torch.tensor([5, 2]))
    with MacCounter() as counter:
        ours(images).backward(slope)
    whole = 3 * 6 * 6 * FEATURES * FEATURES * 9
    assert counter.phases == {"forward": whole, "weight_grad": whole / 4, "input_grad": 0}


@pytest.mark.parametrize(("kernel", "wanted"), [(5, []), (3, [(False, True)])])
def test_wide_depthwise_kernels_skip_torchs_weight_gradient(kernel, wanted, monkeypatch):
    ours, _, images, slope = pair(kernel, 1, FEATURES, (3, 3))
    ours.trained = Slices("out", torch.tensor([5, 2]))
    asked, gradients_of = [], Convolution.gradients

    def watched(self, *args):
        asked.append(args[-1])
        return gradients_of(self, *args)

    monkeypatch.setattr(Convolution, "gradients", watched)
    ours(images).backward(slope)
    assert asked == wanted
