"""The error tree: wrong use raises, an unwelcome outcome is data.

ExplorerError
  SpecError(ValueError)          a model, device, policy or document is wrong
  UnknownNameError(LookupError)  no such entry; the nearest names are offered
  UnsupportedOpError             an operator without a rule: all of them at once
  CalibrationError               too few runs, or asked outside their range
  MissingDataError               a data set, weight file or table is not here
"""

import difflib
from collections.abc import Iterable


class ExplorerError(Exception):
    """Root of everything this package raises on purpose."""


class SpecError(ExplorerError, ValueError):
    """A value is wrong: says which field, what came and what is allowed."""

    @classmethod
    def of(cls, field: str, came: object, allowed: str) -> "SpecError":
        """One sentence: the field, the value that came, what is allowed."""
        return cls(f"{field}: got {came!r}, allowed: {allowed}")


def check_whole(field: str, value: int, low: int, high: int | None = None) -> None:
    """SpecError unless a whole number is within its bounds."""
    if value < low or (high is not None and value > high):
        bounds = f"from {low}" if high is None else f"from {low} to {high}"
        raise SpecError.of(field, value, f"a whole number {bounds}")


class UnknownNameError(ExplorerError, LookupError):
    """No entry of that name."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> "UnknownNameError":
        """Offer the nearest known names, or all of them when none is near."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}" if near else f"known: {', '.join(names)}"
        return cls(f"unknown {kind} {name!r}; {hint}")


class UnsupportedOpError(ExplorerError):
    """Operators without a rule; they are never counted as zero."""


class CalibrationError(ExplorerError):
    """Too few measured runs, or a question outside what they cover."""


class MissingDataError(ExplorerError):
    """A file of data is not present; the sentence says how to get it."""
