"""Tasks of signals: labelled windows of two domains, split by who or when they are of.

A network is trained on the source domain and adapted to the target domain. Both are split
by groups (a patient, a run, a stretch of time), so no group is on two sides of a split,
and a quarter of each is held out: of the source always the same quarter, which weights
trained on it must never have seen; of the target another one for each repeat.
"""

import hashlib
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from explorer.errors import MissingDataError, SpecError
from explorer.paths import DATA_VARIABLE, explorer_data
from explorer.units import BoolArray, IntArray

FOLDS = 4
SOURCE_SEED = 0
TARGET, SOURCE = True, False
Signals = NDArray[np.float32]


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class SignalTask:
    """Labelled signals of one data set.

    `signals` [N, C, T], or in the shape a network reads; `groups` [N] is what a split keeps
    together and `is_target` [N] says which domain a signal is of. `fs_hz` 0 means unknown.
    """

    name: str
    signals: Signals
    labels: IntArray
    class_names: tuple[str, ...]
    groups: IntArray
    is_target: BoolArray
    fs_hz: float

    def __post_init__(self) -> None:
        count = len(self.signals)
        for field in ("labels", "groups", "is_target"):
            column = getattr(self, field)
            if column.shape != (count,):
                raise SpecError.of(
                    f"{self.name}.{field}", column.shape, f"one value for each of {count} signals"
                )
        if len(self.class_names) < 2:
            raise SpecError.of(f"classes of task {self.name}", self.class_names, "at least two")
        if not np.isfinite(self.signals).all():
            raise SpecError(f"{self.name}.signals: got nan or infinity, allowed: finite numbers")
        for domain in self.domains:
            inside = np.unique(self.groups[self.is_target == domain])
            if len(inside) < FOLDS:
                name = "target" if domain else "source"
                raise SpecError.of(
                    f"groups of the {name} of task {self.name}",
                    len(inside),
                    f"at least {FOLDS}, since one part in {FOLDS} is held out",
                )
        shared = np.intersect1d(self.groups[self.is_target], self.groups[~self.is_target])
        if len(shared):
            raise SpecError.of(
                f"{self.name}.groups", int(shared[0]), "groups that are of one domain only"
            )

    @property
    def domains(self) -> tuple[bool, ...]:
        """Domains the task has, the target first; a user's own signals may have no source."""
        return (TARGET, SOURCE) if not self.is_target.all() else (TARGET,)

    @cached_property
    def digest(self) -> str:
        """Twelve hexadecimal digits over all arrays, to tell two forms of a set apart."""
        sha = hashlib.sha256()
        for array in (self.signals, self.labels, self.groups, self.is_target):
            sha.update(np.ascontiguousarray(array).tobytes())
        return sha.hexdigest()[:12]

    def source_split(self) -> tuple[IntArray, IntArray]:
        """Signals of the source to train on, and those held out for good; both may be empty."""
        inside = np.flatnonzero(~self.is_target)
        return self.part(inside, SOURCE_SEED, 0) if len(inside) else (inside, inside)

    def target_split(self, seed: int, repeat: int) -> tuple[IntArray, IntArray]:
        """Signals of the target to adapt on and to test on; four repeats test all of them."""
        return self.part(np.flatnonzero(self.is_target), seed, repeat)

    def part(self, index: IntArray, seed: int, repeat: int) -> tuple[IntArray, IntArray]:
        """Three quarters of some signals and the rest, by groups, each with all classes."""
        from sklearn.model_selection import StratifiedGroupKFold

        shuffling = np.random.SeedSequence([seed, repeat // FOLDS]).generate_state(1)[0]
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=int(shuffling))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class of fewer signals than folds
            parts = list(folds.split(index, self.labels[index], self.groups[index]))
        kept, held_out = parts[repeat % FOLDS]
        return index[kept], index[held_out]

    def reshaped(self, input_shape: tuple[int, ...]) -> "SignalTask":
        """The same signals as a network of that input reads them; SpecError when it cannot."""
        wanted = tuple(side for side in input_shape if side > 1)
        came = tuple(side for side in self.signals.shape[1:] if side > 1)
        if wanted != came:
            raise SpecError.of(
                f"input of task {self.name}",
                self.signals.shape[1:],
                f"channels and samples {wanted} of the network's input {input_shape}",
            )
        return replace(self, signals=self.signals.reshape(len(self.signals), *input_shape))


def data_file(task: str, place: str) -> Path:
    """A converted file below EXPLORER_DATA; MissingDataError when it is not there."""
    folder = explorer_data()
    path = None if folder is None else folder / place
    if path is None or not path.is_file():
        raise MissingDataError(f"task {task} needs {place} below {DATA_VARIABLE}")
    return path


def resampled(signals: NDArray[np.floating], up: int, down: int) -> NDArray[np.float64]:
    """Signals [..., T] at `up / down` times their rate, by a polyphase filter."""
    from scipy.signal import resample_poly

    out: NDArray[np.float64] = resample_poly(
        signals.astype(np.float64), up, down, axis=-1, padtype="line"
    )
    return out


def band_passed(
    signals: NDArray[np.floating], low_hz: float, high_hz: float, fs_hz: float, order: int = 4
) -> NDArray[np.float64]:
    """Signals [..., T] through a causal Butterworth band-pass, as a device could.

    It starts at rest at the first sample, so a constant offset makes no transient.
    """
    from scipy.signal import butter, sosfilt

    sections = butter(order, (low_hz, high_hz), "bandpass", fs=fs_hz, output="sos")
    from_start = signals.astype(np.float64) - signals[..., :1]
    out: NDArray[np.float64] = sosfilt(sections, from_start, axis=-1)
    return out
