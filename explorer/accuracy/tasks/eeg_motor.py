"""Fists or feet from EEG: earlier runs of one person are the source, later ones the target.

PhysioNet EEG Motor Movement/Imagery Database (Schalk et al., 2004; ODC-By), subject S001:
runs 5 and 6 (executed, imagined) and then 9 and 10. One person, so a result here is about
another session and not about another person. Eight electrodes over the motor cortex,
3.8 s from the cue at 500 Hz are what BioTrain's network reads (1,900 samples); the band is
4-40 Hz and 20 microvolts become 1: our choices. Trials are one after the other, and three of
them stay on one side of a split: a group is a stretch of time of a run.
"""

import numpy as np

from explorer.accuracy.tasks._signals import SignalTask, band_passed, data_file, resampled

SUMMARY = "both fists or both feet from EEG, 2 classes, run to run of one person; EXPLORER_DATA"
NAME = "eeg-motor"
SOURCE_RUNS, TARGET_RUNS = (5, 6), (9, 10)
ELECTRODES = ("Fc3", "Fcz", "Fc4", "C3", "Cz", "C4", "Cp3", "Cp4")
CLASSES = ("fists", "feet")
BAND_HZ = (4.0, 40.0)
UP, DOWN = 25, 8  # 160 Hz to 500 Hz
FS_HZ = 500.0
SAMPLES = 1900
INPUT_SHAPE = (len(ELECTRODES), SAMPLES)
METRICS = ("accuracy", "f1", "auroc")  # accuracy as BioTrain; the classes are alike in number
SCALE_MICROVOLT = 20.0
TRIALS_A_GROUP = 3


def load() -> SignalTask:
    """60 trials, half of them of the target."""
    signals, labels, groups, is_target = [], [], [], []
    path = data_file(NAME, "eeg/eegmmidb_S001_part1.npz")
    with np.load(path, allow_pickle=False) as archive:
        channels, fs_hz = archive["channels"].tolist(), float(archive["fs_hz"])
        picked = [channels.index(name) for name in ELECTRODES]
        for run in (*SOURCE_RUNS, *TARGET_RUNS):
            filtered = band_passed(archive[f"R{run:02d}.eeg_uV"][picked], *BAND_HZ, fs_hz)
            events, onsets = archive[f"R{run:02d}.event"], archive[f"R{run:02d}.onset_s"]
            for trial, event in enumerate(np.flatnonzero(events > 0)):
                first = round(float(onsets[event]) * fs_hz)
                window = filtered[:, first : first + -(-SAMPLES * DOWN // UP)]
                signals.append(resampled(window, UP, DOWN)[:, :SAMPLES] / SCALE_MICROVOLT)
                labels.append(int(events[event]) - 1)
                groups.append(100 * run + trial // TRIALS_A_GROUP)
                is_target.append(run in TARGET_RUNS)
    return SignalTask(
        name=NAME,
        signals=np.stack(signals).astype(np.float32),
        labels=np.array(labels, dtype=np.int64),
        class_names=CLASSES,
        groups=np.array(groups, dtype=np.int64),
        is_target=np.array(is_target),
        fs_hz=FS_HZ,
    )
