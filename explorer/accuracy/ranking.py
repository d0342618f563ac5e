"""How well cheap criteria order designs by what fine-tuning really gained.

Everything is Kendall's tau-b between a criterion and the mean gain of paired episodes.
Noise in the gains holds even a perfect criterion below one: the ceiling. Reliability is
Cronbach's alpha over episodes, the mean of all split-half correlations after the
Spearman-Brown correction; it is a closed form, so no split is drawn.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from explorer.accuracy.metrics import ACCURACY
from explorer.accuracy.records import MeasuredRun
from explorer.units import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    import pandas as pd

BACKWARD_MACS = "backward MACs"
NULL_MODELS = ("depth", "trained parameters", BACKWARD_MACS)
MIN_RUNS = 19
FEWEST_PAIRED = 4
MIN_RELIABILITY = 0.5
CLEAR_GAIN_ERRORS = 2.0
BOOTSTRAPS = 400
LEVEL = 0.95
LARGEST = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A value and the 95 % interval of its bootstrap; nan where it is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Ranking:
    """What a ledger says of criteria: P designs on E paired episodes.

    `full_gain` is of training everything, as a share, with its standard error
    `full_gain_error`; nan when that was not measured. `taus` are by criterion, `leads`
    those of each criterion minus the best null model's, where null models are among them.
    A bootstrap draws episodes and designs again and lies a little below the value, since
    episodes drawn twice are noisier.
    """

    design_count: int
    episodes: int
    full_gain: float
    full_gain_error: float
    reliability: float
    taus: Mapping[str, Interval]
    leads: Mapping[str, Interval]

    @property
    def ceiling_tau(self) -> float:
        """Tau of a perfect criterion against gains this noisy."""
        return ceiling_tau(self.reliability)

    @property
    def reason_against(self) -> str:
        """Why criteria may not be judged here; empty when they may."""
        if self.design_count < MIN_RUNS:
            return f"{self.design_count} different designs, at least {MIN_RUNS} are needed"
        if not self.full_gain > CLEAR_GAIN_ERRORS * self.full_gain_error:
            return "training everything was not measured, or does not clearly gain"
        if self.reliability < MIN_RELIABILITY:
            return f"reliability {self.reliability:.2f}, at least {MIN_RELIABILITY} is needed"
        return ""

    def to_frame(self) -> "pd.DataFrame":
        """One row a criterion, best first: tau, its interval, share of the ceiling, lead."""
        import pandas as pd

        rows = {
            name: {
                "tau": tau.value,
                "low": tau.low,
                "high": tau.high,
                "share_of_ceiling": tau.value / self.ceiling_tau if self.ceiling_tau else np.nan,
                "lead_on_null_models": lead.value if (lead := self.leads.get(name)) else np.nan,
                "lead_low": lead.low if lead else np.nan,
            }
            for name, tau in self.taus.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").sort_values("tau", ascending=False)


def rank(
    criteria: Mapping[str, FloatArray], gains: FloatArray, full_gains: FloatArray, *, seed: int = 0
) -> Ranking:
    """Judge criteria [P] by gains [P, E] on paired episodes; the order of designs is no matter.

    `full_gains` [any] are those of training everything, empty when not measured.
    """
    order = np.lexsort(gains.T) if gains.size else np.arange(len(gains))
    gains = gains[order]
    columns = np.array([column[order] for column in criteria.values()])
    columns = columns.reshape(len(criteria), len(gains))
    values = kendall_taus(columns, _means(gains, np.ones((1, gains.shape[1]))))
    draws, kept = _draws(gains, seed)
    spread = kendall_taus(columns, draws, kept)
    taus = np.hstack([values, spread])
    names = tuple(criteria)
    nulls = [names.index(name) for name in NULL_MODELS if name in names]
    known = np.nan_to_num(taus)
    leads = known - known[nulls].max(axis=0, initial=-1)
    count = len(full_gains)
    return Ranking(
        design_count=len(gains),
        episodes=gains.shape[1],
        full_gain=float(full_gains.mean()) if count else np.nan,
        full_gain_error=float(full_gains.std(ddof=1) / count**0.5) if count > 1 else np.nan,
        reliability=reliability(gains),
        taus={name: _interval(row) for name, row in zip(names, taus, strict=True)},
        leads={
            name: _interval(row)
            for name, row in zip(names, leads, strict=True)
            if nulls and name not in NULL_MODELS
        },
    )


def reliability(gains: FloatArray) -> float:
    """Share of the variance of mean gains that episodes repeat, from gains [P, E].

    What an episode gives every design alike is no noise; 0 below two designs or episodes.
    """
    if min(gains.shape) < 2:
        return 0.0
    designs = gains.mean(axis=1, keepdims=True)
    residual = gains - designs - gains.mean(axis=0) + gains.mean()
    signal = gains.shape[1] * float(np.var(designs, ddof=1))
    noise = float((residual**2).sum()) / ((gains.shape[0] - 1) * (gains.shape[1] - 1))
    return max(0.0, 1 - noise / signal) if signal > 0 else 0.0


def ceiling_tau(share: float) -> float:
    """Tau of the true values with measured ones of that reliability, both normal."""
    return float(2 / np.pi * np.arcsin(np.sqrt(share)))


def kendall_tau(left: FloatArray, right: FloatArray) -> float:
    """Tau-b of two columns [P]; 0 where one of them does not vary."""
    return float(np.nan_to_num(kendall_taus(left[None], right[None])[0, 0]))


def kendall_taus(
    criteria: FloatArray, targets: FloatArray, kept: BoolArray | None = None
) -> FloatArray:
    """Tau-b of criteria [K, P] with targets [B, P], over the designs `kept` [B, P]: [K, B].

    nan where a column does not vary.
    """
    first, second = np.triu_indices(criteria.shape[1], 1)
    left = np.sign(criteria[:, first] - criteria[:, second])
    blocks = np.array_split(np.arange(len(targets)), 1 + targets.shape[0] * len(first) // LARGEST)
    taus = np.empty((len(criteria), len(targets)))
    for block in blocks:
        right = np.sign(targets[block][:, first] - targets[block][:, second])
        pairs = np.ones_like(right)
        if kept is not None:
            pairs *= kept[block][:, first] & kept[block][:, second]
        untied = np.abs(left) @ pairs.T * (np.abs(right) * pairs).sum(axis=1)
        agreed = left @ (right * pairs).T
        taus[:, block] = np.where(untied > 0, agreed / np.sqrt(np.maximum(untied, 1)), np.nan)
    return taus


def _draws(gains: FloatArray, seed: int) -> tuple[FloatArray, BoolArray]:
    """Mean gains over episodes drawn again [B, P], and which designs a draw has [B, P]."""
    rng = np.random.default_rng(seed)
    design_count, episodes = gains.shape
    kept = np.zeros((BOOTSTRAPS, design_count), dtype=bool)
    if not gains.size:
        return np.zeros((BOOTSTRAPS, design_count)), kept
    rows = rng.integers(0, design_count, (BOOTSTRAPS, design_count))
    np.put_along_axis(kept, rows, True, axis=1)
    counts = rng.multinomial(episodes, np.full(episodes, 1 / episodes), BOOTSTRAPS)
    return _means(gains, counts), kept


def _means(gains: FloatArray, counts: FloatArray | IntArray) -> FloatArray:
    """Mean gains [B, P] with each episode as often as `counts` [B, E] says; equal ones tie."""
    means: FloatArray = np.round(counts @ gains.T / max(gains.shape[1], 1), 12)
    return means


def _interval(values: FloatArray) -> Interval:
    """The first value, and the interval of the draws after it in which something varied."""
    known = values[1:][np.isfinite(values[1:])]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(known, (tail, 1 - tail)) if len(known) else (np.nan, np.nan)
    return Interval(value=float(values[0]), low=float(low), high=float(high))


def paired_gains(
    runs: Sequence[MeasuredRun], metric: str = ACCURACY
) -> tuple[tuple[MeasuredRun, ...], FloatArray]:
    """Comparable runs that share episodes, and their gains on those [N, E], as shares.

    They are of the commonest seed and have the metric and at least FEWEST_PAIRED episodes; E is
    what all of them have, without those in which the metric is not defined.
    """
    runs = [run for run in runs if run.figure(metric) is not None]
    seeds = Counter(run.seed for run in runs if run.episodes >= FEWEST_PAIRED)
    seed = seeds.most_common(1)[0][0] if seeds else 0
    paired = tuple(run for run in runs if run.seed == seed and run.episodes >= FEWEST_PAIRED)
    count = min((run.episodes for run in paired), default=0)
    figures = [figure for run in paired if (figure := run.figure(metric)) is not None]
    gains = np.array([figure.gains[:count] for figure in figures]).reshape(len(paired), count)
    return paired, gains[:, np.isfinite(gains).all(axis=0)]
