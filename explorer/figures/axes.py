"""Axis ranges and ticks in the units people read, for every figure.

A tick is written as the same value is in a text: `5 mJ`, `64 KiB`. No axis leaves a quantity
with a unit to plotly, which would glue an SI prefix to a bare number.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from explorer.units import FloatArray, shown_unit

_ONE_TWO_FIVE = (1.0, 2.0, 5.0)
_FINE_STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
_WANTED_TICKS = 5
_FEWEST_TICKS = 3
_MOST_STEPS = 5  # parts of an axis from zero
PERCENT = "~%"


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisData:
    """One axis: its span in data units (not logarithms) and its ticks.

    Without ticks plotly chooses them, written as `tick_format` says.
    """

    title: str
    low: float
    high: float
    is_log: bool
    ticks: tuple[float, ...] = ()
    tick_texts: tuple[str, ...] = ()
    tick_format: str = ""

    @property
    def options(self) -> dict[str, object]:
        """What plotly must know to draw it."""
        ends = np.array([self.low, self.high])
        options: dict[str, object] = {
            "title_text": self.title,
            "type": "log" if self.is_log else "linear",
            "range": (np.log10(ends) if self.is_log else ends).tolist(),
        }
        if self.ticks:
            return options | {
                "tickmode": "array",
                "tickvals": self.ticks,
                "ticktext": self.tick_texts,
            }
        return options | {"tickmode": "auto", "nticks": 6, "tickformat": self.tick_format}

    def place(self, values: FloatArray) -> FloatArray:
        """Positions along the axis, 0 at the low end and 1 at the high end."""
        if self.is_log:
            span = math.log(self.high / self.low)
            placed: FloatArray = np.log(np.maximum(values, 1e-300) / self.low) / span
        else:
            placed = (values - self.low) / (self.high - self.low)
        return placed

    def value_at(self, position: float) -> float:
        """The value at a position, 0 to 1."""
        if self.is_log:
            return float(self.low * (self.high / self.low) ** position)
        return self.low + (self.high - self.low) * position


def byte_axis(title: str, values: FloatArray, text_of: Callable[[float], str]) -> AxisData:
    """A logarithmic axis with ticks at powers of two."""
    low, high = _log_span(values, 2.0**0.25)
    exponents = range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
    ticks = _thinned([2.0**power for power in exponents])
    return _log_axis(title, low, high, ticks, text_of)


def decimal_axis(title: str, values: FloatArray, text_of: Callable[[float], str]) -> AxisData:
    """A logarithmic axis with ticks at 1, 2 and 5 of every decade."""
    low, high = _log_span(values, 10**0.125)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1.0,), _ONE_TWO_FIVE, _FINE_STEPS):
        scaled = [10.0**power * step for power in decades for step in steps]
        ticks = [tick for tick in scaled if low <= tick <= high]
        if len(ticks) >= _FEWEST_TICKS:
            break
    ticks = _thinned(ticks)
    return _log_axis(title, low, high, ticks, text_of)


def linear_axis(title: str, values: FloatArray, tick_format: str = "") -> AxisData:
    """A linear axis; ends are rounded so that it rarely moves while points stream in."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    step = 10.0 ** math.floor(math.log10(max(high - low, abs(high) * 1e-3, 1e-12))) / 10
    margin = (high - low) * 0.07 + step / 4
    low, high = math.floor((low - margin) / step) * step, math.ceil((high + margin) / step) * step
    return AxisData(title=title, low=low, high=high, is_log=False, tick_format=tick_format)


def axis_from_zero(title: str, most: float, unit: str, room_ratio: float = 0.04) -> AxisData:
    """A linear axis from 0 to `most` and some room, every tick in the unit of the last.

    `unit` is byte, s, J, MAC or parameter, as explorer.units has them.
    """
    most = most if most > 0 else 1.0
    scale, word = shown_unit(most, unit)
    step = _round_step(most / scale / _MOST_STEPS, is_binary=unit == "byte")
    count = math.floor(most / scale / step * (1 + 1e-9))
    marks = [number * step for number in range(count + 1)]
    return AxisData(
        title=title,
        low=0.0,
        high=most * (1 + room_ratio),
        is_log=False,
        ticks=tuple(mark * scale for mark in marks),
        tick_texts=tuple(f"{mark:.4g} {word}".rstrip() if mark else "0" for mark in marks),
    )


def short_tick(text: str) -> str:
    """`64.0 KiB` -> `64 KiB`."""
    return re.sub(r"\.0+(?=\D|$)", "", text)


def _log_axis(
    title: str, low: float, high: float, ticks: Sequence[float], text_of: Callable[[float], str]
) -> AxisData:
    return AxisData(
        title=title,
        low=low,
        high=high,
        is_log=True,
        ticks=tuple(ticks),
        tick_texts=tuple(short_tick(text_of(tick)) for tick in ticks),
    )


def _round_step(least: float, *, is_binary: bool) -> float:
    """The least power of two, or 1, 2 or 5 of a decade, that is no smaller."""
    if is_binary:
        return 2.0 ** math.ceil(math.log2(least) - 1e-9)
    decade = 10.0 ** math.floor(math.log10(least))
    return next(step * decade for step in (*_ONE_TWO_FIVE, 10.0) if step * decade >= least)


def _log_span(values: FloatArray, grain: float) -> tuple[float, float]:
    """Ends on powers of `grain`, with a margin; grows in steps while points stream in."""
    usable = values[np.isfinite(values) & (values > 0)]
    if not len(usable):
        return 1.0, 10.0
    margin = math.log(max(usable.max() / usable.min(), 2.0)) * 0.07
    low = math.floor((math.log(usable.min()) - margin) / math.log(grain))
    high = math.ceil((math.log(usable.max()) + margin) / math.log(grain))
    return grain**low, grain**high


def _thinned(ticks: Sequence[float]) -> list[float]:
    """Every n-th tick, so that few are left."""
    stride = max(1, math.ceil(len(ticks) / _WANTED_TICKS))
    return list(ticks[::stride])
