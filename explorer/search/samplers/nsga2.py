"""NSGA-II (Deb et al., 2002): the default."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SUMMARY = "evolutionary, three objectives, cheap per trial"


def make(seed: int) -> "BaseSampler":
    """Optuna's own, seeded."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=seed, population_size=50)
