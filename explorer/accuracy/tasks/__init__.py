"""Entries: one task a file, `SUMMARY` and `load() -> Task`; and a user's own by path or code.

`INPUT_SHAPE` says what a task can be made for without its data: channels, height and width of
images, None where any; channels and samples of signals. `METRICS` are words of
`explorer.accuracy.metrics`, those measured on it, the first of which ranks runs; accuracy alone
where an entry has none, as of images.

A task of images is labelled images and the classes its episodes are drawn from; an entry
whose `load` takes a `side` makes images of any size, others have their own. Images stay
whole numbers until an episode asks for them, so a data set costs little memory. A task of
signals (`_signals.py`) is labelled windows of a source and a target domain.
"""

import hashlib
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from inspect import signature
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explorer import catalog
from explorer.accuracy.metrics import METRICS
from explorer.accuracy.tasks._own_signals import (
    check_signals,
    is_signals,
    load_signals,
    signal_shape,
)
from explorer.accuracy.tasks._signals import SignalTask
from explorer.errors import SpecError
from explorer.own_code import check_code, code_file, is_code

__all__ = [
    "SignalTask",
    "Task",
    "TaskData",
    "check_task",
    "data_state",
    "load_task",
    "seen_state",
    "suits",
    "task_for",
    "task_metrics",
]

Images = NDArray[np.float32]
LUMA = (0.299, 0.587, 0.114)  # red, green, blue; ITU-R BT.601
IMAGE_METRICS = ("accuracy",)
SEEN_S, FEW_FILES = 5.0, 200
MAX_WAYS = 5
SHOTS = 5


@dataclass(frozen=True, eq=False, kw_only=True)
class TaskData:
    """Labelled images of one data set.

    `pixels` uint8 [N, C, H, W], white at `pixel_maximum`; one channel is repeated to
    `channels`. `signed` inputs are scaled to -1..1, others to 0..1. Episodes take the
    classes in `held_out`, which the network was not trained on. `max_shift` (pixels)
    and `augment_colour` say how views of an image may differ from it.
    """

    name: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    held_out: tuple[int, ...]
    channels: int
    pixel_maximum: int
    signed: bool
    max_shift: int
    augment_colour: bool
    query_count: int

    def __post_init__(self) -> None:
        if len(self.pixels) != len(self.labels) or self.pixels.ndim != 4:
            raise SpecError.of(f"{self.name}.pixels", self.pixels.shape, "one image a label")
        if self.pixels.dtype != np.uint8:
            raise SpecError.of(f"{self.name}.pixels", str(self.pixels.dtype), "uint8")
        if not set(self.held_out) <= set(range(len(self.class_names))):
            raise SpecError.of(f"{self.name}.held_out", self.held_out, "indices of class_names")

    @property
    def ways(self) -> int:
        """Classes of an episode: five where the task has as many."""
        return min(MAX_WAYS, len(self.held_out))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one network input (C, H, W)."""
        return (self.channels, *self.pixels.shape[2:])

    @cached_property
    def digest(self) -> str:
        """Twelve hexadecimal digits over images and labels, to tell two forms of a set apart."""
        sha = hashlib.sha256(repr(self.pixels.shape).encode())
        sha.update(self.pixels.tobytes())
        sha.update(self.labels.tobytes())
        return sha.hexdigest()[:12]

    def unit_images(self, index: NDArray[np.int64]) -> Images:
        """Images scaled to 0..1 [n, C, H, W]."""
        unit = self.pixels[index].astype(np.float32) / np.float32(self.pixel_maximum)
        return np.array(np.broadcast_to(unit, (len(index), *self.input_shape)))

    def network_input(self, unit: Images) -> Images:
        """Images in 0..1 to what the network was trained to read."""
        return (unit - np.float32(0.5)) / np.float32(0.5) if self.signed else unit


Task = TaskData | SignalTask


def load_task(name: str, side: int | None = None) -> Task:
    """The task of that name, or of a user's own data or code; the last two stay in memory.

    `side` is asked of tasks that can be made at any; None means the task's own. What is a
    user's own is read again when its files have changed.
    """
    return _loaded(name, side, data_state(name))


@lru_cache(maxsize=2)
def _loaded(name: str, side: int | None, _state: tuple[object, ...]) -> Task:
    path, key = catalog.task_path(name), catalog.task_key(name)
    wanted = {} if side is None else {"side": side}
    if path is not None and is_signals(path):
        return load_signals(key, path)
    if path is not None:
        from explorer.accuracy.tasks._folder import load_folder

        return load_folder(key, path, **wanted)
    if catalog.is_own_task(name):
        from explorer.accuracy.tasks._code import load_code

        return load_code(key, side)
    load = catalog.load("task", name).load
    task: Task = load(**wanted) if "side" in signature(load).parameters else load()
    return task


def data_state(name: str) -> tuple[object, ...]:
    """What changes with the files of a user's own task: of a folder's two levels, or of code.

    Empty for an entry and for code of a module.
    """
    path = _own_path(name)
    return () if path is None else _states((path, *path.glob("*"), *path.glob("*/*")))


def seen_state(name: str, *marks: object) -> tuple[object, ...]:
    """The same for what is only shown, and so cheap: of many files as it was SEEN_S ago at most.

    Files that came or went are seen at once, as their folders tell it, and whatever changed
    when `marks` are others. Of FEW_FILES at most nothing is missed.
    """
    path = _own_path(name)
    if path is None:
        return ()
    seen = _seen_state(name, _folders(path), marks, int(time.monotonic() / SEEN_S))
    return seen if len(seen) > FEW_FILES else data_state(name)


@lru_cache(maxsize=32)
def _seen_state(name: str, *_when: object) -> tuple[object, ...]:
    return data_state(name)


def _own_path(name: str) -> Path | None:
    """Where a user's own task lies: its file or folder, or its code's."""
    path = catalog.task_path(name)
    if path is None and catalog.is_own_task(name):
        return code_file(name)
    return path


def _folders(path: Path) -> tuple[object, ...]:
    """What changes when files of a folder's two levels come or go."""
    folders = [path]
    with suppress(OSError), os.scandir(path) as entries:
        folders += [Path(entry) for entry in entries if entry.is_dir()]
    return _states(folders)


def _states(files: Iterable[Path]) -> tuple[object, ...]:
    states = []
    for file in files:
        with suppress(OSError):  # it went meanwhile, or leads nowhere
            found = file.stat()
            states.append((str(file), found.st_mtime_ns, found.st_size))
    return tuple(sorted(states))


def task_for(name: str, input_shape: tuple[int, ...]) -> Task:
    """A task as a network of that input reads it; SpecError when it does not fit.

    Line drawings, of one channel, fit networks of any number of channels; a network of one
    channel reads colour images by their brightness.
    """
    task = load_task(name, input_shape[-1])
    if isinstance(task, SignalTask):
        return task.reshaped(input_shape)
    if task.pixels.shape[1] == 1:
        task = replace(task, channels=input_shape[0])
    elif (task.pixels.shape[1], input_shape[0]) == (len(LUMA), 1):
        task = replace(task, channels=1, pixels=_brightness(task.pixels))
    if task.input_shape != input_shape:
        hint = ", which a function of side can make" if is_code(name) else ""
        raise SpecError.of(f"input of task {name}", task.input_shape, f"{input_shape}{hint}")
    return task


def _brightness(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colour images [N, 3, H, W] in grey [N, 1, H, W]."""
    grey = np.tensordot(pixels, np.array(LUMA), axes=([1], [0]))[:, None]
    return np.rint(grey).astype(np.uint8)


def suits(name: str, input_shape: tuple[int, ...]) -> bool:
    """Whether a network of that input can read a task; where nobody can tell yet, it can."""
    wanted = _input_shape(name)
    if wanted is None:
        return True
    if len(wanted) != 3:
        wanted = tuple(side for side in wanted if side != 1)
        input_shape = tuple(side for side in input_shape if side != 1)
    elif len(input_shape) == 3:
        if None in wanted[1:] and input_shape[1] != input_shape[2]:
            return False
        channels = 1 if (wanted[0], input_shape[0]) == (len(LUMA), 1) else wanted[0]
        wanted = (channels, *wanted[1:])
    if len(wanted) != len(input_shape):
        return False
    return all(want in (None, side) for want, side in zip(wanted, input_shape, strict=True))


def task_metrics(name: str) -> tuple[str, ...]:
    """Words of the metrics measured on a task, the one that ranks runs first; reads no data.

    A task that is not in the catalogue, as of another's ledger, has accuracy.
    """
    path = catalog.task_path(name)
    if path is not None:
        return tuple(METRICS) if is_signals(path) else IMAGE_METRICS
    if catalog.is_own_task(name):  # images or signals: what is not measured is not shown
        return tuple(METRICS)
    entry = catalog.load("task", name) if name in catalog.names("task") else None
    return tuple(getattr(entry, "METRICS", IMAGE_METRICS))


def _input_shape(name: str) -> tuple[int | None, ...] | None:
    """What a task can be made for, as `INPUT_SHAPE` says it; None where that is not known.

    Of code it is known once it has run; it is not run for this.
    """
    path = catalog.task_path(name)
    if path is not None:
        return signal_shape(path) if is_signals(path) else (len(LUMA), None, None)
    if catalog.is_own_task(name):
        from explorer.accuracy.tasks._code import known_shape

        return known_shape(catalog.task_key(name))
    shape: tuple[int | None, ...] | None
    shape = getattr(catalog.load("task", name), "INPUT_SHAPE", None)
    return shape


def check_task(name: str) -> None:
    """Raise where no such task can be: an unknown name, no such file, a folder without classes.

    Code is not run.
    """
    path = catalog.task_path(name)
    if path is None and catalog.is_own_task(name):
        check_code("task", name)
    elif path is None:
        catalog.load("task", name)
    elif is_signals(path):
        check_signals(path)
    else:
        from explorer.accuracy.tasks import _folder

        if _image_count(path, _folders(path)) <= FEW_FILES:
            _folder.class_files(path)


@lru_cache(maxsize=32)
def _image_count(path: Path, _state: tuple[object, ...]) -> int:
    """Images of a folder of classes; raises where it is none."""
    from explorer.accuracy.tasks import _folder

    return sum(len(files) for files in _folder.class_files(path).values())
