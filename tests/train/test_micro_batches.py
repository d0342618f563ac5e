"""Accumulated micro-batches against the whole batch, in double precision.

Group norm and frozen batch norm see one sample at a time, so the gradients of eight
micro-batches add up to that of the batch; a batch norm sees other statistics.
"""

import pytest
import torch
from torch.nn.functional import cross_entropy

from explorer.accuracy.torch_bridge import GraphModule, build_module
from explorer.graph import normalised
from explorer.search.sources import model_graph
from explorer.session import Session
from tests.helpers import BIOSIGNALS

pytestmark = pytest.mark.train
BATCH = 8


def gradients_by(module: GraphModule, signals, labels, micro_batch: int) -> dict:
    """Of the mean loss of the batch, summed over micro-batches."""
    module.zero_grad()
    for part, wanted in zip(signals.split(micro_batch), labels.split(micro_batch), strict=True):
        loss = cross_entropy(module(part), wanted)
        (loss * micro_batch / BATCH).backward()
    return {name: weight.grad.clone() for name, weight in module.named_parameters()}


def difference(spec: str, norm: str) -> float:
    """The largest difference of a gradient between eight micro-batches and one batch."""
    graph = normalised(model_graph(spec), norm)
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(2)
    module = build_module(graph).double().train()
    signals = torch.randn(BATCH, *graph.input_shape, generator=generator, dtype=torch.double)
    labels = torch.randint(graph.layers[-1].out_shape[0], (BATCH,), generator=generator)
    whole = gradients_by(module, signals, labels, BATCH)
    parts = gradients_by(module, signals, labels, 1)
    return max(float((whole[name] - parts[name]).abs().max()) for name in whole)


@pytest.mark.parametrize("norm", ["gn", "frozen-bn"])
@pytest.mark.parametrize("spec", BIOSIGNALS)
def test_eight_micro_batches_are_the_batch(spec, norm):
    assert difference(spec, norm) < 1e-10


@pytest.mark.parametrize("spec", BIOSIGNALS)
def test_batch_norm_over_micro_batches_is_other_mathematics_and_is_flagged(spec):
    assert difference(spec, "bn") > 1e-3
    session = Session(model=spec, norm="bn", batch=BATCH, policy="full")
    assert any("other mathematics" in line for line in session.with_batch(8, 1).cost().warnings)
    assert not any("mathematics" in line for line in session.cost().warnings)
