"""Speed of the cost model, as ratios against torch's own counter and other tools in one run.

`make bench` keeps the rows in `results/cost_model.json` and those of other tools in
`results/peers.json`, from where `make evidence` takes them. Nothing here is a test: times
depend on the machine, ratios taken in one run much less. The budgets they defend stand in
the rows.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from peers import HEAD, peer_rows

from explorer.costmodel.detail import report
from explorer.costmodel.evaluate import evaluate
from explorer.design import DesignBatch, TrainingSetup
from explorer.session import Session

MODEL = "mbv2-w0.35-tinytrain"
LARGEST = "proxyless-w0.3-tinytrain"
DESIGNS = 4096
RESULTS = Path(__file__).parent / "results"


def median_s(work, repeats):
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def random_designs(session, count, seed=0):
    rng = np.random.default_rng(seed)
    axes = session._context.axes
    size = (count, len(axes.names))
    depth = rng.integers(1, size[1] + 1, (count, 1))
    inside = np.arange(size[1]) >= size[1] - depth
    slices = np.where(inside & (rng.random(size) < 0.5), axes.slices(rng.random(size)), 0)
    return DesignBatch(
        axes=axes,
        slices=slices,
        update_bias=inside & (rng.random(size) < 0.5),
        update_norm=(slices > 0) & axes.has_norm,
        axis_in=np.zeros(count, dtype=bool),
        families=("random",) * count,
        selections=("first",) * count,
        adapters=((),) * count,
        setup=TrainingSetup(),
    )


def evaluate_anew(session, one):
    """As for a network never seen: what is kept about one is thrown away first."""
    for name, module in list(sys.modules.items()):
        for kept in vars(module).values() if name.startswith("explorer.costmodel") else ():
            if hasattr(kept, "cache_clear"):
                kept.cache_clear()
    evaluate(session.graph, session.profile, one)


def import_report():
    code = (
        "import time; start = time.perf_counter(); import explorer, sys; "
        "print(time.perf_counter() - start, "
        "[m for m in ('torch', 'plotly', 'optuna', 'ipywidgets') if m in sys.modules])"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(5)
    ]
    seconds = statistics.median(float(run.stdout.split()[0]) for run in runs)
    return seconds, runs[0].stdout.split(maxsplit=1)[1].strip()


def main():
    session = Session(model=MODEL, policy="none")
    one = random_designs(session, 1)
    single_s = median_s(lambda: evaluate(session.graph, session.profile, one), 200)
    full_s = median_s(lambda: report(session.graph, session.profile, one), 20)
    full = Session(model=MODEL, policy="full", batch=1)
    costs = evaluate(full.graph, full.profile, full._batch([full.chosen_policy]))
    first_s = median_s(lambda: evaluate_anew(session, one), 5)
    peers = peer_rows(session.graph, costs, single_s, first_s, median_s)
    (counter,) = [row for row in peers if row[0].startswith("FlopCounterMode")]
    large = Session(model=LARGEST, policy="none")
    many = random_designs(large, DESIGNS)
    batch_s = median_s(lambda: evaluate(large.graph, large.profile, many), 5)
    first = random_designs(large, 1)
    loop_s = median_s(lambda: evaluate(large.graph, large.profile, first), 200)
    import_s, heavy = import_report()
    search = Session(model="mcunet-5fps", policy="none")
    start = time.perf_counter()
    search.search(1000, warm=False)
    search_s = time.perf_counter() - start
    rows = [
        ("one cost evaluation", f"{single_s * 1e3:.3f} ms", ""),
        ("the first of a network", f"{first_s * 1e3:.0f} ms", "its tables are kept"),
        (*counter[:2], f"{counter[2]} slower (budget 500x)"),
        ("full report with layers and arena", f"{full_s * 1e3:.1f} ms", ""),
        (
            f"{DESIGNS} designs of {LARGEST}",
            f"{batch_s * 1e3:.0f} ms",
            f"{DESIGNS / batch_s:,.0f} designs/s (budget 100,000)",
        ),
        ("a loop of single evaluations", f"{loop_s * 1e6:.0f} us each",
         f"{loop_s * DESIGNS / batch_s:.1f}x slower than the batch"),
        ("import explorer", f"{import_s * 1e3:.0f} ms", f"heavy modules: {heavy}"),
        ("search without warm start, 1,000 trials", f"{search_s:.1f} s",
         f"{search_s:.2f} ms a trial"),
    ]  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    for name, table in (("cost_model", rows), ("peers", [HEAD, *peers])):
        (RESULTS / f"{name}.json").write_text(json.dumps(table, indent=2) + "\n")
        for row in table:
            print(" | ".join(row))


if __name__ == "__main__":
    main()
