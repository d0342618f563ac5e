"""Measure designs that a ledger does not hold yet; what the scripts run_*_ledger.py share."""

import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from explorer.accuracy.finetune import accuracy_curves
from explorer.accuracy.protocols import AnyProtocol
from explorer.accuracy.records import Ledger
from explorer.accuracy.torch_bridge import GraphModule
from explorer.design import TrainingSetup, UpdatePolicy
from explorer.graph import ModelGraph
from explorer.search.measurer import Measurer

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
    setup: TrainingSetup | None = None,
    limit: int | None = None,
) -> None:
    """Measure policies, each on its number of episodes, in this order; at most `limit` new ones.

    Policies of one number share their episodes, in groups of GROUP_EPISODES fine-tunings or a
    few more with those that tune. Every group is in the ledger before the next begins, so a
    stopped sweep goes on where it was.
    """
    content = ledger.read()
    print(f"{len(content)} runs in {ledger.path}, {content.corrupt_lines} broken lines")
    measurer = Measurer(
        graph=graph,
        task=task,
        ledger=ledger,
        seed=seed,
        protocol=protocol,
        setup=setup,
        module=module,
    )
    done = measurer.runs()
    left = [
        (policy, episodes)
        for policy, episodes in plan
        if replace(measurer, episodes=episodes).key(policy) not in done
    ]
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
                setup=setup,
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
