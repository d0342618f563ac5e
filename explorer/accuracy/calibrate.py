"""From measured runs to a predicted accuracy with an interval, where that is earned.

Ridge regression of accuracy on features and their squares. Every prediction judged
here is of a run whose whole family was held out. It is earned when at least
MIN_RUNS runs stand behind it, their gains are more than noise (MIN_RELIABILITY), and
its held-out Kendall tau beats each null model's with a bootstrap interval above zero;
otherwise the proxy score keeps its own name.
The interval is split conformal: the held-out residual at the stated level.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from explorer.accuracy.ranking import (
    BACKWARD_MACS,
    MIN_RELIABILITY,
    MIN_RUNS,
    NULL_MODELS,
    ceiling_tau,
    rank,
)
from explorer.errors import CalibrationError
from explorer.units import BoolArray, FloatArray, IntArray

COST = BACKWARD_MACS
FOLDS = 10
LEVEL = 0.9
PREDICTION = "prediction"
RIDGE_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Evidence:
    """How good the predictions of held-out runs were, beside what any predictor must beat.

    `reliability` and `ceiling_tau`, what a perfect predictor would reach against the noisy
    measurements, are those of `explorer.accuracy.ranking`;
    `lead_low` the lower end of the 95 % interval of tau minus the best null model's.
    `coverage` is how often an interval held; `front_coverage` how often on the `front_count`
    runs that a search for high predictions at few backward MACs would offer: chosen for being
    predicted high, they are where intervals fail first.
    """

    run_count: int
    tau: float
    proxy_taus: dict[str, float]
    reliability: float
    ceiling_tau: float
    lead_low: float
    coverage: float
    front_coverage: float
    front_count: int
    mean_error: float

    @property
    def reason_against(self) -> str:
        """Why no accuracy may be predicted; empty when it may."""
        if self.run_count < MIN_RUNS:
            return f"{self.run_count} measured runs, at least {MIN_RUNS} are needed"
        if self.reliability < MIN_RELIABILITY:
            return (
                f"the gains have a reliability of {self.reliability:.2f}, at least "
                f"{MIN_RELIABILITY} is needed"
            )
        if not self.lead_low > 0:
            best = max(NULL_MODELS, key=lambda name: self.proxy_taus[name])
            return (
                f"held-out tau {self.tau:.2f} does not beat {best} "
                f"({self.proxy_taus[best]:.2f}) with confidence"
            )
        return ""


@dataclass(frozen=True, eq=False, kw_only=True)
class Calibration:
    """A fitted predictor of accuracy, 0..1, for one model and task.

    `half_width` is the conformal half interval.
    """

    feature_names: tuple[str, ...]
    centre: FloatArray
    spread: FloatArray
    coefficients: FloatArray
    intercept: float
    half_width: float
    evidence: Evidence

    def predict(self, features: Mapping[str, FloatArray]) -> FloatArray:
        """Accuracy of designs [P], not yet kept within 0..1."""
        columns = _matrix(features, self.feature_names)
        value: FloatArray = (columns - self.centre) / self.spread @ self.coefficients
        return value + self.intercept


def fit(
    features: Mapping[str, FloatArray],
    accuracy: FloatArray,
    reliability: float,
    families: Sequence[str],
) -> Calibration:
    """Fit on N measured designs; judge `evidence.reason_against` before using it.

    `reliability` is that of the measured gains (explorer.accuracy.ranking).
    Raises CalibrationError below five families or MIN_RUNS runs, where nothing can be held out.
    """
    groups = np.unique(np.asarray(families), return_inverse=True)[1]
    if len(accuracy) < MIN_RUNS or groups.max(initial=0) < 4:
        raise CalibrationError(
            f"{len(accuracy)} runs of {groups.max(initial=-1) + 1} families; "
            f"at least {MIN_RUNS} runs of 5 families are needed"
        )
    names = tuple(features)
    columns = _matrix(features, names)
    held_out, is_inside = _held_out(columns, accuracy, groups)
    on_front = _on_front(held_out, features[COST])
    residual = np.abs(accuracy - held_out)
    centre, spread, coefficients, intercept = _regress(columns, accuracy)
    ranking = rank({PREDICTION: held_out, **features}, accuracy[:, None], np.array([]))
    tau = {name: float(np.nan_to_num(found.value)) for name, found in ranking.taus.items()}
    evidence = Evidence(
        run_count=len(accuracy),
        tau=tau[PREDICTION],
        proxy_taus={name: tau[name] for name in names},
        reliability=reliability,
        ceiling_tau=ceiling_tau(reliability),
        lead_low=ranking.leads[PREDICTION].low,
        coverage=float(is_inside.mean()),
        front_coverage=float(is_inside[on_front].mean()),
        front_count=int(on_front.sum()),
        mean_error=float(residual.mean()),
    )
    return Calibration(
        feature_names=names,
        centre=centre,
        spread=spread,
        coefficients=coefficients,
        intercept=intercept,
        half_width=_conformal(residual),
        evidence=evidence,
    )


def _matrix(features: Mapping[str, FloatArray], names: tuple[str, ...]) -> FloatArray:
    """Features and their squares [N, 2F]."""
    plain = np.stack([features[name] for name in names], axis=1)
    return np.concatenate([plain, plain**2], axis=1)


def _regress(
    columns: FloatArray, accuracy: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """Standardised ridge with its strength chosen by leave-one-out."""
    from sklearn.linear_model import RidgeCV

    centre, spread = columns.mean(axis=0), columns.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    model = RidgeCV(alphas=RIDGE_STRENGTHS).fit((columns - centre) / spread, accuracy)
    return centre, spread, np.asarray(model.coef_), float(model.intercept_)


def _held_out(
    columns: FloatArray, accuracy: FloatArray, groups: IntArray
) -> tuple[FloatArray, BoolArray]:
    """Predictions of runs whose family was left out [N], and whether the interval held [N]."""
    from sklearn.model_selection import GroupKFold

    folds = list(GroupKFold(min(FOLDS, len(np.unique(groups)))).split(columns, accuracy, groups))
    predicted = np.zeros(len(accuracy))
    for train, test in folds:
        centre, spread, coefficients, intercept = _regress(columns[train], accuracy[train])
        predicted[test] = ((columns[test] - centre) / spread) @ coefficients + intercept
    residual = np.abs(accuracy - predicted)
    is_inside = np.zeros(len(accuracy), dtype=bool)
    for train, test in folds:
        is_inside[test] = residual[test] <= _conformal(residual[train])
    return predicted, is_inside


def _on_front(predicted: FloatArray, cost: FloatArray) -> BoolArray:
    """Which runs no cheaper or equally cheap one is predicted to reach [N]."""
    order = np.lexsort((-predicted, cost))
    best = np.maximum.accumulate(predicted[order])
    on_front = np.ones(len(order), dtype=bool)
    on_front[order[1:]] = predicted[order[1:]] > best[:-1]
    return on_front


def _conformal(residual: FloatArray) -> float:
    """The residual not exceeded with probability LEVEL by a further exchangeable run."""
    rank = int(np.ceil((len(residual) + 1) * LEVEL))
    return float(np.sort(residual)[min(rank, len(residual)) - 1])
