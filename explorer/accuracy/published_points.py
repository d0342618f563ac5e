"""Costs and accuracies others printed of one of our networks on one of our boards.

They stand on the panels as points of their own kind. A row is read in the units of its paper
and turned once, here, into ours.
"""

import tomllib
from functools import lru_cache
from importlib import resources
from typing import Annotated

from pydantic import Field

from explorer.accuracy.published import PERCENT
from explorer.document import Document
from explorer.units import MEGA, MILLI

Printed = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Percent = Annotated[float, Field(ge=0, le=PERCENT, allow_inf_nan=False)]


class PublishedRow(Document):
    """One method: what is printed of one update; nan in our units where nothing is."""

    method: str
    policy: str
    accuracy_percent: Percent | None = None
    accuracy_spread_percent: Percent | None = None
    peak_mb: Printed | None = None
    latency_ms: Printed | None = None
    power_mw: Printed | None = None
    energy_mj: Printed | None = None
    note: str = ""

    @property
    def accuracy(self) -> float:
        """As a share."""
        return _scaled(self.accuracy_percent, 1 / PERCENT)

    @property
    def accuracy_spread(self) -> float:
        """One standard deviation, as a share."""
        return _scaled(self.accuracy_spread_percent, 1 / PERCENT)

    @property
    def peak_bytes(self) -> float:
        """Memory of an update."""
        return _scaled(self.peak_mb, MEGA)

    @property
    def time_s(self) -> float:
        """Time of an update."""
        return _scaled(self.latency_ms, MILLI)

    @property
    def energy_j(self) -> float:
        """Energy of an update: as printed, else printed latency times printed power."""
        if self.energy_mj is None:
            return self.time_s * _scaled(self.power_mw, MILLI)
        return _scaled(self.energy_mj, MILLI)


class PublishedTable(Document):
    """Rows of one paper about one network on one board, and what they were measured under."""

    system: str
    cite: str
    model: str
    device: str
    task: str
    precision: str
    batch: Annotated[int, Field(ge=1)]
    conditions: str
    differs: str
    row: tuple[PublishedRow, ...]

    def is_about(self, model: str, device: str, task: str) -> bool:
        """Whether it is of this network, in whatever form, this board and this task."""
        return (self.model, self.device, self.task) == (model.partition(":")[0], device, task)

    def reason_against(self, batch: int, precision: str) -> str:
        """Why its costs have no place beside those of another setup; empty when they have."""
        if batch != self.batch:
            return f"an update there is of {self.batch} samples, not of {batch}"
        if precision != self.precision:
            return f"it computes in {self.precision}, not in {precision}"
        return ""


class _Tables(Document):
    table: tuple[PublishedTable, ...]


@lru_cache(maxsize=1)
def published_tables() -> tuple[PublishedTable, ...]:
    """Every table that ships."""
    path = resources.files("explorer.accuracy").joinpath("published_points.toml")
    return _Tables.model_validate(tomllib.loads(path.read_text("utf-8"))).table


def tables_about(model: str, device: str, task: str) -> tuple[PublishedTable, ...]:
    """The tables of this network on this board and task."""
    return tuple(table for table in published_tables() if table.is_about(model, device, task))


def _scaled(printed: float | None, scale: float) -> float:
    return float("nan") if printed is None else printed * scale
