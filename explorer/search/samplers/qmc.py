"""Quasi-Monte-Carlo genes (Sobol sequence)."""

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SUMMARY = "low-discrepancy genes, no learning"


def make(seed: int) -> "BaseSampler":
    """Optuna's own, seeded; it is marked experimental, and Optuna is pinned."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import QMCSampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return QMCSampler(seed=seed, scramble=True)
