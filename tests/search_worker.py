"""Workers of one study that begin together: `search_worker.py STUDY STORAGE TRIALS COUNT [LEDGER]`.

Everything is imported once, then COUNT processes are forked, each a session of its own. Prints
their numbers first, then for each how many candidates and told trials it saw. With a ledger they
measure. A killed worker is no error.
"""

import multiprocessing
import signal
import sys
from pathlib import Path

from explorer.accuracy.protocols import Protocol
from explorer.search.measured import Measuring
from explorer.session import Session


def quick(ledger):
    """Measuring that takes a moment: one episode of two steps."""
    protocol = Protocol(ways=2, shots=2, query_count=2, steps=2)
    return Measuring(ledger=Path(ledger), episodes=1, tuning_episodes=1, protocol=protocol)


def work(name, storage, trials, ledger):
    """Search on a study, and say what came of it."""
    session = Session(model="digits-cnn", policy="none")
    measuring = quick(ledger) if ledger else None
    known = 0 if ledger else len(session.compare())
    front = session.search(
        trials,
        "random",
        study=name,
        storage=storage or None,
        warm=False,
        measuring=measuring,
    )
    sys.stdout.write(f"{len(front.table) - known} {front.trial_count}\n")


def main(name, storage, trials, count, ledger=""):
    """Start the workers and wait for them."""
    import optuna.storages  # noqa: F401
    import torch._dynamo  # noqa: F401 - an optimizer imports it at its first step

    import explorer.accuracy.finetune  # noqa: F401

    Session(model="digits-cnn", policy="none").compare()
    context = multiprocessing.get_context("fork")
    asked = (name, storage, int(trials), ledger)
    workers = [context.Process(target=work, args=asked) for _ in range(int(count))]
    for worker in workers:
        worker.start()
    print(*(worker.pid for worker in workers), flush=True)
    for worker in workers:
        worker.join()
    sys.exit(any(worker.exitcode not in (0, -signal.SIGKILL) for worker in workers))


if __name__ == "__main__":
    main(*sys.argv[1:])
