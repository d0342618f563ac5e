"""Parts of a front document: costs, the user's limits, and what measuring some of it taught."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from explorer.accuracy.metrics import ACCURACY
from explorer.device import first_problem
from explorer.document import Document
from explorer.search.refinement import Refinement


class _Part(BaseModel):
    """What is read back of a cost; the rest of it is for people."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Memory(_Part):
    peak_live_bytes: float
    arena_bytes: float | None
    training_extra_bytes: float


class _Step(_Part):
    time_s: float
    energy_j: float


class _Level(_Part):
    fits: bool


class _Estimate(_Part):
    kind: Literal["measured", "published", "modelled", "assumed"]
    low: float | None
    high: float | None


class _Cost(_Part):
    memory: _Memory
    step: _Step
    fits: list[_Level]
    provenance: dict[str, _Estimate]


def _readable(cost: dict[str, Any]) -> dict[str, Any]:
    """A cost as it came; ValueError names what would be missed or be no number in it."""
    try:
        read = _Cost.model_validate(cost)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None
    if absent := {"memory", "step.time_s", "step.energy_j"} - read.provenance.keys():
        raise ValueError(f"provenance.{min(absent)} is missing")
    return cost


ReadCost = Annotated[dict[str, Any], AfterValidator(_readable)]


class LimitRecord(Document):
    """A bound the user set on a quantity: the most of a cost, the least of a score."""

    name: str
    unit: str
    sense: Literal["most", "least"]
    value: float


class ChoiceRecord(Document):
    """A candidate that was really measured, by its index, and the score it had before.

    `measured` is the metric of the refinement, which may be the accuracy.
    """

    candidate: Annotated[int, Field(ge=0)]
    why: str
    accuracy: float
    standard_error: float | None
    measured: float | None = None
    measured_error: float | None = None
    score_before: float
    on_measured_front: bool


class RefinementRecord(Document):
    """How a front moved when some of it was measured; hypervolumes are by the objectives after.

    `reason_against` says why no accuracy is predicted; empty when it is. `metric` is a column
    of explorer.accuracy.metrics.
    """

    metric: str = ACCURACY
    choices: tuple[ChoiceRecord, ...]
    episodes: int
    seed: int
    reason_against: str
    tau: float | None
    hypervolume_before: float
    hypervolume_after: float
    kept_count: int
    left_count: int
    entered_count: int

    @classmethod
    def of(cls, refinement: Refinement) -> "RefinementRecord":
        """Copy what a refined front holds."""
        row = asdict(refinement)
        choices = row.pop("choices")
        for one in choices:
            one["candidate"] = one.pop("row")
            for name in ("standard_error", "measured", "measured_error"):
                one[name] = finite_or_none(one[name])
        return cls.model_validate(row | {"choices": choices, "tau": finite_or_none(row["tau"])})


def finite_or_none(value: float) -> float | None:
    """A number as JSON can hold it."""
    return float(value) if np.isfinite(value) else None
