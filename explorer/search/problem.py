"""Where cost and worth meet: designs in, candidates out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import ClassVar

import numpy as np

from explorer.costmodel.detail import ram_bytes, violations
from explorer.costmodel.evaluate import evaluate, place_rows
from explorer.costmodel.report import CostReport
from explorer.design import DesignBatch, TrainingSetup
from explorer.device import DeviceProfile
from explorer.errors import SpecError
from explorer.graph import ModelGraph, normalised
from explorer.search.candidates import CandidateTable, Worth
from explorer.search.front import Objective, anchored, name_of
from explorer.search.judge import Judge
from explorer.search.quantities import (
    DEFAULT_OBJECTIVES,
    ENERGY,
    MEMORY_OBJECTIVES,
    PEAK,
    PROXY_SCORE,
    RETENTION,
    SCORES,
    TIME,
    UNITS,
    Limit,
    column_of,
    limit_of,
)
from explorer.units import FloatArray, IntArray

SAME_POWER_W = 1e-9
HOW_TO_MEASURE = (
    "it is never predicted: measure designs into a ledger on a task of signals with a source "
    "domain, or search with --measured"
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Tried:
    """P designs after screening: `table` has those with a value for all that is asked.

    `reasons` says of each design why it has none, empty for the rows of the table, in order.
    """

    table: CandidateTable
    reasons: tuple[str, ...]

    @property
    def rows(self) -> list[int | None]:
        """Row of each design in the table; None where it has none [P]."""
        rows = count()
        return [None if reason else next(rows) for reason in self.reasons]


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """One question: a network (in the setup's norm), a device, what counts as good.

    `memory_limit_bytes` and `reserve_bytes` narrow the device's RAM; `limits` bound any
    quantity. `notes` say what was decided about the objectives. `origin` is the network as it
    comes, for designs of another norm; the graph itself if absent.
    """

    graph: ModelGraph
    device: DeviceProfile
    judge: Judge
    objectives: tuple[Objective, ...]
    reserve_bytes: int = 0
    memory_limit_bytes: int | None = None
    limits: tuple[Limit, ...] = ()
    notes: tuple[str, ...] = ()
    origin: ModelGraph | None = None
    takes_long: ClassVar[bool] = False  # whether `screen` is worth sharing design by design

    @classmethod
    def of(
        cls,
        graph: ModelGraph,
        device: DeviceProfile,
        judge: Judge,
        anchors: DesignBatch,
        reserve_bytes: int = 0,
        memory_limit_bytes: int | None = None,
        memory_objective: str = "peak",
        objectives: Sequence[str] = DEFAULT_OBJECTIVES,
        limits: Sequence[str] = (),
        origin: ModelGraph | None = None,
    ) -> "Problem":
        """Objectives are scaled by anchor designs: nothing trained to everything trained.

        `memory_objective` is one of MEMORY_OBJECTIVES, `objectives` are words and `limits`
        `word=value` of explorer.search.quantities. Limits on memory are on the peak. Where
        power is constant, time is left out beside energy. SpecError says what is not known here.
        """
        costs = evaluate(graph, device, anchors)
        worth = judge.worth(anchors, costs)
        score = worth.metric if worth.is_merit else PROXY_SCORE
        names = [column_of(word, score, memory_objective) for word in objectives]
        notes = []
        power_w = costs.step_energy_j / costs.step_time_s
        if {TIME, ENERGY} <= set(names) and len(names) > 2 and np.ptp(power_w) < SAME_POWER_W:
            names.remove(TIME)
            notes.append(f"time is left out: energy is {power_w[0]:.3g} W times it here")
        anchor_values = {name: _column(name, costs, worth) for name in names}
        if RETENTION in names:
            anchor_values[RETENTION] = np.array([0.0, 1.0])
        scaled = tuple(
            anchored(name, UNITS[name], "max" if name in SCORES else "min", values)
            for name, values in anchor_values.items()
        )
        return cls(
            graph=graph,
            device=device,
            judge=judge,
            objectives=scaled,
            reserve_bytes=reserve_bytes,
            memory_limit_bytes=memory_limit_bytes,
            limits=tuple(limit_of(text, score) for text in limits),
            notes=tuple(notes),
            origin=origin,
        )

    def network(self, setup: TrainingSetup) -> ModelGraph:
        """The network in a setup's norm."""
        return normalised(self.origin or self.graph, setup.norm)

    @property
    def asks_retention(self) -> bool:
        """Whether retention is an objective or limited."""
        names = [one.name for one in self.objectives] + [one.name for one in self.limits]
        return RETENTION in names

    @property
    def memory_name(self) -> str:
        """The objective that is memory; the peak where none is."""
        return name_of(self.objectives, MEMORY_OBJECTIVES.values()) or PEAK

    @property
    def usable_bytes(self) -> float:
        """RAM a candidate may use."""
        limits = [limit.value for limit in self.all_limits if limit.name == PEAK]
        return min(float(self.device.ram.usable_bytes - self.reserve_bytes), *limits, np.inf)

    @cached_property
    def all_limits(self) -> tuple[Limit, ...]:
        """What the user bounds, the memory limit first."""
        if self.memory_limit_bytes is None:
            return self.limits
        limit_bytes = float(self.memory_limit_bytes)
        return Limit(name=PEAK, unit="byte", sense="most", value=limit_bytes), *self.limits

    def screen(self, designs: DesignBatch, labels: Sequence[str] | None = None) -> CandidateTable:
        """Evaluate a whole batch at once; SpecError when retention is asked and not known."""
        return self._checked(self._table(designs, labels))

    def screen_known(self, designs: DesignBatch, labels: Sequence[str]) -> CandidateTable:
        """The same of those designs, where retention is asked, of which it was measured."""
        table = self._table(designs, labels)
        if self.asks_retention and np.isfinite(table.worth.forgotten).any():
            return table.take(np.flatnonzero(np.isfinite(table.worth.forgotten)))
        return self._checked(table)

    def _checked(self, table: CandidateTable) -> CandidateTable:
        if self.asks_retention and not np.isfinite(table.worth.forgotten).all():
            raise SpecError(f"retention: not measured for what is asked; {HOW_TO_MEASURE}")
        return table

    def _table(self, designs: DesignBatch, labels: Sequence[str] | None) -> CandidateTable:
        costs = evaluate(self.origin or self.graph, self.device, designs)
        worth = self.judge.worth(designs, costs)
        return CandidateTable(
            costs=costs,
            worth=worth,
            violations=self._violations(costs, worth),
            labels=tuple(labels) if labels is not None else ("",) * len(designs),
            objectives=self.objectives,
        )

    def tried(self, designs: DesignBatch) -> Tried:
        """The same for a search, which goes on where a design has no value."""
        return Tried(table=self.screen(designs), reasons=("",) * len(designs))

    def recall(self, designs: DesignBatch) -> CandidateTable:
        """Candidates that someone screened before."""
        return self.screen(designs)

    def place(self, table: CandidateTable) -> CandidateTable:
        """The same table with every arena placed, and judged by it."""
        return self._placed(table, np.arange(len(table)))

    def settle(self, table: CandidateTable) -> CandidateTable:
        """The same table with the arena of its front placed, and judged by it.

        A member whose arena does not fit leaves the front, and others may come up; so this
        goes on until every member of the front is placed.
        """
        while True:
            unplaced = table.on_front & ~np.isfinite(table.costs.arena_bytes)
            if not unplaced.any():
                return table
            table = self._placed(table, np.flatnonzero(unplaced))

    def _placed(self, table: CandidateTable, rows: IntArray) -> CandidateTable:
        costs = place_rows(self.origin or self.graph, self.device, table.costs, rows)
        return replace(table, costs=costs, violations=self._violations(costs, table.worth))

    def _violations(self, costs: CostReport, worth: Worth) -> FloatArray:
        columns = [violations(self.device, costs, self.reserve_bytes)]
        for limit in self.all_limits:
            values = ram_bytes(costs) if limit.name == PEAK else _column(limit.name, costs, worth)
            beyond = values / limit.value - 1
            columns.append((beyond if limit.sense == "most" else -beyond)[:, None])
        return np.concatenate(columns, axis=1)


def _column(name: str, costs: CostReport, worth: Worth) -> FloatArray:
    if name == RETENTION:
        return worth.forgotten
    column: FloatArray = worth.value if name in SCORES else getattr(costs, name)
    return column
