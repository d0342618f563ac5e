"""Measure many designs of digits-cnn on the digits 5-9, or on drawings, and keep them.

    python scripts/run_digits_ledger.py
    EXPLORER_DATA=... python scripts/run_digits_ledger.py --task omniglot --ways 10 \
        --episodes 10 --tuning-episodes 2

Every design sees the same episodes (5-way, 5-shot unless told otherwise) and has its
learning rate tuned on others. Runs that the ledger holds are skipped, so a stopped
sweep goes on where it was. One process, one thread. The score table is made first.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ledger_sweep import sweep

from explorer import catalog
from explorer.accuracy.course import task_protocol
from explorer.accuracy.fisher import task_scores
from explorer.accuracy.records import Ledger
from explorer.accuracy.tasks import task_for
from explorer.accuracy.torch_bridge import model_module
from explorer.design import LayerAxes, UpdatePolicy
from explorer.paths import data_cache

MODEL = "digits-cnn"
EPISODES = 20
TUNING_EPISODES = 6
SCORE_EPISODES = 40
SHARES = (0.125, 0.25, 0.5, 1.0)
SEED = 0


def main() -> None:
    """Make the score table and measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="digits")
    parser.add_argument("--ways", type=int)
    parser.add_argument("--episodes", type=int, default=EPISODES)
    parser.add_argument("--tuning-episodes", type=int, default=TUNING_EPISODES)
    parser.add_argument("--ledger", type=Path)
    parser.add_argument("--limit", type=int, help="stop after so many new runs")
    options = parser.parse_args()
    graph = catalog.load("model", MODEL).build()
    task, module = task_for(options.task, graph.input_shape), model_module(graph)
    table = task_scores(graph, task.name, episodes=SCORE_EPISODES, seed=SEED, module=module)
    table.save(data_cache() / "fisher" / f"{MODEL}-{task.name}.npz")
    ledger = Ledger(options.ledger or data_cache() / "runs" / f"{MODEL}-{task.name}.jsonl")
    sweep(
        ledger,
        graph,
        module,
        task.name,
        [(policy, options.episodes) for policy in designs(LayerAxes.of(graph))],
        protocol=task_protocol(task, ways=options.ways),
        seed=SEED,
        tuning_episodes=options.tuning_episodes,
        limit=options.limit,
    )


def designs(axes: LayerAxes) -> list[UpdatePolicy]:
    """Different designs only: anchors first, then the others in a mixed order."""
    distinct: dict[tuple[object, ...], UpdatePolicy] = {}
    for policy in (*_anchors(axes), *_structured(axes), *_random(axes)):
        partial = any(0 < t < w for t, w in zip(policy.slices, policy.slice_counts, strict=True))
        choice = (policy.channel_axis, policy.selection) if partial else ()
        ratios = tuple(policy.update_ratio)
        distinct.setdefault((ratios, policy.update_bias, policy.update_norm, choice), policy)
    rows = list(distinct.values())
    order = np.random.default_rng(SEED).permutation(np.arange(4, len(rows)))
    return rows[:4] + [rows[index] for index in order]


def _anchors(axes: LayerAxes) -> Iterator[UpdatePolicy]:
    whole = len(axes.names)
    for family, count in (("none", 0), ("last-layer", 1), ("full", whole), ("last-k:k=4", 4)):
        yield _last(axes, family, count)


def _structured(axes: LayerAxes) -> Iterator[UpdatePolicy]:
    whole = len(axes.names)
    for count in (2, 3, 5, 6, 7, 8, 9, 10):
        yield _last(axes, f"last-k:k={count}", count)
    for count in (1, 2, 3, 4, 6, 8, whole):
        tail, last = _tail(axes, count), "all" if count == whole else str(count)
        frozen = [0] * whole
        yield UpdatePolicy.of(f"bias-only:last={last}", axes, slices=frozen, update_bias=tail)
        yield UpdatePolicy.of(
            f"norm-affine:last={last}", axes, slices=frozen, update_bias=tail, update_norm=tail
        )
    for count in (1, 3, 6, whole):
        nothing = [False] * whole
        ratios = _tail(axes, count).astype(float)
        yield UpdatePolicy.of(
            f"weights-only:last={count}",
            axes,
            slices=axes.slices(ratios),
            update_bias=nothing,
            update_norm=nothing,
        )
    for count in (3, 6, whole):
        for share, selection, axis in (
            (0.125, "fisher", "out"),
            (0.25, "fisher", "out"),
            (0.5, "fisher", "out"),
            (0.25, "magnitude", "out"),
            (0.25, "gradient", "out"),
            (0.25, "random", "out"),
            (0.25, "first", "out"),
            (0.25, "fisher", "in"),
            (0.25, "magnitude", "in"),
            (0.125, "random", "in"),
        ):
            yield _last(axes, f"last-k-share:k={count}", count, share, selection, axis)
    for position in range(whole):
        ratios = np.zeros(whole)
        ratios[position] = 1.0
        yield _free(axes, f"one-layer:{axes.names[position]}", ratios, ratios > 0)
    for block in ("blocks.0", "blocks.1", "blocks.2"):
        inside = np.array([name.startswith(block) for name in axes.names])
        yield _free(axes, f"segment:{block}", inside.astype(float), inside)


def _random(axes: LayerAxes) -> Iterator[UpdatePolicy]:
    """Layers among the last `depth` with a probability, shares and biases drawn for each."""
    rng = np.random.default_rng(SEED)
    choices = [(s, a) for s in ("fisher", "magnitude", "random", "gradient") for a in ("out", "in")]
    for depth in (2, 4, 6, 8, len(axes.names)):
        for density in (0.3, 0.6, 1.0):
            for _ in range(2):
                inside = _tail(axes, depth) & (rng.random(len(axes.names)) < density)
                ratios = np.where(inside, rng.choice(SHARES, len(axes.names)), 0.0)
                bias = inside & (rng.random(len(axes.names)) < 0.5)
                selection, axis = choices[rng.integers(len(choices))]
                yield _free(axes, "random", ratios, bias, selection, axis)


def _last(
    axes: LayerAxes,
    family: str,
    count: int,
    share: float = 1.0,
    selection: str = "first",
    axis: str = "out",
) -> UpdatePolicy:
    tail = _tail(axes, count)
    return _free(axes, family, share * tail, tail, selection, axis)


def _free(
    axes: LayerAxes,
    family: str,
    ratios: np.ndarray,
    bias: np.ndarray,
    selection: str = "first",
    axis: str = "out",
) -> UpdatePolicy:
    return UpdatePolicy.of(
        family,
        axes,
        slices=axes.slices(ratios, axis),
        update_bias=bias,
        channel_axis=axis,
        selection=selection,
    )


def _tail(axes: LayerAxes, count: int) -> np.ndarray:
    return np.arange(len(axes.names)) >= len(axes.names) - count


if __name__ == "__main__":
    main()
