"""A user's own signals: an NPZ of arrays, or a folder with `labels.csv` and a CSV a signal.

NPZ: `signals` [N, C, T], `labels` [N] (numbers or words), and where wanted `group` [N] (what a
split keeps together), `target` [N] (truth values: which signals are of the new domain) and
`fs_hz`. Folder: `labels.csv` has the columns `file` and `label`, and where wanted `group`,
`target` (0 or 1) and `fs_hz`; a file has a line a sample and a column a channel.
Without groups every signal is one of its own; without `target` all are of the new domain.
"""

import csv
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from explorer.accuracy.arrays import check_bytes, plain_arrays
from explorer.accuracy.tasks._signals import SignalTask
from explorer.errors import ExplorerError, MissingDataError, SpecError, shown

TABLE = "labels.csv"
SIGNALS = "numbers of shape [signals, channels, samples]"
NPZ_NEEDED, NPZ_KNOWN = ("signals", "labels"), ("signals", "labels", "group", "target", "fs_hz")
CSV_NEEDED, CSV_KNOWN = ("file", "label"), ("file", "label", "group", "target", "fs_hz")
MOST_BYTES = 1 << 32  # of all signals
TRUTH = {"0": False, "1": True, "false": False, "true": True}


def is_signals(path: Path) -> bool:
    """Whether a path is of signals: an .npz, or a folder with a table of labels."""
    return path.suffix.lower() == ".npz" or (path / TABLE).is_file()


def load_signals(name: str, path: Path) -> SignalTask:
    """The task of an NPZ or of a folder of CSV files."""
    return _from_npz(name, path) if path.suffix.lower() == ".npz" else _from_folder(name, path)


def check_signals(path: Path) -> None:
    """MissingDataError where there is no such file; what it holds is read later."""
    if not path.exists():
        raise MissingDataError(f"task {path}: no such file")


def signal_shape(path: Path) -> tuple[int, ...] | None:
    """Channels and samples of the signals of a path, read from little of it; None when unclear."""
    try:
        if path.suffix.lower() == ".npz":
            return _npz_shape(path)
        table = path / TABLE
        with table.open(newline="", encoding="utf-8") as file:
            first = next(csv.DictReader(file, restval=""))["file"]
        return _recording(_path(table, 2, first)).shape
    except (ExplorerError, OSError, ValueError, KeyError, StopIteration, csv.Error):
        return None


def _npz_shape(path: Path) -> tuple[int, ...]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open("signals.npy") as file:
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
            shape: tuple[int, ...] = read[npy.read_magic(file)](file)[0]
    except Exception as error:
        raise SpecError(f"{path}: signals cannot be read") from error
    return shape[1:]


def _from_npz(name: str, path: Path) -> SignalTask:
    check_signals(path)
    return signal_task(name, str(path), plain_arrays(path, NPZ_NEEDED, MOST_BYTES))


def signal_task(name: str, place: str, arrays: Mapping[str, NDArray[Any]]) -> SignalTask:
    """The task of arrays under the names of an NPZ; SpecError says what is wrong in `place`."""
    _check_names(place, arrays, NPZ_NEEDED, NPZ_KNOWN, "arrays")
    signals = arrays["signals"]
    if signals.ndim != 3 or not signals.size or signals.dtype.kind not in "fiu":
        came = f"{signals.dtype} of shape {signals.shape}"
        raise SpecError.of(f"{place}: signals", came, SIGNALS)
    count = len(signals)
    columns = {key: np.atleast_1d(arrays[key]) for key in arrays.keys() - {"signals", "fs_hz"}}
    for key, column in columns.items():
        if column.shape != (count,):
            raise SpecError.of(
                f"{place}: {key}", column.shape, f"({count},), one value for each signal"
            )
        if column.dtype.kind not in "biufSU":
            raise SpecError.of(f"{place}: {key}", str(column.dtype), "numbers or words")
    target = columns.get("target", np.ones(count, dtype=bool))
    if target.dtype.kind not in "biu" or not np.isin(target, (0, 1)).all():
        raise SpecError.of(f"{place}: target", target[:3].tolist(), "truth values, or 0 and 1")
    with np.errstate(over="ignore"):  # an infinity is refused as one
        signals = signals.astype(np.float32)
    return _task(
        name,
        signals,
        columns["labels"],
        columns.get("group"),
        target.astype(bool),
        _rate(place, arrays.get("fs_hz", 0.0)),
    )


def _from_folder(name: str, folder: Path) -> SignalTask:
    table = folder / TABLE
    try:
        with table.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            rows = list(reader)
            columns = list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error):
        raise SpecError(f"{table}: cannot be read as a CSV table") from None
    _check_names(table, columns, CSV_NEEDED, CSV_KNOWN, "columns")
    if not rows:
        raise SpecError.of(f"rows of {table}", 0, "one for each signal")
    paths = [_path(table, line, row["file"]) for line, row in enumerate(rows, 2)]
    check_bytes(str(table), sum(path.stat().st_size for path in paths), MOST_BYTES)
    signals = [_recording(path) for path in paths]
    for row, signal in zip(rows, signals, strict=True):
        if signal.shape != signals[0].shape:
            raise SpecError.of(
                f"{folder / row['file']}: channels and samples",
                signal.shape,
                f"{signals[0].shape}, as in {rows[0]['file']}",
            )
    rates = {_rate(table, row["fs_hz"]) for row in rows} if "fs_hz" in columns else {0.0}
    if len(rates) > 1:
        raise SpecError.of(f"{table}: fs_hz", sorted(rates), "one rate for all signals")
    target = [_truth(table, line, row.get("target", "1")) for line, row in enumerate(rows, 2)]
    group = np.array([row["group"] for row in rows]) if "group" in columns else None
    return _task(
        name,
        np.stack(signals),
        np.array([row["label"] for row in rows]),
        group,
        np.array(target),
        rates.pop(),
    )


def _check_names(
    place: Path | str,
    came: Any,
    needed: tuple[str, ...],
    known: tuple[str, ...],
    what: str,
) -> None:
    if not set(needed) <= set(came) <= set(known):
        optional = ", ".join(known[len(needed) :])
        raise SpecError.of(
            f"{place}: {what}", sorted(came), f"{', '.join(needed)}; where wanted also {optional}"
        )


def _path(table: Path, line: int, file: str) -> Path:
    """A file below the folder of the table, never one elsewhere, nor a device or a pipe."""
    path = table.parent / file
    try:
        is_inside = path.resolve().is_relative_to(table.parent.resolve())
        if is_inside and path.is_file():
            return path
    except (OSError, ValueError):  # a name that cannot be
        is_inside = True
    where = f"{table}: line {line}: file"
    if is_inside:
        raise MissingDataError(f"{where}: got {shown(file)}, which cannot be read")
    raise SpecError.of(where, file, "a file in this folder")


def _recording(path: Path) -> NDArray[np.float32]:
    """A CSV of a line a sample as [C, T]; a first line of names is passed over."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise MissingDataError(f"{path}: cannot be read, though {TABLE} names it") from None
    try:
        start = int(not _is_numbers(lines[0]))
        values = np.loadtxt(lines[start:], delimiter=",", dtype=np.float32, ndmin=2)
    except (ValueError, IndexError) as error:
        raise SpecError(
            f"{path}: got {shown(str(error))}, allowed: numbers and commas, a line a sample"
        ) from None
    if not values.size:
        raise SpecError(f"{path}: got no sample, allowed: a line a sample, a column a channel")
    return np.ascontiguousarray(values.T)


def _is_numbers(line: str) -> bool:
    try:
        return bool([float(cell) for cell in line.split(",")])
    except ValueError:
        return False


def _truth(table: Path, line: int, text: str) -> bool:
    if text.strip().lower() not in TRUTH:
        raise SpecError.of(f"{table}: line {line}: target", text, "0 or 1")
    return TRUTH[text.strip().lower()]


def _rate(place: Path | str, value: Any) -> float:
    try:
        fs_hz = float(value)
    except (TypeError, ValueError):
        raise SpecError.of(f"{place}: fs_hz", value, "a number of hertz") from None
    if not 0 <= fs_hz < np.inf:
        raise SpecError.of(f"{place}: fs_hz", fs_hz, "a number of hertz, above 0")
    return fs_hz


def _task(
    name: str,
    signals: NDArray[np.float32],
    labels: NDArray[Any],
    group: NDArray[Any] | None,
    is_target: NDArray[np.bool_],
    fs_hz: float,
) -> SignalTask:
    class_names, classes = np.unique(labels, return_inverse=True)
    groups = np.arange(len(labels)) if group is None else np.unique(group, return_inverse=True)[1]
    return SignalTask(
        name=name,
        signals=signals,
        labels=classes.astype(np.int64),
        class_names=tuple(str(label) for label in class_names),
        groups=groups.astype(np.int64),
        is_target=is_target,
        fs_hz=fs_hz,
    )
