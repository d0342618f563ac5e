"""Tree-structured Parzen estimator (Bergstra et al., 2011)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SUMMARY = "model-based, slower per trial"


def make(seed: int) -> "BaseSampler":
    """Optuna's own, seeded."""
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed)
