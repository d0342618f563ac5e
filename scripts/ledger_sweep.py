"""Measure designs that a ledger does not hold yet; what the scripts run_*_ledger.py share."""

import time
from collections.abc import Iterable

from explorer.accuracy.finetune import measure, measured_design
from explorer.accuracy.records import DesignRecord, Ledger, Protocol, run_key
from explorer.accuracy.torch_bridge import GraphModule, state_digest
from explorer.design import UpdatePolicy
from explorer.graph import ModelGraph


def sweep(
    ledger: Ledger,
    graph: ModelGraph,
    module: GraphModule,
    task: str,
    plan: Iterable[tuple[UpdatePolicy, int]],
    *,
    protocol: Protocol,
    seed: int,
    tuning_episodes: int,
    limit: int | None = None,
) -> None:
    """Measure policies, each on its number of episodes, in this order; at most `limit` new ones.

    Every run is in the ledger before the next begins, so a stopped sweep goes on where it was.
    """
    content, weights = ledger.read(), state_digest(module)
    done = content.measured()
    print(f"{len(content)} runs in {ledger.path}, {content.corrupt_lines} broken lines")
    left = []
    for policy, episodes in plan:
        record = DesignRecord.of(measured_design(policy, protocol))
        if run_key(graph.digest, weights, task, record, seed, episodes, protocol) not in done:
            left.append((policy, episodes))
    print(f"{len(left)} designs to measure", flush=True)
    for number, (policy, episodes) in enumerate(left[:limit], start=1):
        run = measure(
            graph,
            task,
            policy,
            episodes=episodes,
            seed=seed,
            protocol=protocol,
            tuning_episodes=tuning_episodes,
            module=module,
        )
        ledger.append(run)
        print(
            f"{time.strftime('%H:%M:%S')} {number}/{len(left)} {policy.family:32s} "
            f"rate {run.learning_rate:.1e} {run.accuracy_before:.3f} -> {run.accuracy:.3f} "
            f"+- {run.standard_error:.3f}, {run.wall_time_s:.1f} s",
            flush=True,
        )
