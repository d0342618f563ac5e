"""Measure every known policy of a network on a task and keep the runs in its ledger.

    EXPLORER_DATA=... python scripts/run_known_ledger.py mcunet-5fps sign-digits

Policies are those `explorer compare` lists for the device. Runs that the ledger holds are
skipped, so a stopped sweep goes on where it was. One process, one thread.
"""

import argparse
import time
from pathlib import Path

from explorer import Session
from explorer.accuracy.finetune import measure, measured_design, task_protocol
from explorer.accuracy.records import DesignRecord, Ledger, run_key
from explorer.accuracy.tasks import task_for
from explorer.accuracy.torch_bridge import model_module, state_digest
from explorer.paths import data_cache

ANCHORS = ("none", "last-layer", "full")


def main() -> None:
    """Measure what is missing, anchors first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("task")
    parser.add_argument("--device", default="gap9", help="what budgets of policies refer to")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--tuning-episodes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ledger", type=Path)
    options = parser.parse_args()
    session = Session(model=options.model, task=options.task, device=options.device)
    graph, designs = session.graph, session.compare().designs
    policies = sorted(
        (designs.policy(row) for row in range(len(designs))),
        key=lambda policy: (*ANCHORS, policy.family).index(policy.family),
    )
    name = f"{graph.name}-{options.task}.jsonl"
    ledger = Ledger(options.ledger or data_cache() / "runs" / name)
    done = ledger.read().measured()
    protocol, module = task_protocol(task_for(options.task, graph.input_shape)), model_module(graph)
    weights = state_digest(module)
    for number, policy in enumerate(policies, start=1):
        record = DesignRecord.of(measured_design(policy, protocol))
        key = run_key(
            graph.digest, weights, options.task, record, options.seed, options.episodes, protocol
        )
        if key in done:
            continue
        run = measure(
            graph,
            options.task,
            policy,
            episodes=options.episodes,
            seed=options.seed,
            protocol=protocol,
            tuning_episodes=options.tuning_episodes,
            module=module,
        )
        ledger.append(run)
        print(
            f"{time.strftime('%H:%M:%S')} {number}/{len(policies)} {policy.family:32s} "
            f"rate {run.learning_rate:.1e} {run.accuracy_before:.3f} -> {run.accuracy:.3f} "
            f"+- {run.standard_error:.3f}, {run.wall_time_s:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
