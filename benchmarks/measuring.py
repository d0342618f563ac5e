"""How many fine-tunings a minute real measuring makes, together and one by one.

`EXPLORER_DATA=... python benchmarks/measuring.py` keeps the rows in `results/measuring.json`; it
needs the network's weights and both tasks.
Times are of the processor on one thread, the best of a few turns. A policy-episode is one
fine-tuning of 40 steps with its tests of the queries, drawing the episode, running its frozen
layers and choosing channels; together, policies share the last three. Sparse policies train a
part of the layers; those that reach the first one stand beside them.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from explorer.accuracy.episodes import Prefix, protocol_episode
from explorer.accuracy.fisher import score_table
from explorer.accuracy.group import train_all, trainees_of
from explorer.accuracy.progress import Ticker
from explorer.accuracy.protocols import Protocol
from explorer.accuracy.tasks import task_for
from explorer.accuracy.torch_bridge import model_module
from explorer.accuracy.trainer import finetune, first_trained_position, train_copy
from explorer.session import Session

MODEL = "mcunet-5fps:resolution=84"
TASKS = {
    "sign-digits": Protocol(ways=10, shots=5, query_count=40),
    "omniglot": Protocol(ways=20, shots=5, query_count=15),
}
SPARSE = (
    "last-layer",
    "last-k:k=4",
    "last-k:k=16",
    "bias-only:last=12",
    "sparse-update:scheme=49kb",
    "sparse-update:scheme=99kb",
    "tinytrain:macs=0.15",
    "tinytrain:macs=0.3",
)
DENSE = ("full", "bias-only", "tinytl", "adapter-drop")
KEPT = ("last-k:k=4", "tinytrain:macs=0.15")
RATE, KEPT_STEPS = 1e-4, 5
AIM_A_MINUTE, AIM_KEPT = 30, 2.5
RESULTS = Path(__file__).parent / "results" / "measuring.json"


def cpu_s(work):
    start = time.process_time()
    work()
    return time.process_time() - start


def best_of(repeats, *works):
    """The least time of each, taken in turn."""
    turns = [[cpu_s(work) for work in works] for _ in range(repeats)]
    return [min(column) for column in zip(*turns, strict=True)]


def task_rows(session, module, rules, repeats):
    graph = session.graph
    data = task_for(session.task_name, graph.input_shape)

    def episode():
        return protocol_episode(data, rules, seed=0, index=0)

    def alone(specs):
        for spec in specs:
            policy = session.with_policy(spec).chosen_policy
            finetune(module, graph, policy, episode(), learning_rate=RATE, steps=rules.steps)

    def together():
        trainees = trainees_of(module, graph, sparse)
        tick = Ticker("fine-tunings", 0, None, None)
        train_all(trainees, episode(), [(RATE,)] * len(sparse), tick, steps=rules.steps)

    def steps(policy, prefix):
        rest = {"learning_rate": RATE, "steps": KEPT_STEPS, "scores": scores, "prefix": prefix}
        train_copy(module, graph, policy, whole, **rest)

    sparse = [session.with_policy(spec).chosen_policy for spec in SPARSE]
    alone_s, together_s = best_of(repeats, lambda: alone(SPARSE), together)
    size = f"{rules.ways}-way {rules.shots}-shot, {rules.query_count} queries"
    yield (
        f"{session.task_name}, {size}: {len(sparse)} sparse policies one by one",
        f"{60 * len(sparse) / alone_s:.0f} policy-episodes a core-minute",
        "",
    )
    yield (
        "the same together",
        f"{60 * len(sparse) / together_s:.0f} policy-episodes a core-minute",
        f"{alone_s / together_s:.2f}x faster (aim {AIM_A_MINUTE} a core-minute)",
    )
    for spec in DENSE:
        (dense_s,) = best_of(repeats, lambda one=spec: alone([one]))
        yield spec, f"{60 / dense_s:.0f} policy-episodes a core-minute", ""
    whole = episode()
    scores = score_table(module, graph, [whole])
    for spec in KEPT:
        policy = session.with_policy(spec).chosen_policy
        kept = Prefix.of(module, whole, first_trained_position(graph, policy))
        plain_s, kept_s = best_of(
            repeats,
            lambda one=policy: steps(one, None),
            lambda one=policy, cut=kept: steps(one, cut),
        )
        yield (
            f"a step of {spec} with its frozen layers kept",
            f"{kept_s / KEPT_STEPS * 1e3:.0f} ms",
            f"{plain_s / kept_s:.1f}x faster than from the images (aim {AIM_KEPT}x)",
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    module = model_module(Session(model=MODEL).graph)
    torch.optim.Adam([torch.zeros(1)])  # its first use imports for a second
    rows = []
    for task, rules in TASKS.items():
        session = Session(model=MODEL, task=task, device="pi-zero-2w")
        for row in task_rows(session, module, rules, options.repeats):
            print(" | ".join(row), flush=True)
            rows.append(row)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
