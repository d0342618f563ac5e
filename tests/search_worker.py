"""A worker of a shared study: `python search_worker.py STUDY STORAGE TRIALS READY GO [LEDGER]`.

Says that it is ready, starts with the others, and prints how many candidates and told trials it
saw. With a ledger it measures.
"""

import sys
import time
from pathlib import Path

from explorer.accuracy.records import Protocol
from explorer.search.measured import Measuring
from explorer.session import Session


def quick(ledger):
    """Measuring that takes a moment: one episode of two steps."""
    protocol = Protocol(ways=2, shots=2, query_count=2, steps=2)
    return Measuring(ledger=Path(ledger), episodes=1, tuning_episodes=1, protocol=protocol)


if __name__ == "__main__":
    name, storage, trials, ready, go, *ledger = sys.argv[1:]
    session = Session(model="digits-cnn", policy="none")
    known = 0 if ledger else len(session.compare())
    Path(ready).touch()
    while not Path(go).exists():
        time.sleep(0.005)
    front = session.search(
        int(trials),
        "random",
        study=name,
        storage=storage or None,
        warm=False,
        measuring=quick(ledger[0]) if ledger else None,
    )
    print(len(front.table) - known, front.trial_count)
