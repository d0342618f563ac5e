"""A sweep keeps whole groups, loses only the running one, and measures nothing twice."""

import sys
from pathlib import Path

import pytest
import torch

from explorer.accuracy.finetune import measure
from explorer.accuracy.protocols import Protocol
from explorer.accuracy.records import Ledger
from explorer.accuracy.torch_bridge import model_module
from explorer.session import Session

torch.set_num_threads(1)
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
SESSION = Session(model="digits-cnn")
RULES = Protocol(ways=5, shots=1, query_count=3, steps=2)
SPECS = ("none", "last-layer", "bias-only:last=2", "last-k:k=2", "last-k:k=3")


class KilledError(Exception):
    """Stands for the end of a process."""


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import ledger_sweep

    yield ledger_sweep
    del sys.modules["ledger_sweep"]


def test_a_stopped_sweep_goes_on_where_it_was(script, tmp_path, monkeypatch, capsys):
    graph, module = SESSION.graph, model_module(SESSION.graph)
    policies = [SESSION.with_policy(spec).chosen_policy for spec in SPECS]
    plan = [(policy, 2) for policy in policies]
    rest = {"protocol": RULES, "seed": 0, "tuning_episodes": 1}
    ledger = Ledger(tmp_path / "runs.jsonl")
    alone = measure(graph, "digits", policies[3], episodes=2, module=module, **rest)
    ledger.append(alone)
    monkeypatch.setattr(script, "GROUP_EPISODES", 4)
    groups = []
    curves = script.accuracy_curves

    def dying(graph, task, members, **options):
        groups.append([policy.family for policy in members])
        if len(groups) == 2:
            raise KilledError
        return curves(graph, task, members, **options)

    monkeypatch.setattr(script, "accuracy_curves", dying)
    with pytest.raises(KilledError):
        script.sweep(ledger, graph, module, "digits", plan, **rest)
    assert [run.design.family for run in ledger.read()] == [SPECS[3], *SPECS[:2]]
    script.sweep(ledger, graph, module, "digits", [*plan, (policies[0], 3)], **rest)
    assert groups == [list(SPECS[:2]), [SPECS[2], SPECS[4]], [SPECS[2], SPECS[4]], ["none"]]
    content = ledger.read()
    assert len(content.measured()) == len(content) == len(SPECS) + 1
    assert len({run.per_episode_accuracy_before[:2] for run in content}) == 1
    assert "0 designs to measure" not in capsys.readouterr().out
    script.sweep(ledger, graph, module, "digits", plan, **rest)
    assert "0 designs to measure" in capsys.readouterr().out
    assert len(groups) == 4
