"""Accuracies others published, to stand beside measured ones; they never train anything."""

import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field, model_validator

from explorer.accuracy.records import MeasuredRun
from explorer.document import Document

if TYPE_CHECKING:
    import pandas as pd

PERCENT = 100


class PublishedMethod(Document):
    """One row of the table, in per cent as printed, and our policy that does the same."""

    method: str
    policy: str
    accuracy_percent: tuple[Annotated[float, Field(ge=0, le=PERCENT)], ...]


class PublishedAccuracy(Document):
    """A published table: where from, of which network, how made, and its rows."""

    cite: str
    model: str
    protocol: str
    tasks: tuple[str, ...]
    row: tuple[PublishedMethod, ...]

    @model_validator(mode="after")
    def _one_value_a_task(self) -> "PublishedAccuracy":
        if {len(row.accuracy_percent) for row in self.row} != {len(self.tasks)}:
            raise ValueError("each row needs one accuracy a task")
        return self

    def beside(self, ledgers: Mapping[str, Sequence[MeasuredRun]]) -> "pd.DataFrame":
        """One row a method: published shares by task and their mean, then what we measured.

        Each of `ledgers`, by name, gives its accuracy and a column `NAME ±`, the standard
        error; nan where a method was not measured there.
        """
        import pandas as pd

        shares = np.array([row.accuracy_percent for row in self.row]) / PERCENT
        columns = {f"published {name}": shares[:, at] for at, name in enumerate(self.tasks)}
        columns["published mean"] = shares.mean(axis=1)
        for name, runs in ledgers.items():
            of_policy = {run.design.family: run for run in reversed(runs)}
            found = [of_policy.get(row.policy) for row in self.row]
            columns[name] = np.array([run.accuracy if run else np.nan for run in found])
            columns[f"{name} ±"] = np.array(
                [(run.standard_error or np.nan) if run else np.nan for run in found]
            )
        index = pd.MultiIndex.from_tuples(
            [(row.method, row.policy) for row in self.row], names=["method", "policy"]
        )
        return pd.DataFrame(columns, index=index)


@lru_cache(maxsize=1)
def published_accuracy() -> PublishedAccuracy:
    """TinyTrain's table of MCUNet."""
    text = resources.files("explorer.accuracy").joinpath("published.toml").read_text("utf-8")
    return PublishedAccuracy.model_validate(tomllib.loads(text))
