"""device_measurements.csv as typed rows."""

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
THREADED = ("Raspberry Pi Zero 2 W", "Raspberry Pi 3B+", "Jetson Nano CPU")
THREADS = {1: "1 thread", 4: "4 threads"}


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One line of the table, numbers in SI units; None where nothing was published."""

    line: int
    board: str
    clock_hz: float | None
    cores: int
    workload: str
    phase: str
    precision: str
    macs: float | None
    weights: float | None
    batch: int
    published: dict[str, float]
    note: str

    @property
    def device(self) -> str:
        """The board, and the threads where rows of one board differ in them."""
        board = re.sub(r" \(.*", "", self.board)
        return f"{board}, {THREADS[self.cores]}" if board in THREADED and self.phase else board

    @property
    def network(self) -> str:
        return re.sub("_int8$| full train$| last layer only$", "", self.workload)


@cache
def measurements() -> tuple[Measurement, ...]:
    with (FOLDER / "device_measurements.csv").open(encoding="utf-8", newline="") as file:
        return tuple(_measurement(line, row) for line, row in enumerate(csv.DictReader(file), 2))


def _measurement(line: int, row: dict[str, str]) -> Measurement:
    scales = {
        "latency": ("latency_ms_per_sample", 1e-3),
        "energy": ("energy_mj_per_sample", 1e-3),
        "power": ("power_mw", 1e-3),
    }
    published = {
        name: float(row[column]) * scale for name, (column, scale) in scales.items() if row[column]
    }
    if "energy" in published:
        del published["power"]  # the same figure: energy over latency
    return Measurement(
        line=line,
        board=row["device"],
        clock_hz=float(row["clock_mhz"]) * 1e6 if row["clock_mhz"] else None,
        cores=int(row["cores"]),
        workload=row["workload"],
        phase=row["phase"],
        precision=row["precision"],
        macs=float(row["macs_per_sample"]) if row["macs_per_sample"] else None,
        weights=float(row["params"]) if row["params"] else None,
        batch=int(row["batch"] or 1),
        published=published,
        note=row["note"],
    )
