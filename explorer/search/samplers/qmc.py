"""Quasi-Monte-Carlo genes (Sobol sequence)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SUMMARY = "low-discrepancy genes, no learning"


def make(seed: int) -> "BaseSampler":
    """Optuna's own, seeded."""
    from optuna.samplers import QMCSampler

    return QMCSampler(seed=seed, scramble=True)
