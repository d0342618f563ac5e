"""Measure designs that a ledger does not hold yet; what the scripts run_*_ledger.py share."""

import time
from collections.abc import Iterable
from itertools import groupby

from explorer.accuracy.course import measured_design
from explorer.accuracy.finetune import accuracy_curves
from explorer.accuracy.records import AnyProtocol, DesignRecord, Ledger, run_key
from explorer.accuracy.torch_bridge import GraphModule, state_digest
from explorer.design import UpdatePolicy
from explorer.graph import ModelGraph

GROUP_EPISODES = 60


def sweep(
    ledger: Ledger,
    graph: ModelGraph,
    module: GraphModule,
    task: str,
    plan: Iterable[tuple[UpdatePolicy, int]],
    *,
    protocol: AnyProtocol,
    seed: int,
    tuning_episodes: int,
    limit: int | None = None,
) -> None:
    """Measure policies, each on its number of episodes, in this order; at most `limit` new ones.

    Policies of one number share their episodes, in groups of GROUP_EPISODES fine-tunings or a
    few more with those that tune. Every group is in the ledger before the next begins, so a
    stopped sweep goes on where it was.
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
    number = 0
    for episodes, same in groupby(left[:limit], key=lambda entry: entry[1]):
        policies = [policy for policy, _ in same]
        size = max(1, GROUP_EPISODES // episodes)
        for first in range(0, len(policies), size):
            curves = accuracy_curves(
                graph,
                task,
                policies[first : first + size],
                steps=(),
                episodes=episodes,
                seed=seed,
                protocol=protocol,
                tuning_episodes=tuning_episodes,
                module=module,
            )
            for run in (curve.run for curve in curves):
                ledger.append(run)
                number += 1
                print(
                    f"{time.strftime('%H:%M:%S')} {number}/{len(left)} {run.design.family:32s} "
                    f"rate {run.learning_rate:.1e} {run.accuracy_before:.3f} -> "
                    f"{run.accuracy:.3f} +- {run.standard_error:.3f}, {run.wall_time_s:.1f} s",
                    flush=True,
                )
