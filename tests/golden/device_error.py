"""How far the model is from the published measurements, by device, precision and phase."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from golden.device_rows import Prediction, predicted_rows, refused_rows

from explorer import catalog
from explorer.device import load_device

# What a shipped profile predicts, and the beginnings of the phases that test it.
QUESTIONS = {
    "inference time": ("inference", "step"),
    "training time": ("training step", "step MAC"),
    "power": ("energy", "power"),
}


@dataclass(frozen=True, kw_only=True)
class DeviceError:
    """Errors of one device, precision and phase, as shares; the worst is signed."""

    device: str
    precision: str
    phase: str
    shipped: bool
    row_count: int
    mean_error_ratio: float
    median_bias_ratio: float
    worst_error_ratio: float
    worst_workload: str

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.device, self.precision, self.phase)


def device_errors() -> list[DeviceError]:
    groups: dict[tuple[str, str, str], list[Prediction]] = defaultdict(list)
    for row in predicted_rows():
        groups[row.device, row.precision, row.phase].append(row)
    return [_summary(rows) for _, rows in sorted(groups.items())]


def untested() -> list[tuple[str, str, str]]:
    """Shipped profile, precision, and what no published row can test."""
    found = []
    for name in catalog.names("device"):
        for precision in load_device(name).kernels:
            phases = {
                row.phase
                for row in predicted_rows()
                if row.shipped and row.profile.name == name and row.precision == precision
            }
            open_questions = [
                question
                for question, starts in QUESTIONS.items()
                if not any(phase.startswith(starts) for phase in phases)
            ]
            if open_questions:
                found.append((name, precision, ", ".join(open_questions)))
    return found


def reasons() -> list[tuple[str, int]]:
    """Why published figures are not predicted, with how many each, most first."""
    counts: dict[str, int] = defaultdict(int)
    for row in refused_rows():
        counts[row.reason] += 1
    return sorted(counts.items(), key=lambda item: -item[1])


def _summary(rows: list[Prediction]) -> DeviceError:
    errors = np.array([row.error for row in rows])
    worst = int(np.argmax(np.abs(errors)))
    first = rows[0]
    return DeviceError(
        device=first.device,
        precision=first.precision,
        phase=first.phase,
        shipped=all(row.shipped for row in rows),
        row_count=len(rows),
        mean_error_ratio=float(np.abs(errors).mean()),
        median_bias_ratio=float(np.median(errors)),
        worst_error_ratio=float(errors[worst]),
        worst_workload=rows[worst].workload,
    )
