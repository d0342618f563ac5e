"""Figures of merit of a classifier: how they are called, and from logits [N, K] and labels [N].

A task says which of them ranks runs on it (`METRICS` of its entry, the first): accuracy, unless
its classes are so unlike in number that the commonest alone is accurate.
"""

import warnings

import numpy as np

from explorer.errors import SpecError
from explorer.units import FloatArray, IntArray

ACCURACY = "accuracy"
METRICS = {"accuracy": ACCURACY, "f1": "macro_f1", "auroc": "macro_auroc"}  # word: column
METRIC_NAMES = {ACCURACY: "accuracy", "macro_f1": "macro F1", "macro_auroc": "macro AUROC"}


def metric_column(word: str, allowed: tuple[str, ...]) -> str:
    """The column a word stands for; SpecError when it is not one of the words `allowed`."""
    if word not in allowed:
        raise SpecError.of("metric", word, ", ".join(allowed))
    return METRICS[word]


def scores(logits: FloatArray, labels: IntArray) -> dict[str, float | None]:
    """Accuracy, macro F1 and macro AUROC (each class against the rest), as shares.

    Means are over the classes that the labels have; AUROC is None where they have one, or
    where a logit is not finite.
    """
    from sklearn.metrics import f1_score, roc_auc_score

    present = np.unique(labels)
    predicted = logits.argmax(axis=1)
    auroc = None
    if len(present) > 1 and np.isfinite(logits).all():
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = shifted / shifted.sum(axis=1, keepdims=True)
        found = [roc_auc_score(labels == label, shares[:, label]) for label in present]
        auroc = float(np.mean(found))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        f1 = f1_score(labels, predicted, labels=present, average="macro", zero_division=0)
    return {
        "accuracy": float((predicted == labels).mean()),
        "macro_f1": float(f1),
        "macro_auroc": auroc,
    }
