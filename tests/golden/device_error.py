"""How far the model is from the published measurements, by device, precision and phase."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from golden.device_rows import Prediction, predicted_rows, refused_rows

from explorer import catalog
from explorer.costmodel.uncertainty import COVERED, drawn_rates
from explorer.device import DeviceProfile, load_device

DRAWS_TRIED = 100

TIME, MEASURED, PREDICTED = "inference", "energy, time measured", "energy, time predicted"
TTE, TFLM = "training step, Tiny Training Engine", "training step, TF-Lite Micro"
# Mean error in per cent that the fits behind the profiles had on these very rows.
FIT_ERROR = {
    ("GAP9", "fp32", "training step"): 7.9,
    ("GAP9", "int8", MEASURED): 9.6,
    ("Jetson Nano CPU, 1 thread", "fp32", TIME): 19.2,
    ("Jetson Nano CPU, 4 threads", "fp32", TIME): 19.2,
    ("Jetson Nano GPU", "fp16", TIME): 24.3,
    ("NanoPi R2S RK3328", "fp32", TIME): 8.4,
    ("Orange Pi Zero 2 H616", "fp32", TIME): 9.5,
    ("Raspberry Pi 3B+, 1 thread", "fp32", TIME): 7.9,
    ("Raspberry Pi 3B+, 4 threads", "fp32", TIME): 6.8,
    ("Raspberry Pi 5", "fp32", "step / forward"): 10.8,
    ("Raspberry Pi Zero 2 W", "", "power"): 1.4,
    ("Raspberry Pi Zero 2 W, 1 thread", "fp32", TIME): 14.7,
    ("Raspberry Pi Zero 2 W, 4 threads", "fp32", TIME): 6.4,
    ("STM32F746", "int8", TIME): 7.7,
    ("STM32F746", "int8", TFLM): 9.4,
    ("STM32F746", "int8", TTE): 2.8,
    ("STM32H743", "int8", TIME): 6.2,
    ("STM32H747", "int8", TIME): 7.7,
    ("STM32H7A3", "fp32", TIME): 33.0,
    ("STM32H7A3", "int8", MEASURED): 9.7,
    ("STM32H7A3", "int8", PREDICTED): 17.0,
    ("STM32H7A3", "int8", TIME): 11.1,
    ("STM32L4R5", "int8", MEASURED): 4.5,
    ("STM32L4R5", "int8", PREDICTED): 13.4,
    ("STM32L4R5", "int8", TIME): 11.7,
    ("STM32N6", "int8", TIME): 14.4,
    ("STM32U575", "int8", MEASURED): 5.9,
    ("STM32U575", "int8", PREDICTED): 15.3,
    ("STM32U575", "int8", TIME): 14.2,
}
# What a shipped profile predicts, and the beginnings of the phases that test it.
QUESTIONS = {
    "inference time": ("inference",),
    "training time": ("training step", "step MAC"),
    "energy": ("energy", "power"),
}


@dataclass(frozen=True, kw_only=True)
class DeviceError:
    """Errors of one device, precision and phase, as shares; the worst is signed."""

    device: str
    precision: str
    phase: str
    profile: str
    shipped: bool
    row_count: int
    mean_error_ratio: float
    median_bias_ratio: float
    worst_error_ratio: float
    worst_workload: str

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.device, self.precision, self.phase)


@cache
def device_errors() -> tuple[DeviceError, ...]:
    groups: dict[tuple[str, str, str], list[Prediction]] = defaultdict(list)
    for row in predicted_rows():
        groups[row.device, row.precision, row.phase].append(row)
    return tuple(_summary(rows) for _, rows in sorted(groups.items()))


def untested() -> list[tuple[str, str, str]]:
    """Shipped profile, precision, and what no published row can test."""
    found = []
    for name in catalog.names("device"):
        for precision in load_device(name).kernels:
            phases = {
                row.phase
                for row in predicted_rows()
                if row.shipped and row.profile.name == name and row.precision in ("", precision)
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
        profile=", ".join(sorted({row.profile.name for row in rows})),
        shipped=all(row.shipped for row in rows),
        row_count=len(rows),
        mean_error_ratio=float(np.abs(errors).mean()),
        median_bias_ratio=float(np.median(errors)),
        worst_error_ratio=float(errors[worst]),
        worst_workload=rows[worst].workload,
    )


@cache
def coverage() -> dict[tuple[str, str, str], tuple[int, int]]:
    """Of the figures that shipped profiles predict, how many lie in their interval, of how many.

    The interval is what people are shown: COVERED of the profiles drawn from the spreads.
    """
    outside = 50 * (1 - COVERED)
    counts: dict[tuple[str, str, str], tuple[int, int]] = {}
    for row in predicted_rows():
        if not row.shipped or not row.precision:
            continue
        values = [row.model(profile) for profile in drawn_profiles(row.profile, row.precision)]
        low, high = np.percentile(values, [outside, 100 - outside])
        inside, total = counts.get(key := (row.device, row.precision, row.phase), (0, 0))
        counts[key] = (inside + bool(low <= row.measured <= high), total + 1)
    return counts


@lru_cache(maxsize=32)
def drawn_profiles(profile: DeviceProfile, precision: str) -> list[DeviceProfile]:
    """The first draws of a profile's numbers, as profiles."""
    kernels, rates = profile.kernels[precision], drawn_rates(profile, precision)
    given = [name for name in type(kernels).model_fields if name in rates]
    return [
        profile.model_copy(
            update={
                "clock_hz": float(rates["clock_hz"][draw]),
                "kernels": {
                    precision: kernels.model_copy(
                        update={name: float(rates[name][draw]) for name in given}
                    )
                },
            }
        )
        for draw in range(1, DRAWS_TRIED + 1)
    ]
