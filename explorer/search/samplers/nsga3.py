"""NSGA-III (Deb and Jain, 2014)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SUMMARY = "evolutionary with reference directions"


def make(seed: int) -> "BaseSampler":
    """Optuna's own, seeded."""
    from optuna.samplers import NSGAIIISampler

    return NSGAIIISampler(seed=seed, population_size=50)
