"""Where a number came from: every input has a Source, every result a Kind.

A derived number is as good as the weakest thing that went in and never better
than MODELLED; only real training runs mint MEASURED accuracy.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """How well a number is established; a larger value is weaker."""

    MEASURED = 0
    PUBLISHED = 1
    MODELLED = 2
    ASSUMED = 3

    @property
    def word(self) -> str:
        """The word people see."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> "Kind":
        """Kind from its word; ValueError names the allowed words."""
        try:
            return cls[word.upper()]
        except KeyError:
            allowed = ", ".join(kind.word for kind in cls)
            raise ValueError(f"kind {word!r} is not one of {allowed}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One origin: what kind of number, who says so, and its relative spread.

    `plus_minus_ratio` is one standard deviation relative to the value; 0 means exact.
    """

    kind: Kind
    cite: str
    plus_minus_ratio: float = 0.0


def weakest(kinds: Iterable[Kind]) -> Kind:
    """Kind of a number derived from inputs of these kinds."""
    return max([Kind.MODELLED, *kinds])
