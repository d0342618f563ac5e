"""A table of timings of one's own, as CSV: what was run, and how long it took.

One row is one measured design. `phase` inference is a forward pass over the batch, step is one
weight update of it; `time_s` is of that whole pass or update. Energy and power, one of them,
are those while it runs. A column that is not there, or an empty cell, means the default.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from explorer.costmodel.evaluate import evaluate
from explorer.costmodel.fitting import Timing
from explorer.costmodel.levels import overflow_seconds
from explorer.costmodel.uncertainty import step_work
from explorer.device import Precision, first_problem, read_text
from explorer.errors import ExplorerError, SpecError
from explorer.session import Session

Positive = Annotated[float, Field(ge=1e-12, le=1e12, allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=1)]
Phase = Literal["inference", "step"]
PHASES = get_args(Phase)
SETUP = ("batch", "micro_batch", "norm", "optimizer", "precision")
FORWARD_ONLY = "none"


class MeasuredRow(BaseModel):
    """One row; the columns are its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(min_length=1)]
    policy: str = FORWARD_ONLY
    batch: Whole = 1
    micro_batch: Whole | None = None
    norm: str | None = None
    optimizer: str = "sgd"
    precision: Precision | None = None
    phase: Phase
    time_s: Positive
    power_w: Positive | None = None
    energy_j: Positive | None = None


COLUMNS = tuple(MeasuredRow.model_fields)
REQUIRED = tuple(name for name, field in MeasuredRow.model_fields.items() if field.is_required())


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Measured:
    """A row with what the cost model says of it; `where` is the file and the line.

    `step_macs` are those of the whole step or pass; `power_w` is None where it was not measured.
    """

    where: str
    precision: str
    phase: str
    timing: Timing
    step_macs: float
    power_w: float | None

    @property
    def network(self) -> str:
        """The network as it ran, by name and digest."""
        return self.timing.network


def read_measurements(path: Path, base: str) -> list[Measured]:
    """Rows of a CSV for a device to start from; SpecError names the line and what is allowed."""
    return [_measured(row, line, str(path), base) for line, row in _rows(path)]


def grouped(rows: list[Measured]) -> list[Measured]:
    """The rows with their groups: of a network where several ran the phase, else of equal work."""
    ran = {phase: {row.network for row in rows if row.phase == phase} for phase in PHASES}
    return [
        replace(
            row,
            timing=replace(
                row.timing, group=row.network if len(ran[row.phase]) > 1 else _work_of(row)
            ),
        )
        for row in rows
    ]


def _work_of(row: Measured) -> str:
    """What tells one design from another."""
    work = row.timing.work
    return f"{row.network} {work.setup} {work.column.tobytes().hex()}"


def _rows(path: Path) -> Iterator[tuple[int, MeasuredRow]]:
    """Rows with their lines."""
    text = read_text(path).removeprefix("\ufeff")
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    header: list[str] = []
    while True:
        start = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            break
        except csv.Error as error:
            raise SpecError(f"{path}, line {start}: not CSV: {error}") from None
        if not any(cells):
            continue
        where = f"{path}, line {start}"
        if not header:
            header = _header(cells, where)
            continue
        if len(cells) > len(header):
            raise SpecError.of(f"{where}: cells", len(cells), f"{len(header)}, as the header has")
        given = {name: cell for name, cell in zip(header, cells, strict=False) if cell}
        try:
            yield start, MeasuredRow.model_validate(given)
        except ValidationError as error:
            raise SpecError(f"{where}: {first_problem(error)}") from None
    if not header:
        raise SpecError(f"{path}: no header; its columns are of {', '.join(COLUMNS)}")


def _header(cells: list[str], where: str) -> list[str]:
    for name in cells:
        if name not in COLUMNS:
            raise SpecError.of(f"{where}: column", name, ", ".join(COLUMNS))
        if cells.count(name) > 1:
            raise SpecError.of(f"{where}: column", name, "each column once")
    for name in REQUIRED:
        if name not in cells:
            raise SpecError(f"{where}: the column {name} is missing")
    return cells


def _measured(row: MeasuredRow, line: int, origin: str, base: str) -> Measured:
    where = f"{origin}, line {line}"
    if (row.phase == "inference") != (row.policy == FORWARD_ONLY):
        allowed = "none or nothing" if row.phase == "inference" else "one that trains"
        raise SpecError.of(f"{where}: policy of phase {row.phase}", row.policy, allowed)
    if row.power_w is not None and row.energy_j is not None:
        raise SpecError(f"{where}: got power_w and energy_j, allowed: one of them")
    try:
        session = _session(row, base)
        graph, device, designs = session.graph, session.profile, session.designs
        if row.phase == "step" and not designs.trains[0]:
            raise SpecError.of(f"policy of phase {row.phase}", row.policy, "one that trains")
        work = step_work(graph, device, designs)
        peak_bytes = evaluate(graph, device, designs).peak_live_bytes
    except ExplorerError as error:
        raise SpecError(f"{where}: {error}") from None
    power_w = row.power_w if row.energy_j is None else row.energy_j / row.time_s
    return Measured(
        where=where,
        precision=work.setup.precision,
        phase=row.phase,
        timing=Timing(
            work=work,
            time_s=row.time_s,
            wait_s=float(overflow_seconds(device, work.setup, peak_bytes)[0]),
            network=f"{graph.name} {graph.digest}",
            group="",
        ),
        step_macs=float(work.sample_macs * work.setup.effective_batch),
        power_w=power_w,
    )


def _session(row: MeasuredRow, base: str) -> Session:
    """The row as a question; what a policy brings along gives way to the cells that are set."""
    given = row.model_dump(include=set(SETUP) & row.model_fields_set)
    session = Session(model=row.model, device=base, policy=row.policy, **given)
    if "batch" in given:
        given.setdefault("micro_batch", None)
    return replace(session.with_policy(row.policy), **given)
