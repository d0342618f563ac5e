"""Make the score tables of data_cache/fisher: networks by tasks, 20 episodes each.

    EXPLORER_DATA=... python scripts/make_score_tables.py [--models M ...] [--tasks T ...]

The vision networks and sets come from EXPLORER_DATA; only what is measured is kept.
"""

import argparse
import time
from itertools import product

from explorer import catalog
from explorer.accuracy.fisher import task_scores
from explorer.paths import data_cache

MODELS = ("mcunet-5fps", "mbv2-w0.35", "proxyless-w0.3")
TASKS = (
    "sign-digits",
    "omniglot",
    "trashnet",
    "caltech-101",
    "apple-leaf",
    "blood-cells",
    "quickdraw",
)


def main() -> None:
    """One table for each pair."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for task, model in product(options.tasks, options.models):
        start = time.perf_counter()
        graph = catalog.load("model", model).build()
        table = task_scores(graph, task, episodes=options.episodes, seed=options.seed)
        table.save(data_cache() / "fisher" / f"{model}-{task}.npz")
        print(f"{model} {task}: {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
