"""Saccades from horizontal EOG: the first half of a recording is the source, then the target.

Hladek, Porr and Brimijoin (PLoS ONE, 2018; CC BY 4.0), subject 1: one person, and no vertical
electrodes, so the vertical channel that EpiDeNet reads first is 0. The eye tracker names the
classes: left and right by the sign of the saccade, small and large at 20 degrees; fixation is
a window without one. Saccades come each 0.83 s, so a window is 0.8 s around its event, at
1,250 Hz where EpiDeNet has 2.0 s at 500 Hz: 1,000 samples either way. Groups are stretches
of 20 s; a window across an edge is left out, so no two sides of a split share a sample.
"""

import numpy as np

from explorer.accuracy.tasks._signals import SignalTask, band_passed, data_file, resampled
from explorer.units import FloatArray, IntArray

SUMMARY = "saccades from horizontal EOG, 5 classes, later time of one person; EXPLORER_DATA"
NAME = "eog-saccades"
CLASSES = ("left small", "left large", "right small", "right large", "fixation")
FIXATION = 4
LARGE_DEG = 20.0
SMALLEST_DEG = 5.0
BAND_HZ = (0.5, 30.0)
ORDER = 2
UP = 15  # 83.33 Hz to 1250 Hz
FS_HZ = 1250.0
SAMPLES = 1000
INPUT_SHAPE = (2, SAMPLES)
METRICS = ("accuracy", "f1", "auroc")  # accuracy as BioTrain; fixation is 46 % of the target
HALF_WINDOW = 33  # samples at 83.33 Hz on each side of the event
GROUP_S = 20.0
SCALE_MILLIVOLT = 0.02


def load() -> SignalTask:
    """Saccades of at least five degrees alone in their window, and windows without any."""
    path = data_file(NAME, "eog/hladek2018_S1_part1.npz")
    with np.load(path, allow_pickle=False) as archive:
        fs_hz, saccades = float(archive["fs_hz"]), archive["saccade_deg"].astype(np.float64)
        filtered = band_passed(archive["eog_mV"], *BAND_HZ, fs_hz, ORDER)
    centres, labels = events(saccades)
    length = round(GROUP_S * fs_hz)
    first, last = centres - HALF_WINDOW, centres + HALF_WINDOW
    inside = (first >= 0) & (last < len(filtered)) & (first // length == last // length)
    centres, labels = centres[inside], labels[inside]
    groups = centres // length
    windows = np.stack([filtered[at - HALF_WINDOW : at + HALF_WINDOW + 1] for at in centres])
    horizontal = resampled(windows, UP, 1)[:, :SAMPLES] / SCALE_MILLIVOLT
    return SignalTask(
        name=NAME,
        signals=np.stack([np.zeros_like(horizontal), horizontal], axis=1).astype(np.float32),
        labels=labels,
        class_names=CLASSES,
        groups=groups,
        is_target=groups > groups.max() // 2,
        fs_hz=FS_HZ,
    )


def events(saccades_deg: FloatArray) -> tuple[IntArray, IntArray]:
    """Samples at which a window is centred, and their classes; `saccades_deg` [n], nan between.

    A saccade counts when no other detected one of at least five degrees is in its window; a
    fixation lies in the middle of a gap in which a window finds room.
    """
    at = np.flatnonzero(np.isfinite(saccades_deg))
    amplitude = saccades_deg[at]
    big = np.abs(amplitude) >= SMALLEST_DEG
    own, size = at[big], amplitude[big]
    gaps = np.diff(own, prepend=-np.inf, append=np.inf)
    alone = (gaps[:-1] > HALF_WINDOW) & (gaps[1:] > HALF_WINDOW)
    labels = 2 * (size > 0) + (np.abs(size) > LARGE_DEG)
    room = np.flatnonzero(np.diff(at) > 2 * HALF_WINDOW + 2)
    still = (at[room] + at[room + 1]) // 2
    centres = np.concatenate([own[alone], still])
    classes = np.concatenate([labels[alone], np.full(len(still), FIXATION)])
    order = np.argsort(centres, kind="stable")
    return centres[order].astype(np.int64), classes[order].astype(np.int64)
