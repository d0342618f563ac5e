"""Linear classifiers of signals, to see whether a network learns more than they do.

Log power of six bands a channel and the waveform at 40 points, standardised, into a logistic
regression; and for two classes common spatial patterns (three of each side, Ramoser et al.,
2000) with linear discriminant analysis.
"""

from itertools import pairwise

import numpy as np
from scipy.linalg import eigh
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from explorer.accuracy.metrics import scores
from explorer.accuracy.tasks import SignalTask
from explorer.units import FloatArray, IntArray

BANDS = 6
POINTS = 40
PATTERNS = 3
SMALLEST = 1e-12
Figures = dict[str, float | None]


def logistic(task: SignalTask, trained: IntArray, tested: IntArray) -> Figures:
    """Figures of a logistic regression trained on some signals and tested on others."""
    features = _features(_plain(task))
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
    )
    model.fit(features[trained], task.labels[trained])
    return scores(_logits(model, features[tested], task), task.labels[tested])


def spatial_patterns(task: SignalTask, trained: IntArray, tested: IntArray) -> Figures:
    """The same of common spatial patterns and discriminant analysis; two classes only."""
    signals = _plain(task)
    covariances = np.einsum("nct,ndt->ncd", signals, signals)
    covariances /= np.trace(covariances, axis1=1, axis2=2)[:, None, None]
    first, second = (
        covariances[trained][task.labels[trained] == label].mean(axis=0) for label in (0, 1)
    )
    vectors = eigh(first, first + second)[1]
    chosen = np.r_[:PATTERNS, -PATTERNS:0]
    power = np.einsum("nct,ck->nkt", signals, vectors[:, chosen]).var(axis=2)
    features = np.log(power + SMALLEST)
    model = LinearDiscriminantAnalysis().fit(features[trained], task.labels[trained])
    return scores(_logits(model, features[tested], task), task.labels[tested])


def _plain(task: SignalTask) -> FloatArray:
    """Signals [N, C, T], whatever shape a network reads."""
    sides = [side for side in task.signals.shape[1:] if side > 1]
    return task.signals.reshape(len(task.signals), *sides).astype(np.float64)


def _features(signals: FloatArray) -> FloatArray:
    spectrum = np.abs(np.fft.rfft(signals - signals.mean(axis=2, keepdims=True))) ** 2
    edges = np.geomspace(1, spectrum.shape[2] // 4, BANDS + 1).round().astype(int)
    bands = [spectrum[:, :, low : max(high, low + 1)].sum(axis=2) for low, high in pairwise(edges)]
    power = np.log(np.concatenate(bands, axis=1) + SMALLEST)
    length = signals.shape[2] // POINTS
    waves = signals[:, :, : length * POINTS].reshape(*signals.shape[:2], POINTS, length)
    return np.concatenate([power, waves.mean(axis=3).reshape(len(signals), -1)], axis=1)


def _logits(model: object, features: FloatArray, task: SignalTask) -> FloatArray:
    """Log shares of all classes [N, K]; classes never trained on get none."""
    logits = np.full((len(features), len(task.class_names)), -50.0)
    logits[:, model.classes_] = model.predict_log_proba(features)  # type: ignore[attr-defined]
    return logits
