"""Dequantised networks against the integers they came from, on real photographs."""

import numpy as np
import pytest
import torch
from int8_forward import int8_logits

from explorer import catalog, paths
from explorer.accuracy.tasks import load_task
from explorer.accuracy.torch_bridge import model_module
from explorer.errors import MissingDataError

IMAGES = 48


@pytest.fixture(scope="module")
def photographs():
    try:
        task = load_task("caltech-101", 128)
    except MissingDataError as error:
        pytest.skip(str(error))
    index = np.random.default_rng(0).choice(len(task.labels), IMAGES, replace=False)
    return torch.from_numpy(task.network_input(task.unit_images(index)))


@pytest.mark.parametrize("name", ["mcunet-5fps", "mbv2-w0.35", "proxyless-w0.3"])
def test_float_logits_follow_the_int8_ones(name, photographs):
    module = model_module(catalog.load("model", name).build(classes="1000"))
    expected = int8_logits(paths.explorer_data() / "models", name, photographs)
    with torch.no_grad():
        logits = module(photographs).double()
    pair = torch.stack((logits.flatten(), expected.flatten()))
    assert torch.corrcoef(pair)[0, 1] >= 0.99
    assert (logits.argmax(1) == expected.argmax(1)).double().mean() >= 0.75
    shuffled = torch.stack((logits.flatten(), expected.roll(1, 0).flatten()))
    assert torch.corrcoef(shuffled)[0, 1] < 0.9
