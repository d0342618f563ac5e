"""NSGA-III (Deb and Jain, 2014)."""

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SUMMARY = "evolutionary with reference directions"


def make(seed: int) -> "BaseSampler":
    """Optuna's own, seeded; it is marked experimental, and Optuna is pinned."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import NSGAIIISampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return NSGAIIISampler(seed=seed, population_size=50)
