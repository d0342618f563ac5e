"""Rhythm of 12-lead records: LUDB is the source, a PhysioNet 2021 subset the new domain.

LUDB (Kalyakulina et al., 2020; ODC-By) and the PhysioNet/CinC Challenge 2021 sets (CC BY
4.0). The classes are those both have; records with another rhythm, or with two, are left
out. 500 Hz become 400 Hz and 4,096 samples (Ribeiro et al., 2020): longer records are cut
at the end, shorter ones go on at 0 mV, and one minimum and maximum over all leads scale a
record to 0..1. LUDB has one record a patient; elsewhere records of one database, age and
sex stay together, since who they are of is not known.
"""

import json
from collections.abc import Sequence

import numpy as np

from explorer.accuracy.tasks._signals import Signals, SignalTask, data_file, resampled

SUMMARY = "rhythm of 12-lead ECG, 4 classes, LUDB to PhysioNet 2021; EXPLORER_DATA"
NAME = "ecg-rhythm"
FS_HZ = 400.0
UP, DOWN = 4, 5  # 500 Hz to 400 Hz
SAMPLES = 4096
INPUT_SHAPE = (12, SAMPLES)
MICROVOLT_PER_MILLIVOLT = 1000.0

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


def load() -> SignalTask:
    """154 patients of LUDB and about 110 records of five databases."""
    signals, labels, groups = _ludb()
    others, other_labels, other_groups = _challenge()
    names = [*groups, *other_groups]
    return SignalTask(
        name=NAME,
        signals=np.stack([*signals, *others]),
        labels=np.array([*labels, *other_labels], dtype=np.int64),
        class_names=CLASSES,
        groups=np.unique(names, return_inverse=True)[1].astype(np.int64),
        is_target=np.arange(len(names)) >= len(groups),
        fs_hz=FS_HZ,
    )


def _ludb() -> tuple[list[Signals], list[int], list[str]]:
    with np.load(data_file(NAME, "ecg/ludb.npz"), allow_pickle=False) as archive:
        rhythm = archive["rhythm_names"][archive["rhythm"]].tolist()
        records, millivolts = archive["record"], archive["signals_uV"] / MICROVOLT_PER_MILLIVOLT
    kept = [index for index, name in enumerate(rhythm) if name in LUDB_CLASS]
    return (
        [recording(millivolts[index]) for index in kept],
        [LUDB_CLASS[rhythm[index]] for index in kept],
        [f"ludb {records[index]}" for index in kept],
    )


def _challenge() -> tuple[list[Signals], list[int], list[str]]:
    about = json.loads(data_file(NAME, "ecg/twelve_lead_subset.json").read_text("utf-8"))
    signals, labels, groups = [], [], []
    path = data_file(NAME, "ecg/twelve_lead_subset.npz")
    with np.load(path, allow_pickle=False) as archive:
        for record in about["records"]:
            label = single_rhythm(record["snomed"])
            if label is not None:
                signals.append(recording(archive[record["name"]] / record["counts_per_mV"]))
                labels.append(label)
                groups.append(f"{record['database']} {record['age']} {record['sex']}")
    return signals, labels, groups


def single_rhythm(codes: Sequence[str]) -> int | None:
    """Class of a record by its SNOMED-CT codes; None without one, or with two."""
    found = {SNOMED_CLASS[code] for code in codes if code in SNOMED_CLASS}
    return found.pop() if len(found) == 1 else None


def recording(millivolts: np.ndarray) -> Signals:
    """A record [12, n] at 500 Hz as a network reads it [12, 4096]."""
    at_rate = resampled(millivolts, UP, DOWN)[:, :SAMPLES]
    whole = np.pad(at_rate, ((0, 0), (0, SAMPLES - at_rate.shape[1])))
    low, high = whole.min(), whole.max()
    scaled: Signals = ((whole - low) / ((high - low) or 1.0)).astype(np.float32)
    return scaled
