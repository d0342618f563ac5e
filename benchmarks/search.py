"""How near searches come to the optimum of the proxy, and what a trial costs.

`python benchmarks/search.py` keeps the rows in `results/search.json`. Shares are of the
hypervolume of everything known: the exact front and every search of this run. They are
medians over seeds and about the proxy score, not about accuracy. Evaluations count
everything a search screened: known policies, warm start and trials.
"""

import json
import statistics
import time
from pathlib import Path

import numpy as np
from run import random_designs

from explorer.search.candidates import concatenate
from explorer.search.draws import BATCH
from explorer.search.sweep import ROUGH_OPTIMA, warm_start
from explorer.session import GREEDY_MACS, Session

MODELS = ("mcunet-5fps", "mbv2-w0.35", "proxyless-w0.3")
EVALUATIONS = {500: 0.97, 2000: 0.985}
SEEDS = range(5)
EXACT_LIMIT_S = 60.0
TIMED_TRIALS = 2000
RESULTS = Path(__file__).parent / "results" / "search.json"


def front(table):
    return table.take(np.flatnonzero(table.on_front))


def searches(session, evaluations, space, warm):
    """Fronts of one search a seed, each with about so many evaluations."""
    known = len(session.compare())
    trials = evaluations - known
    if warm:
        trials = (trials - len(GREEDY_MACS) - ROUGH_OPTIMA) // 2
    tables = [session.search(trials, seed=seed, space=space, warm=warm).table for seed in SEEDS]
    assert all(len(table) <= evaluations for table in tables)
    return [front(table) for table in tables]


def shares_of(model):
    """Rows of one network: how its searches compare with everything known."""
    session = Session(model=model, policy="none")
    exact = session.exact_front(time_limit_s=EXACT_LIMIT_S)
    kinds = [(count, "guided", True) for count in EVALUATIONS]
    kinds += [(min(EVALUATIONS), "layers", True), (min(EVALUATIONS), "guided", False)]
    runs = {kind: searches(session, *kind) for kind in kinds}
    everything = concatenate([exact.table, *(table for group in runs.values() for table in group)])
    best = everything.hypervolume
    row = {
        "model": model,
        "near_exact_hypervolume": best,
        "exact_front_alone": exact.hypervolume / best,
        "hypervolume_limit": exact.hypervolume_limit,
        "budgets": exact.budget_count,
        "proven": exact.proven_count,
        "exact_time_s": exact.time_s,
    }
    for (count, space, warm), tables in runs.items():
        share = statistics.median(table.hypervolume / best for table in tables)
        row[f"share at {count}, {space}, {'warm' if warm else 'cold'}"] = share
    return row


def cpu_s(work):
    start = time.process_time()
    work()
    return time.process_time() - start


def trial_cost():
    """CPU seconds of 2,000 guided trials, and what of a trial is not screening."""
    session = Session(model=MODELS[0], policy="none")
    session.search(50)
    search_s = cpu_s(lambda: session.search(TIMED_TRIALS, warm=False))
    designs = random_designs(session, TIMED_TRIALS)
    batches = [designs.take(np.arange(at, at + BATCH)) for at in range(0, TIMED_TRIALS, BATCH)]
    screen_s = cpu_s(lambda: [session.problem.screen(batch) for batch in batches])
    space = session._space("guided")
    return {
        "trials": TIMED_TRIALS,
        "search_cpu_s": search_s,
        "overhead_cpu_ms_a_trial": 1e3 * (search_s - screen_s) / TIMED_TRIALS,
        "warm_start_400_cpu_s": cpu_s(lambda: list(warm_start(session.problem, space, 400))),
    }


def main():
    cost = trial_cost()
    print(json.dumps(cost, indent=2), flush=True)
    rows = []
    for model in MODELS:
        rows.append(shares_of(model))
        print(json.dumps(rows[-1], indent=2), flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    targets = {str(count): share for count, share in EVALUATIONS.items()}
    result = {"seeds": len(SEEDS), "targets": targets, "cost": cost, "shares": rows}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
