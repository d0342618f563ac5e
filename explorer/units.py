"""Units: SI base units inside, prefixes only here and in literals.

Array aliases stand here too; shapes are in docstrings (P designs, L layers,
T steps of the schedule, B buffers, D genes, M objectives, C constraints).
"""

import re

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
KILO = 1e3
MEGA = 1e6
GIGA = 1e9
MILLI = 1e-3
MICRO = 1e-6
NANO = 1e-9
PICO = 1e-12

BITS_PER_BYTE = 8

_PREFIXES = {"k": KILO, "M": MEGA, "G": GIGA, "": 1.0}
_SMALL_PREFIXES = {"": 1.0, "m": MILLI, "u": MICRO, "µ": MICRO, "n": NANO}
_WRITTEN: dict[str, dict[str, float]] = {
    "byte": {
        **{f"{prefix}B": factor for prefix, factor in _PREFIXES.items()},
        **{"": 1.0, "KiB": KIB, "MiB": MIB, "GiB": GIB},
    },
    "s": {"": 1.0, "min": 60.0} | {f"{prefix}s": f for prefix, f in _SMALL_PREFIXES.items()},
    "J": {"": 1.0, "kJ": KILO} | {f"{prefix}J": f for prefix, f in _SMALL_PREFIXES.items()},
    "MAC": _PREFIXES | {f"{prefix}MAC": factor for prefix, factor in _PREFIXES.items()},
    "parameter": _PREFIXES,
    "1": {"": 1.0, "%": 0.01},
}
_SI_STEPS = ((1.0, ""), (MILLI, "m"), (MICRO, "µ"), (NANO, "n"), (PICO, "p"))
_COUNTS = ((GIGA, GIGA, "G"), (MEGA, MEGA, "M"), (KILO, KILO, "k"), (0.0, 1.0, ""))
# From which value on, how much one is, and its name; the largest first.
_SHOWN: dict[str, tuple[tuple[float, float, str], ...]] = {
    "byte": ((GIB, GIB, "GiB"), (MIB, MIB, "MiB"), (KIB, KIB, "KiB"), (0.0, 1.0, "B")),
    "s": (
        (7200.0, 3600.0, "h"),
        (120.0, 60.0, "min"),
        *((scale, scale, f"{prefix}s") for scale, prefix in _SI_STEPS),
    ),
    "J": ((KILO, KILO, "kJ"), *((scale, scale, f"{prefix}J") for scale, prefix in _SI_STEPS)),
    "MAC": _COUNTS,
    "parameter": _COUNTS,
}


def bytes_of(elements: float, bits: int) -> float:
    """Bytes of `elements` values of `bits` bits each, rounded up to a whole byte."""
    return -(-elements * bits // BITS_PER_BYTE)


def units_written(unit: str) -> tuple[str, ...]:
    """What may stand behind a number of a unit: byte, s, J, MAC, parameter or 1."""
    return tuple(name for name in _WRITTEN[unit] if name)


def parse_quantity(text: str, unit: str) -> float:
    """`5mJ`, `64 KiB`, `20k`, `70%` in natural units; ValueError unless it is above zero."""
    known = _WRITTEN[unit]
    found = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([^\d\s]*)\s*", text)
    if found is None or found[2] not in known:
        raise ValueError(text)
    value = float(found[1]) * known[found[2]]
    if not 0 < value < np.inf:
        raise ValueError(text)
    return value


def shown_unit(value: float, unit: str) -> tuple[float, str]:
    """How much one of the unit is that people read a value of byte, s, J, MAC, parameter in."""
    steps = _SHOWN[unit]
    return next((step[1:] for step in steps if abs(value) >= step[0]), steps[-1][1:])


def format_quantity(value: float, unit: str) -> str:
    """A value as people read it in its unit: byte, s, J, MAC, parameter or 1."""
    if unit == "1":
        return f"{value:.3g}"
    formats = {"byte": format_bytes, "s": format_seconds, "J": format_joules}
    return formats.get(unit, format_count)(value)


def format_bytes(size_bytes: float) -> str:
    """`212 KiB`: three significant digits in the largest fitting binary unit."""
    return _format_whole(size_bytes, "byte")


def format_seconds(time_s: float) -> str:
    """`1.3 min`, `46.2 ms`: minutes and hours above two minutes."""
    return _format_si(time_s, "s")


def format_joules(energy_j: float) -> str:
    """`3.4 mJ`; kilojoules above a thousand."""
    return _format_si(energy_j, "J")


def format_count(count: float) -> str:
    """`22.5 M`: a plain count with a decimal prefix."""
    return _format_whole(count, "parameter")


def _format_whole(value: float, unit: str) -> str:
    """What comes in wholes: no digits behind the point below the first prefix."""
    if not np.isfinite(value):
        return "-"
    scale, word = shown_unit(value, unit)
    digits = f"{value:.0f}" if scale == 1 else _three_digits(value / scale)
    return f"{digits} {word}".rstrip()


def _format_si(value: float, unit: str) -> str:
    if not np.isfinite(value):
        return "-"
    if value == 0:
        return f"0 {unit}"
    scale, word = shown_unit(value, unit)
    if abs(value) < scale:
        return f"{value:.2e} {unit}"
    return f"{_three_digits(value / scale)} {word}"


def _three_digits(value: float) -> str:
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"
