"""Measure policies of a signal network on its target domain, and what its source forgets.

    EXPLORER_DATA=... python scripts/run_signals_ledger.py mi-bminet --episodes 4

Every row is what `explorer measure MODEL TASK --policy ... --ledger ...` prints. Policies
published for another norm are measured from the weights of that norm; a network without
batch or group norm has one form. With `--full-steps` so many of the steps train everything,
before, after or around those of the policy (`--position`). With `--lr` all run
at that rate, and none is tuned. With `--designs` so many structured and random designs follow,
of the first form, so that criteria and a calibration can be judged. Runs that the ledger holds
are skipped, so a stopped sweep goes on where it was.
"""

import argparse
import contextlib
import io
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ledger_sweep import sweep
from run_digits_ledger import designs

from explorer import Session
from explorer.accuracy.lessons import LESSON_SETUP
from explorer.accuracy.protocols import LessonProtocol
from explorer.accuracy.records import Ledger
from explorer.accuracy.torch_bridge import model_module
from explorer.cli import run
from explorer.design import DesignBatch, LayerAxes, UpdatePolicy
from explorer.paths import data_cache
from explorer.search.judge import design_keys
from explorer.search.sources import kept_name

POLICIES = ("none", "biotrain-last-layer", "biotrain-edge", "full", "last-k:k=2", "bias-only")
SEGMENT_POLICIES = (
    *("none", "decoder-only", "last-layer", "mu-finetune", "mu-train", "full", "mu-distilled"),
    *("bias-only", "last-k:k=2", "last-k:k=4", "mu-distilled:trains=ends"),
)
OPTIONS = {"full_steps": "--full-steps", "position": "--position", "learning_rate": "--lr"}
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
    parser.add_argument("--optimizer", help="the policy's or the usual one if absent")
    parser.add_argument("--full-steps", type=int)
    parser.add_argument("--position", choices=("begin", "rear", "sandwich"))
    parser.add_argument("--lr", dest="learning_rate", type=float, help="tuned if absent")
    parser.add_argument("--policy", nargs="*")
    parser.add_argument("--bn-policy", nargs="*", default=BN_POLICIES)
    parser.add_argument("--designs", type=int, default=0, help="so many beside the policies")
    parser.add_argument("--ledger", type=Path)
    options = parser.parse_args()
    session = Session(model=options.model, task=options.task, policy="none")
    task = session.task_name
    name = f"{kept_name(session.graph.name, task)}.jsonl"
    ledger = Ledger(options.ledger or data_cache() / "runs" / name)
    forms = {"gn": options.policy or POLICIES, "bn": options.bn_policy}
    if session.graph.norm not in forms:
        forms = {None: options.policy or SEGMENT_POLICIES}
    changed = {name: getattr(options, name) for name in ("full_steps", "position", "learning_rate")}
    changed = {name: value for name, value in changed.items() if value is not None}
    rules = LessonProtocol(steps=options.steps, **changed)
    for norm, policies in forms.items():
        for policy in policies:
            asked = Session(model=options.model, task=task, norm=norm).with_policy(policy)
            done = {
                (r.model.digest, r.design.family, r.protocol)
                for r in ledger.read()
                if (r.seed, r.episodes) == (options.seed, options.episodes)
                and options.optimizer in (None, r.design.setup.optimizer)
            }
            if (asked.graph.digest, asked.chosen_policy.family, rules) in done:
                continue
            command = ["measure", options.model, task, "--policy", policy]
            command += ["--norm", norm] if norm else []
            command += ["--optimizer", options.optimizer] if options.optimizer else []
            for name, value in changed.items():
                command += [OPTIONS[name], str(value)]
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
                f"{time.strftime('%H:%M:%S')} {norm or ''} {policy:22s} "
                f"rate {new.learning_rate:.1e} "
                f"{new.accuracy_before:.3f} -> {new.accuracy:.3f} +- {new.standard_error:.3f}, "
                f"source {'' if forgotten is None else f'{forgotten.before:.3f} -> '}"
                f"{'' if forgotten is None else f'{forgotten.after:.3f}'}, {new.wall_time_s:.0f} s",
                flush=True,
            )

    if options.designs:
        others = next(iter(forms.values()))
        sweep(
            ledger,
            session.graph,
            model_module(session.graph),
            task,
            [(one, options.episodes) for one in _others(session, others)[: options.designs]],
            protocol=rules,
            seed=options.seed,
            tuning_episodes=options.tuning,
            setup=replace(LESSON_SETUP, optimizer=options.optimizer or LESSON_SETUP.optimizer),
        )


def _others(session: Session, policies: Iterable[str]) -> list[UpdatePolicy]:
    """Designs in a mixed order, without what one of the policies trains under its own name."""
    axes = LayerAxes.of(session.graph)
    named = [session.with_policy(policy).chosen_policy for policy in policies]
    found = designs(axes)
    taken, keys = (design_keys(DesignBatch.of(axes, one, LESSON_SETUP)) for one in (named, found))
    return [policy for policy, key in zip(found, keys, strict=True) if key not in taken]


if __name__ == "__main__":
    main()
