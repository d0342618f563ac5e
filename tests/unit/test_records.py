import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from explorer import catalog
from explorer.accuracy.protocols import Protocol
from explorer.accuracy.records import DesignRecord, Ledger, MeasuredRun, Tuning
from explorer.design import Design, LayerAxes, TrainingSetup, UpdatePolicy
from explorer.document import Named

GRAPH = catalog.load("model", "digits-cnn").build()
AXES = LayerAxes.of(GRAPH)


def run(seed=0, slices=3) -> MeasuredRun:
    last = len(AXES.names) - 1
    policy = UpdatePolicy.of(
        "test",
        AXES,
        slices=[0] * last + [slices],
        update_bias=[False] * last + [True],
        channel_axis="in",
        selection="fisher",
    )
    return MeasuredRun(
        model=Named(name=GRAPH.name, digest=GRAPH.digest),
        weights_digest="0" * 12,
        task="digits",
        design=DesignRecord.of(Design(policy=policy, setup=TrainingSetup(optimizer="adam"))),
        seed=seed,
        episodes=2,
        protocol=Protocol(),
        learning_rate=1e-3,
        tuning=Tuning(episodes=1, rates=(1e-3,), accuracies=(0.5,)),
        accuracy_before=0.4,
        accuracy=0.6,
        standard_error=0.1,
        standard_error_gain=0.05,
        nll_before=1.5,
        nll=1.0,
        per_episode_accuracy_before=(0.3, 0.5),
        per_episode_accuracy=(0.5, 0.7),
        wall_time_s=1.25,
        versions={"torch": "2"},
    )


def test_a_run_comes_back_as_it_was(tmp_path):
    ledger = Ledger(tmp_path / "deep" / "runs.jsonl")
    assert len(ledger.read()) == 0
    for seed in range(3):
        ledger.append(run(seed))
    content = ledger.read()
    assert list(content) == [run(seed) for seed in range(3)]
    assert content.corrupt_lines == 0
    assert content.measured() == {run(seed).key for seed in range(3)}
    assert run(slices=2).key not in content.measured()


def test_the_design_comes_back_as_a_policy():
    policy = run().design.policy(GRAPH)
    assert policy.slices[-1] == 3
    assert (policy.channel_axis, policy.selection) == ("in", "fisher")


def test_a_line_holds_what_the_design_promises():
    line = run().model_dump(mode="json")
    for field in ("model", "task", "design", "seed", "episodes", "accuracy_before", "accuracy",
                  "standard_error", "wall_time_s", "versions"):  # fmt: skip
        assert field in line
    assert set(line["model"]) == {"name", "digest"}


def test_every_cut_of_the_last_line_costs_that_run_only(tmp_path):
    ledger = Ledger(tmp_path / "runs.jsonl")
    ledger.append(run(0))
    first = ledger.path.read_bytes()
    ledger.append(run(1))
    whole = ledger.path.read_bytes()
    for cut in range(len(first) + 1, len(whole) - 1, 97):
        ledger.path.write_bytes(whole[:cut])
        content = ledger.read()
        assert ([r.seed for r in content], content.corrupt_lines) == ([0], 1)
        ledger.append(run(2))
        content = ledger.read()
        assert ([r.seed for r in content], content.corrupt_lines) == ([0, 2], 1)


def test_a_line_cut_just_before_its_end_counts(tmp_path):
    ledger = Ledger(tmp_path / "runs.jsonl")
    ledger.append(run(0))
    ledger.path.write_bytes(ledger.path.read_bytes()[:-1])
    ledger.append(run(1))
    assert [r.seed for r in ledger.read()] == [0, 1]


def test_foreign_lines_are_counted_not_trusted(tmp_path):
    ledger = Ledger(tmp_path / "runs.jsonl")
    changed = run().model_dump(mode="json") | {"surprise": 1}
    ledger.path.write_bytes(b"\xff\xfe\n{}\n\n" + json.dumps(changed).encode() + b"\n")
    assert (len(ledger.read()), ledger.read().corrupt_lines) == (0, 3)


WRITER = """
import sys
from pathlib import Path
from explorer.accuracy.records import Ledger, MeasuredRun
assert "torch" not in sys.modules
run = MeasuredRun.model_validate_json(sys.stdin.read())
ledger = Ledger(Path(sys.argv[1]))
for number in range(50):
    ledger.append(run.model_copy(update={"seed": int(sys.argv[2]) + number}))
"""


def test_two_writers_lose_nothing(tmp_path):
    path = tmp_path / "runs.jsonl"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(first)], stdin=subprocess.PIPE
        )
        for first in (0, 1000)
    ]
    for writer in writers:
        writer.communicate(run().model_dump_json().encode(), timeout=50)
    assert [writer.returncode for writer in writers] == [0, 0]
    content = Ledger(path).read()
    assert sorted(r.seed for r in content) == [*range(50), *range(1000, 1050)]
    assert content.corrupt_lines == 0


def test_episodes_and_accuracies_must_agree():
    with pytest.raises(ValidationError, match="1 accuracies for 2 episodes"):
        MeasuredRun.model_validate(run().model_dump() | {"per_episode_accuracy": (0.5,)})


def test_frames_name_one_run_a_row(tmp_path):
    ledger = Ledger(tmp_path / "runs.jsonl")
    ledger.append(run())
    frame = ledger.read().to_frame()
    assert frame.loc[0, "accuracy"] == 0.6
    assert frame.loc[0, "trained_layers"] == 1


def test_rows_from_before_samplers_still_load(tmp_path):
    line = run().model_dump(mode="json")
    assert line["protocol"].pop("sampler") == "fixed"
    del line["data_digest"]
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps(line) + "\n", "utf-8")
    assert list(Ledger(path).read()) == [run()]


def test_runs_of_two_protocols_are_two_measurements():
    varying = Protocol(sampler="varying")
    other = run().model_copy(update={"protocol": varying})
    assert other.key != run().key
    assert MeasuredRun.model_validate_json(other.to_json()).protocol == varying
