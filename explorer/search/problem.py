"""Where cost and worth meet: designs in, candidates out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from explorer.costmodel.detail import ram_bytes, violations
from explorer.costmodel.evaluate import evaluate, place_rows
from explorer.costmodel.report import CostReport
from explorer.design import DesignBatch
from explorer.device import DeviceProfile
from explorer.graph import ModelGraph
from explorer.search.candidates import (
    MEMORY_OBJECTIVES,
    PROXY_SCORE,
    CandidateTable,
)
from explorer.search.front import ACCURACY, Objective, anchored, position_of
from explorer.search.judge import Judge
from explorer.units import FloatArray

ENERGY = "step_energy_j"


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """One question: a network (in the setup's norm), a device, what counts as good.

    `memory_limit_bytes` and `reserve_bytes` narrow the device's RAM.
    """

    graph: ModelGraph
    device: DeviceProfile
    judge: Judge
    objectives: tuple[Objective, ...]
    reserve_bytes: int = 0
    memory_limit_bytes: int | None = None
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
    ) -> "Problem":
        """Objectives are scaled by anchor designs: nothing trained to everything trained.

        `memory_objective` is one of MEMORY_OBJECTIVES; limits are on the peak either way.
        """
        memory = MEMORY_OBJECTIVES[memory_objective]
        costs = evaluate(graph, device, anchors)
        worth = judge.worth(anchors, costs)
        objectives = (
            anchored(ACCURACY if worth.is_accuracy else PROXY_SCORE, "1", "max", worth.value),
            anchored(memory, "byte", "min", getattr(costs, memory)),
            anchored(ENERGY, "J", "min", costs.step_energy_j),
        )
        return cls(
            graph=graph,
            device=device,
            judge=judge,
            objectives=objectives,
            reserve_bytes=reserve_bytes,
            memory_limit_bytes=memory_limit_bytes,
        )

    @property
    def memory_name(self) -> str:
        """The objective that is memory."""
        return self.objectives[position_of(self.objectives, "byte")].name

    @property
    def usable_bytes(self) -> float:
        """RAM a candidate may use."""
        usable = float(self.device.ram.usable_bytes - self.reserve_bytes)
        return usable if self.memory_limit_bytes is None else min(usable, self.memory_limit_bytes)

    def screen(self, designs: DesignBatch, labels: Sequence[str] | None = None) -> CandidateTable:
        """Evaluate a whole batch at once."""
        costs = evaluate(self.graph, self.device, designs)
        return CandidateTable(
            costs=costs,
            worth=self.judge.worth(designs, costs),
            violations=self._violations(costs),
            labels=tuple(labels) if labels is not None else ("",) * len(designs),
            objectives=self.objectives,
        )

    def recall(self, designs: DesignBatch) -> CandidateTable:
        """Candidates that someone screened before."""
        return self.screen(designs)

    def place(self, table: CandidateTable) -> CandidateTable:
        """The same table with every arena placed, and judged by it."""
        costs = place_rows(self.graph, self.device, table.costs, np.arange(len(table)))
        return replace(table, costs=costs, violations=self._violations(costs))

    def settle(self, table: CandidateTable) -> CandidateTable:
        """The same table with the arena of its front placed, and judged by it.

        A member whose arena does not fit leaves the front, and others may come up; so this
        goes on until every member of the front is placed.
        """
        while True:
            unplaced = table.on_front & ~np.isfinite(table.costs.arena_bytes)
            if not unplaced.any():
                return table
            costs = place_rows(self.graph, self.device, table.costs, np.flatnonzero(unplaced))
            table = replace(table, costs=costs, violations=self._violations(costs))

    def _violations(self, costs: CostReport) -> FloatArray:
        over = violations(self.device, costs, self.reserve_bytes)
        if self.memory_limit_bytes is None:
            return over
        beyond = ram_bytes(costs) / self.memory_limit_bytes - 1
        return np.concatenate([over, beyond[:, None]], axis=1)
