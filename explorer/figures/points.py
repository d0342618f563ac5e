"""What a trade-off figure is given: designs as plain columns, and budget lines."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from explorer.accuracy.metrics import METRIC_NAMES
from explorer.errors import SpecError
from explorer.figures.axes import PERCENT
from explorer.provenance import Kind
from explorer.units import BoolArray, FloatArray

COLUMNS = ("worth", "memory_bytes", "energy_j", "feasible", "on_front", "known", "stale")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A memory limit of the device, drawn as a line."""

    label: str
    limit_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point someone else published: drawn beside ours, on no front, nan where nothing is."""

    label: str
    worth: float
    memory_bytes: float
    energy_j: float
    hover: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """P designs. `worth` [P] is a metric or a proxy score, named by `worth_name`.

    `memory_bytes` [P] is what `memory_name` says. `measured` [P] is what was measured of each,
    in words, empty where nothing was.
    `known` marks published or baseline policies, `stale` those of an earlier
    setup; `memory_kind` and `energy_kind` say how the costs are known.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    worth: FloatArray
    worth_name: str
    worth_kind: tuple[Kind, ...]
    memory_bytes: FloatArray
    energy_j: FloatArray
    feasible: BoolArray
    on_front: BoolArray
    known: BoolArray
    stale: BoolArray
    measured: tuple[str, ...] = ()
    memory_name: str = "peak live memory"
    memory_kind: Kind = Kind.MODELLED
    energy_kind: Kind = Kind.MODELLED
    choice_id: str | None = None
    budgets: tuple[Budget, ...] = ()
    marks: tuple[Mark, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "measured", self.measured or ("",) * len(self.ids))
        for field in ("labels", "worth_kind", "measured", *COLUMNS):
            if len(getattr(self, field)) != len(self.ids):
                raise SpecError.of(
                    f"points.{field}", len(getattr(self, field)), f"{len(self.ids)} entries"
                )
        if len(set(self.ids)) != len(self.ids):
            raise SpecError.of("points.ids", "repeated ids", "each id once")

    def __len__(self) -> int:
        return len(self.ids)

    def join(self, others: Iterable["Points"]) -> "Points":
        """These points followed by others; names, kinds of costs and budgets stay mine."""
        parts = (self, *others)
        columns: dict[str, Any] = {
            field: np.concatenate([getattr(part, field) for part in parts]) for field in COLUMNS
        }
        return replace(
            self,
            ids=tuple(name for part in parts for name in part.ids),
            labels=tuple(label for part in parts for label in part.labels),
            worth_kind=tuple(kind for part in parts for kind in part.worth_kind),
            measured=tuple(words for part in parts for words in part.measured),
            **columns,
        )


def worth_text(worth: float, name: str) -> str:
    """`71.2 %` for accuracy and its like, three digits for a score, `-` when there is none."""
    if not np.isfinite(worth):
        return "-"
    return f"{worth:.1%}" if name in METRIC_NAMES.values() else f"{worth:.3g}"


def worth_format(name: str) -> str:
    """How ticks of the worth are written: in per cent where texts are."""
    return PERCENT if name in METRIC_NAMES.values() else ""
