"""Parts of a front document: the user's limits, and what measuring some of it taught."""

from dataclasses import asdict
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from explorer.document import Document
from explorer.search.refinement import Refinement


class LimitRecord(Document):
    """A bound the user set on a quantity: the most of a cost, the least of a score."""

    name: str
    unit: str
    sense: Literal["most", "least"]
    value: float


class ChoiceRecord(Document):
    """A candidate that was really measured, by its index, and the score it had before."""

    candidate: Annotated[int, Field(ge=0)]
    why: str
    accuracy: float
    standard_error: float | None
    score_before: float
    on_measured_front: bool


class RefinementRecord(Document):
    """How a front moved when some of it was measured; hypervolumes are by the objectives after.

    `reason_against` says why no accuracy is predicted; empty when it is.
    """

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
            one["standard_error"] = finite_or_none(one["standard_error"])
        return cls.model_validate(row | {"choices": choices, "tau": finite_or_none(row["tau"])})


def finite_or_none(value: float) -> float | None:
    """A number as JSON can hold it."""
    return float(value) if np.isfinite(value) else None
