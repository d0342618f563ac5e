"""Measure policies of a signal network on its target domain, and what its source forgets.

    EXPLORER_DATA=... python scripts/run_signals_ledger.py mi-bminet --episodes 4

Every row is what `explorer measure MODEL TASK --policy ... --ledger ...` prints. Policies
published for another norm are measured from the weights of that norm. Runs that the ledger
holds are skipped, so a stopped sweep goes on where it was.
"""

import argparse
import contextlib
import io
import time
from pathlib import Path

from explorer import Session
from explorer.accuracy.records import Ledger
from explorer.cli import run
from explorer.paths import data_cache, kept_name

POLICIES = ("none", "biotrain-last-layer", "biotrain-edge", "full", "last-k:k=2", "bias-only")
BN_POLICIES = ("none", "biotrain-last-layer", "biotrain-full-bn")


def main() -> None:
    """Measure what is missing, group norm first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--task")
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--tuning", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--policy", nargs="*", default=POLICIES)
    parser.add_argument("--bn-policy", nargs="*", default=BN_POLICIES)
    parser.add_argument("--ledger", type=Path)
    options = parser.parse_args()
    session = Session(model=options.model, task=options.task, policy="none")
    task = session.task_name
    name = f"{kept_name(session.graph.name, task)}.jsonl"
    ledger = Ledger(options.ledger or data_cache() / "runs" / name)
    for norm, policies in (("gn", options.policy), ("bn", options.bn_policy)):
        for policy in policies:
            asked = Session(model=options.model, task=task, norm=norm).with_policy(policy)
            rules = (options.seed, options.episodes, options.steps)
            key = (asked.graph.digest, asked.chosen_policy.family, *rules)
            done = {
                (r.model.digest, r.design.family, r.seed, r.episodes, r.protocol.steps)
                for r in ledger.read()
            }
            if key in done:
                continue
            command = ["measure", options.model, task, "--policy", policy, "--norm", norm]
            command += ["--episodes", str(options.episodes), "--tuning", str(options.tuning)]
            command += ["--steps", str(options.steps), "--seed", str(options.seed)]
            command += ["--ledger", str(ledger.path), "--json"]
            with contextlib.redirect_stdout(io.StringIO()):
                code = run(command)
            if code:
                raise SystemExit(code)
            new = ledger.read().runs[-1]
            forgotten = new.source.get("accuracy")
            print(
                f"{time.strftime('%H:%M:%S')} {norm} {policy:20s} rate {new.learning_rate:.1e} "
                f"{new.accuracy_before:.3f} -> {new.accuracy:.3f} +- {new.standard_error:.3f}, "
                f"source {'' if forgotten is None else f'{forgotten.before:.3f} -> '}"
                f"{'' if forgotten is None else f'{forgotten.after:.3f}'}, {new.wall_time_s:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
