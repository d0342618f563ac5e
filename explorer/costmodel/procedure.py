"""What a procedure costs: its phases one after the other, so sums, and the highest peak."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from explorer.costmodel.evaluate import evaluate
from explorer.costmodel.report import MACS_COLUMNS
from explorer.costmodel.uncertainty import Spending, step_spending
from explorer.costmodel.work import step_macs
from explorer.design import DesignBatch
from explorer.device import DeviceProfile
from explorer.errors import SpecError
from explorer.graph import ModelGraph
from explorer.phases import Procedure
from explorer.units import FloatArray, IntArray

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ProcedureCost:
    """Columns over S phases: weight updates, MACs, seconds, joules, peak bytes of a step.

    `spending` is of the whole procedure, with its intervals.
    """

    policies: tuple[str, ...]
    steps: IntArray
    macs: FloatArray
    time_s: FloatArray
    energy_j: FloatArray
    peak_live_bytes: FloatArray
    spending: Spending

    @property
    def whole_peak_bytes(self) -> float:
        """The highest peak of any phase."""
        return float(self.peak_live_bytes.max())

    def to_frame(self) -> "pd.DataFrame":
        """One row a phase."""
        import pandas as pd

        names = ("steps", "macs", "time_s", "energy_j", "peak_live_bytes")
        return pd.DataFrame(
            {"policy": self.policies, **{name: getattr(self, name) for name in names}}
        )


def procedure_cost(
    graph: ModelGraph,
    device: DeviceProfile,
    designs: DesignBatch,
    procedure: Procedure,
    samples: int,
) -> ProcedureCost:
    """The cost of a procedure on so many samples; `designs` has a row for each phase.

    The last batch of an epoch may be smaller and counts as a whole step.
    """
    phases = procedure.phases
    if len(designs) != len(phases):
        raise SpecError.of("designs", len(designs), f"one a phase, {len(phases)}")
    costs = evaluate(graph, device, designs)
    epoch_steps = -(-samples // designs.setup.effective_batch)
    steps = np.array([phase.epoch_count * epoch_steps for phase in phases])
    macs = step_macs({name: getattr(costs, name) for name in MACS_COLUMNS}, designs.setup)
    spendings = [
        step_spending(graph, device, designs.take(np.array([row]))).times(float(steps[row]))
        for row in range(len(phases))
    ]
    whole = spendings[0]
    for spending in spendings[1:]:
        whole = whole.plus(spending)
    return ProcedureCost(
        policies=tuple(phase.policy for phase in phases),
        steps=steps,
        macs=macs * steps,
        time_s=costs.step_time_s * steps,
        energy_j=costs.step_energy_j * steps,
        peak_live_bytes=costs.peak_live_bytes,
        spending=whole,
    )
