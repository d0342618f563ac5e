"""A board's own profile: another's, with the numbers that one's timings tell, and no others."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from explorer.costmodel.fitting import (
    FITTED,
    FORWARD,
    Fit,
    Timing,
    fit_rates,
    hold_out,
    log_errors,
    spread_ratio,
)
from explorer.costmodel.levels import overflow_joules
from explorer.costmodel.timing import Rates, rates_of
from explorer.device import DeviceProfile, Quantity, SourceBlock, load_device
from explorer.device_text import kept_sources, profile_toml
from explorer.errors import CalibrationError, SpecError
from explorer.measurements import Measured, grouped, read_measurements
from explorer.units import BoolArray, FloatArray

DIGITS = 4  # of a fitted number
LARGEST_SPREAD_RATIO = 100.0  # that a profile may state
POWER = "active_power_w"
QUANTITY_OF: dict[str, Quantity] = {"inference": "inference time", "step": "training time"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedNumber:
    """A number of the profile: `value` fitted, `reference` the base's.

    `together` with which others it moved by one factor: such a number is modelled, one fitted
    alone measured.
    """

    path: str
    reference: float
    value: float
    kind: str
    plus_minus_ratio: float
    together: tuple[str, ...]
    cite: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """How well rows are predicted by a fit without them, root mean square; and by the base."""

    precision: str
    quantity: str
    row_count: int
    group_count: int
    left_out: str
    base_error_ratio: float
    error_ratio: float


@dataclass(frozen=True, kw_only=True)
class DeviceFit:
    """The fitted profile, what of it was fitted, how well it predicts, and what was not."""

    profile: DeviceProfile
    numbers: tuple[FittedNumber, ...]
    held_out: tuple[HeldOut, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON surface."""
        return {
            "name": self.profile.name,
            "fitted": [asdict(number) for number in self.numbers],
            "held_out": [asdict(one) for one in self.held_out],
            "notes": list(self.notes),
        }


def fit_device(path: Path, base: str, name: str) -> DeviceFit:
    """Fit a base profile to a CSV of timings; CalibrationError when there are too few.

    The profile is called `name`. Each precision is fitted on its own.
    """
    device, rows = load_device(base), read_measurements(path, base)
    numbers: list[FittedNumber] = []
    held_out: list[HeldOut] = []
    notes: list[str] = []
    for precision in device.kernels:
        of_it = grouped([row for row in rows if row.precision == precision])
        if not of_it:
            notes.append(f"{precision}: no row, so nothing of it is fitted")
            continue
        if len({row.timing.group for row in of_it}) < 2:
            notes.append(f"{precision}: rows of one piece of work; a fit needs another to hold out")
            continue
        one = _PrecisionFit(device, precision, of_it, path.name)
        numbers += [*one.numbers(), *one.power()]
        held_out += one.held_out()
        notes += one.notes()
    if not numbers:
        raise CalibrationError(f"{path}: too few rows: {'; '.join(notes) or 'none'}")
    profile = _profile(device, name, numbers, held_out, f"{len(rows)} timings of {path.name}")
    return DeviceFit(
        profile=profile, numbers=tuple(numbers), held_out=tuple(held_out), notes=tuple(notes)
    )


@dataclass(frozen=True, eq=False)
class _PrecisionFit:
    """The fit of one precision; `file` is the name its sources cite."""

    device: DeviceProfile
    precision: str
    rows: list[Measured]
    file: str

    @cached_property
    def base(self) -> Rates:
        """The numbers to start from."""
        return rates_of(self.device, self.precision)

    @cached_property
    def fit(self) -> Fit:
        """The fit to all rows."""
        return fit_rates(self.base, self.timings)

    @cached_property
    def errors(self) -> FloatArray:
        """Of each row's time when its group is held out [R]."""
        return hold_out(self.base, self.timings)

    @property
    def timings(self) -> list[Timing]:
        """Times of the rows."""
        return [row.timing for row in self.rows]

    @cached_property
    def powered(self) -> list[Measured]:
        """Rows with power; none where they are of one group, and so none could be held out."""
        rows = [row for row in self.rows if row.power_w is not None]
        return rows if len(_groups(rows)) > 1 else []

    @cached_property
    def powers_w(self) -> FloatArray:
        """Active power that each of these says [R]."""
        return np.array([_active_power(row, self.base, self.device) for row in self.powered])

    def numbers(self) -> list[FittedNumber]:
        """Rates of the blocks."""
        found = []
        for block in self.fit.blocks:
            phase = "inference" if set(block) <= set(FORWARD) else "step"
            spread = self._spread(self._of(phase))
            factor = np.exp(self.fit.log_factors[block[0]])
            for name in block:
                others = tuple(one for one in block if one != name)
                cite = f"fitted to {len(self.rows)} timings of {self.file}"
                if others:
                    cite = f"{self.device.name}, all {factor:.3g} times as fast: {cite}"
                found.append(
                    FittedNumber(
                        path=self._path(name),
                        reference=float(self.base[name]),
                        value=_rounded(self.fit.value(self.base, name)),
                        kind="modelled" if others else "measured",
                        plus_minus_ratio=spread,
                        together=others,
                        cite=cite,
                    )
                )
        return found

    def power(self) -> list[FittedNumber]:
        """The active power, where rows tell it."""
        if not self.powered:
            return []
        return [
            FittedNumber(
                path=self._path(POWER),
                reference=float(self.base[POWER]),
                value=_rounded(float(np.exp(np.log(self.powers_w).mean()))),
                kind="measured",
                plus_minus_ratio=self._spread_of(self._power_errors(), self.powered),
                together=(),
                cite=f"mean of {len(self.powered)} measurements of {self.file}",
            )
        ]

    def held_out(self) -> list[HeldOut]:
        """Errors of each quantity that was measured."""
        before = log_errors(self.base, self.timings)
        found = []
        for phase, quantity in QUANTITY_OF.items():
            mask = np.array([row.phase == phase for row in self.rows])
            if mask.any():
                rows = [row for row in self.rows if row.phase == phase]
                found.append(self._held_out(quantity, rows, before[mask], self.errors[mask]))
        if self.powered:
            base_errors = np.log(float(self.base[POWER]) / self.powers_w)
            errors = self._power_errors()
            found.append(self._held_out("power", self.powered, base_errors, errors))
        return found

    def notes(self) -> list[str]:
        """What was not fitted, and why."""
        fitted = {name for block in self.fit.blocks for name in block}
        kept = [name for name in FITTED if name in self.base and name not in fitted]
        notes = [
            f"{self.precision} {one.quantity}: rows held out are predicted worse than by "
            f"{self.device.name} as it stands; check the units, or measure more networks"
            for one in self.held_out()
            if one.error_ratio > one.base_error_ratio
        ]
        if kept:
            why = "no row tells these, kept from"
            notes.append(f"{self.precision}: {why} {self.device.name}: {', '.join(kept)}")
        if not self.powered:
            why = "a fit needs power_w or energy_j of two models, or two designs of one"
            notes.append(f"{self.precision}: {POWER} is kept from {self.device.name}; {why}")
        return notes

    def _held_out(
        self, quantity: str, rows: Sequence[Measured], before: FloatArray, errors: FloatArray
    ) -> HeldOut:
        return HeldOut(
            precision=self.precision,
            quantity=quantity,
            row_count=len(rows),
            group_count=len(_groups(rows)),
            left_out="one design" if rows[0].timing.group != rows[0].network else "one model",
            base_error_ratio=_error_ratio(before),
            error_ratio=_error_ratio(errors),
        )

    def _power_errors(self) -> FloatArray:
        """Logarithm of each group's mean of the others against its own [R]."""
        groups = np.array([row.timing.group for row in self.powered])
        logs = np.log(self.powers_w)
        others = np.array([logs[groups != group].mean() for group in groups])
        return np.asarray(others - logs)

    def _of(self, phase: str) -> BoolArray:
        """Which rows a number's spread is taken from [R]: those of its phase, or else all."""
        mask = np.array([row.phase == phase for row in self.rows])
        return mask if mask.any() else np.ones_like(mask)

    def _spread(self, mask: BoolArray) -> float:
        rows = [row for row, taken in zip(self.rows, mask, strict=True) if taken]
        return self._spread_of(self.errors[mask], rows)

    def _spread_of(self, errors: FloatArray, rows: Sequence[Measured]) -> float:
        spread = spread_ratio(errors, len(_groups(rows)))
        return _rounded(min(spread, LARGEST_SPREAD_RATIO))

    def _path(self, name: str) -> str:
        return f"kernels.{self.precision}.{name}"


def _groups(rows: Iterable[Measured]) -> set[str]:
    return {row.timing.group for row in rows}


def _active_power(row: Measured, base: Rates, device: DeviceProfile) -> float:
    """Watts while it computes: without energy per MAC and without what is spent waiting."""
    assert row.power_w is not None
    timing = row.timing
    wait_j = float(overflow_joules(device, np.array([timing.wait_s]))[0])
    energy_j = row.power_w * timing.time_s
    busy_j = energy_j - wait_j - float(base.get("energy_j_per_mac", 0.0)) * row.step_macs
    busy_s = timing.time_s - timing.wait_s
    if busy_j <= 0 or busy_s <= 0:
        raise SpecError(
            f"{row.where}: {energy_j:.3g} J in {timing.time_s:.3g} s is less than MACs and waiting "
            f"take on {device.name}"
        )
    return busy_j / busy_s


def _error_ratio(errors: FloatArray) -> float:
    return float(np.expm1(np.sqrt(np.mean(errors**2))))


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _profile(
    base: DeviceProfile,
    name: str,
    numbers: Sequence[FittedNumber],
    held_out: Sequence[HeldOut],
    measured: str,
) -> DeviceProfile:
    """The base with the fitted numbers and their sources, read back as the document it makes."""
    kernels = dict(base.kernels)
    for number in numbers:
        _, precision, field = number.path.split(".")
        known = next(one for one in kernels if one == precision)
        kernels[known] = kernels[known].model_copy(update={field: number.value})
    tested = {(one.precision, one.quantity) for one in held_out}
    tested |= {(precision, "energy") for precision, quantity in tested if quantity == "power"}
    untested = {
        precision: tuple(one for one in quantities if (precision, one) not in tested)
        for precision, quantities in base.untested.items()
    }
    profile = base.model_copy(
        update={
            "name": name,
            "summary": f"{base.name} with what {measured} tell of {name}.",
            "kernels": kernels,
            "untested": {precision: words for precision, words in untested.items() if words},
            "source": (*kept_sources(base, {number.path for number in numbers}), *_made(numbers)),
        }
    )
    return DeviceProfile.from_toml(profile_toml(profile), f"the fitted profile of {name}")


def _made(numbers: Sequence[FittedNumber]) -> list[SourceBlock]:
    """One source for all numbers of one block."""
    blocks: dict[tuple[str, str, float], list[str]] = {}
    for number in numbers:
        key = (number.kind, number.cite, number.plus_minus_ratio)
        blocks.setdefault(key, []).append(number.path)
    return [
        SourceBlock.model_validate(
            {"kind": kind, "cite": cite, "fields": tuple(paths), "plus_minus_ratio": spread}
        )
        for (kind, cite, spread), paths in blocks.items()
    ]
