"""Entries: Optuna's samplers, `make(seed)`; searching is all theirs."""
