"""One BLAS and torch thread: two on a busy machine wait for each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
