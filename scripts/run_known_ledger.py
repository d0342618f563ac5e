"""Measure every known policy of a network on a task and keep the runs in its ledger.

    EXPLORER_DATA=... python scripts/run_known_ledger.py mcunet-5fps sign-digits

Policies are those `explorer compare` lists for the device. Runs that the ledger holds are
skipped, so a stopped sweep goes on where it was. One process, one thread.
"""

import argparse
from pathlib import Path

from ledger_sweep import sweep

from explorer import Session
from explorer.accuracy.course import task_protocol
from explorer.accuracy.records import Ledger
from explorer.accuracy.tasks import task_for
from explorer.accuracy.torch_bridge import model_module
from explorer.paths import data_cache

ANCHORS = ("none", "last-layer", "full")


def main() -> None:
    """Measure what is missing, anchors first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("task")
    parser.add_argument("--device", default="gap9", help="what budgets of policies refer to")
    parser.add_argument("--ways", type=int, help="classes of an episode; the task's own")
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
    sweep(
        ledger,
        graph,
        model_module(graph),
        options.task,
        [(policy, options.episodes) for policy in policies],
        protocol=task_protocol(task_for(options.task, graph.input_shape), ways=options.ways),
        seed=options.seed,
        tuning_episodes=options.tuning_episodes,
    )


if __name__ == "__main__":
    main()
