"""One BLAS and torch thread: two on a busy machine wait for each other. No fetched file is seen."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["EXPLORER_CACHE"] = os.devnull
