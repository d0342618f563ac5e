"""The table of other tools: an absent or a failing tool is a row, a count is compared."""

import importlib.util
from pathlib import Path

import pytest

from explorer import catalog
from explorer.costmodel.evaluate import evaluate
from tests.helpers import batch_of, device_for, policy_of

pytestmark = pytest.mark.train
GRAPH = catalog.load("model", "digits-cnn").build()
SOURCE = Path(__file__).parents[2] / "benchmarks" / "peers.py"


@pytest.fixture
def peers():
    spec = importlib.util.spec_from_file_location("peers", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(peers, *tools):
    peers.PEERS = tools
    full = evaluate(GRAPH, device_for("fp32"), batch_of(GRAPH, policy_of(GRAPH, 1.0)))
    timed = []

    def seconds(work, repeats):
        timed.append(work())
        return 3.0

    rows = peers.peer_rows(GRAPH, full, 0.5, 1.0, seconds)
    assert all(len(row) == len(peers.HEAD) for row in rows)
    return {row[0].split(" (")[0]: row[1:] for row in rows}, timed


def test_absent_and_failing_tools_are_rows(peers):
    absent = peers.Peer("no-such-package", "absent", "no", "-", lambda *_: 1.0)
    broken = peers.Peer("torch", "broken", "no", "-", lambda *_: 1 / 0)
    rows, timed = rows_of(peers, absent, broken)
    assert rows["absent"][0] == "not installed"
    assert rows["broken"][0] == "fails: ZeroDivisionError"
    assert timed == []
    assert rows["explorer, a network's first policy"][:2] == ("1000 ms", "2x")


def test_counts_and_times_are_compared_with_ours(peers):
    """torch counts a multiply and an add each; its forward count is ours for one sample."""

    def forward(module, batch):
        with peers.FlopCounterMode(display=False) as counter:
            module(batch)
        return counter.get_total_flops() / 2 / peers.BATCH

    rows, timed = rows_of(peers, peers.Peer("torch", "forward", "no", "-", forward))
    assert rows["forward"][:4] == ("3000 ms", "6x", "no", "1.000")
    none = evaluate(GRAPH, device_for("fp32"), batch_of(GRAPH, policy_of(GRAPH)))
    assert timed == none.forward_macs.tolist()
