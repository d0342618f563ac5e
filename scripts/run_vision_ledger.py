"""Measure many designs of a vision network on a task and keep them in its ledger.

    EXPLORER_DATA=... python scripts/run_vision_ledger.py mcunet-5fps:resolution=84 omniglot \
        --ways 20 --queries 15

Known policies come first, on `--known-episodes` episodes each; then structured, random and
near-front designs on `--episodes`. All see the same episodes and have their learning rate
tuned on others. Runs that the ledger holds are skipped, so a stopped sweep goes on where it
was. One process, one thread. With MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ at
1000000000 glibc keeps freed memory, which saves policies that train from the start about a fifth.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from ledger_sweep import sweep

from explorer import Session
from explorer.accuracy.episodes import SHOTS
from explorer.accuracy.protocols import Protocol
from explorer.accuracy.records import Ledger
from explorer.accuracy.torch_bridge import loaded_module, model_module
from explorer.design import LayerAxes, UpdatePolicy
from explorer.paths import data_cache

ANCHORS = ("none", "last-layer", "full")
SEED = 0
SHARES = (0.125, 0.25, 0.5, 1.0)
SEARCH_TRIALS = 600
FRONT_COUNT = 12


def main() -> None:
    """Measure what is missing, known policies first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("task")
    parser.add_argument("--device", default="pi-zero-2w", help="what budgets of policies refer to")
    parser.add_argument("--ways", type=int, required=True)
    parser.add_argument("--queries", type=int, required=True)
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--known-episodes", type=int, default=20)
    parser.add_argument("--tuning-episodes", type=int, default=2)
    parser.add_argument("--weights", type=Path, help="from `explorer pretrain`; else its own")
    parser.add_argument("--limit", type=int, help="stop after so many new designs")
    parser.add_argument("--ledger", type=Path)
    options = parser.parse_args()
    session = Session(model=options.model, task=options.task, device=options.device)
    graph = session.graph
    name = f"{graph.name}-{options.task}.jsonl"
    sweep(
        Ledger(options.ledger or data_cache() / "runs" / name),
        graph,
        loaded_module(graph, options.weights) if options.weights else model_module(graph),
        options.task,
        planned(session, options.known_episodes, options.episodes),
        protocol=Protocol(ways=options.ways, shots=SHOTS, query_count=options.queries),
        seed=SEED,
        tuning_episodes=options.tuning_episodes,
        limit=options.limit,
    )


def planned(
    session: Session, known_episodes: int, episodes: int
) -> Iterator[tuple[UpdatePolicy, int]]:
    """Every design once, with its episodes: known ones, then the others in a mixed order."""
    designs = session.compare().designs
    known = [designs.policy(row) for row in range(len(designs))]
    known.sort(key=lambda policy: (*ANCHORS, policy.family).index(policy.family))
    seen = set()
    for policy in known:
        seen.add(_content(policy))
        yield policy, known_episodes
    axes = LayerAxes.of(session.graph)
    others = [*_structured(axes), *_random(axes), *_near_front(session)]
    for index in np.random.default_rng(SEED).permutation(len(others)):
        if _content(others[index]) not in seen:
            seen.add(_content(others[index]))
            yield others[index], episodes


def _content(policy: UpdatePolicy) -> UpdatePolicy:
    return replace(policy, family="")


def _structured(axes: LayerAxes) -> Iterator[UpdatePolicy]:
    """Tails of several depths, wholly and in shares, biases, segments, every fourth layer."""
    whole = len(axes.names)
    position = np.arange(whole)
    for depth in (2, 6, 8, 12, 16, 24, 32):
        yield _free(axes, f"last-k:k={depth}", 1.0 * _tail(axes, depth))
    for depth in (8, 16, 24):
        for share, selection in (
            (0.125, "fisher"),
            (0.25, "fisher"),
            (0.5, "fisher"),
            (0.25, "gradient"),
            (0.25, "magnitude"),
            (0.25, "random"),
        ):
            yield _free(axes, f"last-k-share:k={depth}", share * _tail(axes, depth), selection)
    for depth in (4, 8, 16, 24, 32):
        yield UpdatePolicy.of(
            f"bias-only:last={depth}",
            axes,
            slices=[0] * whole,
            update_bias=_tail(axes, depth),
        )
    for third in range(3):
        inside = position * 3 // whole == third
        yield _free(axes, f"segment:{third + 1}/3", 1.0 * inside)
        yield _free(axes, f"segment:{third + 1}/3", 0.25 * inside, "fisher")
    for start in range(4):
        yield _free(axes, f"every-fourth:{start}", 1.0 * (position % 4 == start))


def _random(axes: LayerAxes) -> Iterator[UpdatePolicy]:
    """Layers among the last `depth` with a probability, shares and biases drawn for each."""
    rng = np.random.default_rng(SEED)
    whole = len(axes.names)
    for depth in (6, 12, 20, 28, whole):
        for density in (0.2, 0.5, 0.9):
            for _ in range(2):
                inside = _tail(axes, depth) & (rng.random(whole) < density)
                ratios = np.where(inside, rng.choice(SHARES, whole), 0.0)
                bias = inside & (rng.random(whole) < 0.5)
                yield _free(axes, "random", ratios, rng.choice(["fisher", "random"]), bias)


def _near_front(session: Session) -> Iterator[UpdatePolicy]:
    """Members of the front that a search finds, spread along it."""
    front = session.search(trials=SEARCH_TRIALS, seed=SEED).table
    rows = np.flatnonzero(front.on_front)
    rows = rows[np.argsort(front.costs.step_energy_j[rows])]
    for row in rows[np.linspace(0, len(rows) - 1, FRONT_COUNT).astype(int)]:
        yield replace(front.designs.policy(row), family="front")


def _free(
    axes: LayerAxes,
    family: str,
    ratios: np.ndarray,
    selection: str = "first",
    bias: np.ndarray | None = None,
) -> UpdatePolicy:
    return UpdatePolicy.of(
        family,
        axes,
        slices=axes.slices(ratios),
        update_bias=ratios > 0 if bias is None else bias,
        selection=selection,
    )


def _tail(axes: LayerAxes, count: int) -> np.ndarray:
    return np.arange(len(axes.names)) >= len(axes.names) - count


if __name__ == "__main__":
    main()
