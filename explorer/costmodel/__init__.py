"""The training-step cost model; `evaluate` is its one door."""
