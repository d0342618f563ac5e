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
from numbers import Integral

LONGEST_SHOWN = 100  # characters of a value that came


class ExplorerError(Exception):
    """Root of everything this package raises on purpose: one line, whatever names are in it."""

    def __init__(self, sentence: str = "") -> None:
        super().__init__(" ".join(sentence.splitlines()))


class SpecError(ExplorerError, ValueError):
    """A value is wrong: says which field, what came and what is allowed."""

    @classmethod
    def of(cls, field: str, came: object, allowed: str) -> "SpecError":
        """One sentence: the field, the value that came, what is allowed."""
        return cls(f"{field}: got {shown(came)}, allowed: {allowed}")


def shown(value: object) -> str:
    """A value as a sentence shows it: its repr, cut when long."""
    try:
        return cut(repr(value))
    except ValueError:  # an integer of more digits than Python prints
        return "a number too long to print"
    except RecursionError:  # tables in tables in tables
        return "a value nested too deeply to print"


def cut(text: str) -> str:
    """A text as a sentence shows it: its beginning when long."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def is_whole(value: object) -> bool:
    """Whether a value is an integer; a truth value is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_whole(field: str, value: int, low: int, high: int | None = None) -> None:
    """SpecError unless a value is a whole number within its bounds."""
    if not is_whole(value) or value < low or (high is not None and value > high):
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
