"""Rhythm of 12-lead records: five databases of PhysioNet 2021 are the source, LUDB the new domain.

The PhysioNet/CinC Challenge 2021 sets (CC BY 4.0) and LUDB (Kalyakulina et al., 2020; ODC-By),
one clinic and one device. The classes are those both have; records with another rhythm, or
with two, are left out. The source is the set in which no rhythm is rare: of LUDB 3 in 4 are
sinus rhythm and 4 are tachycardia. 10.24 s are read at 400 Hz (Ribeiro et al., 2020), or at
100 Hz by a network of 1,024 samples: longer records are cut at the end, shorter ones go on at
rest. Every lead has mean 0 and variance 1. Scaled by one minimum and maximum, as Huang et al.
(2025) do, a record fills a few hundredths of its range, and our network learnt nothing. LUDB
has one record a patient; elsewhere records of one database, age and sex stay together, since
who they are of is not known. Where 3 in 4 are of one class, always naming it is 75 % accurate:
macro F1 ranks runs here, as Huang et al. do beside AUROC.
"""

import json
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from explorer.accuracy.tasks._signals import Signals, SignalTask, data_file, resampled
from explorer.errors import check_whole

SUMMARY = "rhythm of 12-lead ECG, 4 classes, PhysioNet 2021 to LUDB; EXPLORER_DATA"
NAME = "ecg-rhythm"
RECORDED_HZ = 500
RECORDED_SAMPLES = 5120  # 10.24 s
SAMPLES = 4096
INPUT_SHAPE = (12, SAMPLES)
METRICS = ("f1", "accuracy", "auroc")
MICROVOLT_PER_MILLIVOLT = 1000.0
LARGEST = 8.0  # standard deviations; artefacts are cut there

CLASSES = ("sinus rhythm", "bradycardia", "tachycardia", "atrial fibrillation or flutter")
LUDB_CLASS = {
    "Sinus rhythm": 0,
    "Sinus bradycardia": 1,
    "Sinus tachycardia": 2,
    "Atrial fibrillation": 3,
    "Atrial flutter, typical": 3,
}
SNOMED_CLASS = {
    "426783006": 0,
    "426177001": 1,
    "427084000": 2,
    "164889003": 3,
    "164890007": 3,
}


def load(side: int = SAMPLES) -> SignalTask:
    """About 110 records of five databases, and 154 patients of LUDB, in `side` samples."""
    check_whole(f"samples of {NAME}", side, 2, RECORDED_SAMPLES)
    signals, labels, groups = _ludb(side)
    others, other_labels, other_groups = _challenge(side)
    names = [*groups, *other_groups]
    return SignalTask(
        name=NAME,
        signals=np.stack([*signals, *others]),
        labels=np.array([*labels, *other_labels], dtype=np.int64),
        class_names=CLASSES,
        groups=np.unique(names, return_inverse=True)[1].astype(np.int64),
        is_target=np.arange(len(names)) < len(groups),
        fs_hz=RECORDED_HZ * side / RECORDED_SAMPLES,
    )


def _ludb(samples: int) -> tuple[list[Signals], list[int], list[str]]:
    with np.load(data_file(NAME, "ecg/ludb.npz"), allow_pickle=False) as archive:
        rhythm = archive["rhythm_names"][archive["rhythm"]].tolist()
        records, millivolts = archive["record"], archive["signals_uV"] / MICROVOLT_PER_MILLIVOLT
    kept = [index for index, name in enumerate(rhythm) if name in LUDB_CLASS]
    return (
        [recording(millivolts[index], samples) for index in kept],
        [LUDB_CLASS[rhythm[index]] for index in kept],
        [f"ludb {records[index]}" for index in kept],
    )


def _challenge(samples: int) -> tuple[list[Signals], list[int], list[str]]:
    about = json.loads(data_file(NAME, "ecg/twelve_lead_subset.json").read_text("utf-8"))
    signals, labels, groups = [], [], []
    path = data_file(NAME, "ecg/twelve_lead_subset.npz")
    with np.load(path, allow_pickle=False) as archive:
        for record in about["records"]:
            label = single_rhythm(record["snomed"])
            if label is not None:
                millivolts = archive[record["name"]] / record["counts_per_mV"]
                signals.append(recording(millivolts, samples))
                labels.append(label)
                groups.append(f"{record['database']} {record['age']} {record['sex']}")
    return signals, labels, groups


def single_rhythm(codes: Sequence[str]) -> int | None:
    """Class of a record by its SNOMED-CT codes; None without one, or with two."""
    found = {SNOMED_CLASS[code] for code in codes if code in SNOMED_CLASS}
    return found.pop() if len(found) == 1 else None


def recording(millivolts: np.ndarray, samples: int = SAMPLES) -> Signals:
    """A record [12, n] at 500 Hz as a network reads it, [12, samples] of 10.24 s."""
    rate = Fraction(samples, RECORDED_SAMPLES)
    at_rate = resampled(millivolts, rate.numerator, rate.denominator)[:, :samples]
    spread = at_rate.std(axis=1, keepdims=True)
    scaled = (at_rate - at_rate.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    kept = np.clip(scaled, -LARGEST, LARGEST)
    whole = np.pad(kept, ((0, 0), (0, samples - kept.shape[1])))
    return whole.astype(np.float32)
