"""What a whole adaptation costs: its steps, choosing what to train, keeping the samples."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer.costmodel.forms import FORMS
from explorer.costmodel.tables import layer_table
from explorer.costmodel.uncertainty import Spending, backward_spending
from explorer.design import LARGEST_BATCH, DesignBatch, everything
from explorer.device import DeviceProfile
from explorer.errors import check_whole
from explorer.graph import ModelGraph
from explorer.units import bytes_of

PASSES = 40
SAMPLES = 25
LARGEST_STEPS = 1_000_000_000
WHY = (
    "default of 40 passes over 25 samples: fine-tuning of hushell/pmf_cvpr22 on a 5-way "
    "5-shot task; selection is one pass back to the first layer"
)
SCORED = ("fisher", "gradient")  # selections that need gradients of activations
LABEL_BYTES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long an adaptation runs: `steps` weight updates over `samples` kept samples.

    Without `steps` it is 40 passes over the samples, rounded up to whole steps.
    """

    steps: int | None = None
    samples: int = SAMPLES

    def __post_init__(self) -> None:
        check_whole("samples", self.samples, 1, LARGEST_BATCH)
        if self.steps is not None:
            check_whole("steps", self.steps, 1, LARGEST_STEPS)

    def step_count(self, batch: int) -> int:
        """Weight updates with an effective batch."""
        return self.steps or -(-PASSES * self.samples // batch)


DEFAULT_PLAN = Plan()


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Adaptation:
    """One adaptation session. `passes` is how often each sample is seen.

    `selection_time_s` is part of `spending`; `sample_bytes` are not in the peak memory.
    """

    steps: int
    samples: int
    passes: float
    spending: Spending
    selection_time_s: float
    sample_bytes: float

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON surface."""
        return {
            "steps": self.steps,
            "samples": self.samples,
            "passes": self.passes,
            "time_s": self.spending.time_s.value,
            "energy_j": self.spending.energy_j.value,
            "selection_time_s": self.selection_time_s,
            "sample_bytes": int(self.sample_bytes),
        }


def adaptation(
    graph: ModelGraph, device: DeviceProfile, designs: DesignBatch, step: Spending, plan: Plan
) -> Adaptation:
    """The session of the first design, whose one step spends `step`.

    A policy that trains nothing takes no step. A policy that chooses channels by gradients
    pays one pass over the samples first, back to the first layer whatever it trains.
    """
    setup = designs.setup
    steps = plan.step_count(setup.effective_batch) if designs.trains[0] else 0
    spending = step.times(steps)
    selection_time_s = 0.0
    if designs.slices[0].any() and designs.selections[0] in SCORED:
        table = layer_table(graph)
        whole = DesignBatch.of(table.axes, [everything(table.axes)], setup)
        micro_batch_count = -(-plan.samples // setup.micro_batch)
        choosing = backward_spending(table, device, setup, whole).times(micro_batch_count)
        selection_time_s = choosing.time_s.value
        spending = spending.plus(choosing)
    input_elements = int(np.prod(graph.input_shape))
    sample_bytes = bytes_of(input_elements, FORMS[setup.precision].activation_bits) + LABEL_BYTES
    return Adaptation(
        steps=steps,
        samples=plan.samples,
        passes=steps * setup.effective_batch / plan.samples,
        spending=spending,
        selection_time_s=selection_time_s,
        sample_bytes=plan.samples * sample_bytes,
    )
