"""Independent uniform genes: the baseline any sampler must beat."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SUMMARY = "uniform genes, the baseline"


def make(seed: int) -> "BaseSampler":
    """Optuna's own, seeded."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)
