"""A worker of a shared study: `python search_worker.py STUDY STORAGE TRIALS READY GO`.

Says that it is ready, starts with the others, and prints how many candidates it saw.
"""

import sys
import time
from pathlib import Path

from explorer.session import Session

name, storage, trials, ready, go = sys.argv[1:]
session = Session(model="digits-cnn", policy="none")
session.compare()
Path(ready).touch()
while not Path(go).exists():
    time.sleep(0.005)
front = session.search(int(trials), study=name, storage=storage or None, warm=False)
print(len(front.table) - len(session.compare()), front.trial_count)
