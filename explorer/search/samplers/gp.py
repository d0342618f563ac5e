"""Gaussian processes (Optuna's GPSampler): few trials, each of them slow."""

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SUMMARY = "model-based, for few and dear trials: seconds each; needs torch"
MOST_OBJECTIVES = 4  # Optuna's own word: its boxes become very slow beyond


def make(seed: int) -> "BaseSampler":
    """Optuna's own, seeded; it is marked experimental, and Optuna is pinned."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import GPSampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return GPSampler(seed=seed)
