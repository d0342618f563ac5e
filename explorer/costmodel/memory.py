"""What designs hold in RAM during a step, look-ahead included.

A design that looks ahead holds, besides its own, a copy of the weights it freezes and their
optimizer state. Its peak is that of the look-ahead or of its own pass, whichever is higher;
with one forward pass for both it is that of everything trained at once, and while the soft
labels are made a whole inference runs above what is kept.
"""

from dataclasses import replace

import numpy as np

from explorer.costmodel.lifetimes import (
    Buffer,
    LifeTable,
    buffers_of,
    feature_values,
    live_bytes,
    parameter_bytes,
    peak_bytes,
    trained_counts,
)
from explorer.costmodel.work import looking_ahead, reusing
from explorer.design import DesignBatch, TrainingSetup
from explorer.units import FloatArray

Columns = dict[str, FloatArray]
FIXED = ("weight_bytes", "flash_bytes", "optimizer_bytes", "gradient_bytes")


def memory_of(life: LifeTable, designs: DesignBatch, *, weights_in_flash: bool) -> Columns:
    """Columns [P] of a CostReport: FIXED, saved activations, workspace, peak live bytes."""
    own = _plain(life, designs, weights_in_flash=weights_in_flash)
    ahead = looking_ahead(designs)
    if ahead is not None:
        own = _joined(life, designs, ahead, own)
    return own | {"peak_live_bytes": own["peak_live_bytes"] + constant_bytes(own, designs.setup)}


def constant_bytes(fixed: Columns, setup: TrainingSetup) -> FloatArray:
    """Bytes alive at every step [P]: weights in RAM, optimizer state, accumulators."""
    constant = fixed["weight_bytes"] + fixed["optimizer_bytes"]
    if setup.update_timing == "deferred":
        constant = constant + fixed["gradient_bytes"]
    return constant


def kept_bytes(life: LifeTable, designs: DesignBatch) -> FloatArray:
    """What forward keeps for backward, booked on layers [P, L]; the sum is what is saved."""
    shown, _ = _shown(life, designs, "saved_activation_bytes")
    kept: FloatArray = feature_values(life, shown) @ life.layer_saved_bytes
    return kept


def live_profile_of(life: LifeTable, designs: DesignBatch, *, weights_in_flash: bool) -> FloatArray:
    """Live bytes at every step [P, T] of the pass that has the peak."""
    shown, soft_bytes = _shown(life, designs, "peak_live_bytes")
    live = live_bytes(life, feature_values(life, shown), trained_counts(life.schedule.table, shown))
    live[:, life.schedule.forward_steps] += soft_bytes
    fixed = memory_of(life, designs, weights_in_flash=weights_in_flash)
    return live + constant_bytes(fixed, designs.setup)[:, None]


def all_buffers(life: LifeTable, designs: DesignBatch, *, weights_in_flash: bool) -> list[Buffer]:
    """Every buffer of the first design's pass that has the peak."""
    first = designs.take(np.array([0]))
    shown, soft_bytes = _shown(life, first, "peak_live_bytes")
    fixed = memory_of(life, first, weights_in_flash=weights_in_flash)
    buffers = buffers_of(life, shown, designs.setup, fixed)
    if soft_bytes[0] > 0:
        loss = life.schedule.forward_steps
        buffers.append(
            Buffer(
                label="look-ahead answers",
                form="activation",
                size_bytes=round(soft_bytes[0]),
                birth=loss,
                death=loss + 1,
            )
        )
    return buffers


def _plain(life: LifeTable, designs: DesignBatch, *, weights_in_flash: bool) -> Columns:
    """The columns without look-ahead; the peak without what is alive all the time."""
    table = life.schedule.table
    trained = trained_counts(table, designs)
    values = feature_values(life, designs)
    return parameter_bytes(table, trained, designs.setup, weights_in_flash=weights_in_flash) | {
        "saved_activation_bytes": values @ life.saved_bytes,
        "workspace_bytes": (values * life.workspace_bytes).max(axis=1),
        "peak_live_bytes": peak_bytes(life, values, trained),
    }


def _joined(life: LifeTable, designs: DesignBatch, ahead: DesignBatch, own: Columns) -> Columns:
    """Own pass and look-ahead, one after the other or at once."""
    looks = np.array([one is not None for one in designs.distillations])
    copied = _plain(life, ahead, weights_in_flash=True)
    both = _plain(life, _both(designs, ahead), weights_in_flash=True)
    answers = both["saved_activation_bytes"] + life.inference_bytes
    both["peak_live_bytes"] = np.maximum(both["peak_live_bytes"], answers)
    reuses = reusing(designs)
    joined = dict(own)
    for name in ("weight_bytes", "optimizer_bytes"):
        joined[name] = own[name] + looks * copied[name]
    joined["gradient_bytes"] = np.maximum(own["gradient_bytes"], looks * copied["gradient_bytes"])
    for name in ("saved_activation_bytes", "workspace_bytes", "peak_live_bytes"):
        one_by_one = np.maximum(own[name], looks * copied[name])
        joined[name] = np.where(reuses, both[name], one_by_one)
    return joined


def _both(designs: DesignBatch, ahead: DesignBatch) -> DesignBatch:
    """Own and look-ahead trained in one pass."""
    return replace(
        ahead,
        slices=designs.slices + ahead.slices,
        update_bias=designs.update_bias | ahead.update_bias,
        update_norm=designs.update_norm | ahead.update_norm,
    )


def _shown(life: LifeTable, designs: DesignBatch, by: str) -> tuple[DesignBatch, FloatArray]:
    """The pass of each design with more of a column, and bytes [P] beside it at the loss."""
    ahead = looking_ahead(designs)
    if ahead is None:
        return designs, np.zeros(len(designs))
    own, other = (_plain(life, part, weights_in_flash=True)[by] for part in (designs, ahead))
    both = _both(designs, ahead)
    reuses, later = reusing(designs)[:, None], (other > own)[:, None]
    shown = replace(
        ahead,
        slices=np.where(reuses, both.slices, np.where(later, ahead.slices, designs.slices)),
        update_bias=np.where(
            reuses, both.update_bias, np.where(later, ahead.update_bias, designs.update_bias)
        ),
        update_norm=np.where(
            reuses, both.update_norm, np.where(later, ahead.update_norm, designs.update_norm)
        ),
    )
    values = feature_values(life, shown)
    live = live_bytes(life, values, trained_counts(life.schedule.table, shown))
    above = values @ life.saved_bytes + life.inference_bytes
    missing = np.maximum(above - live[:, life.schedule.forward_steps], 0.0)
    return shown, np.where(reuses[:, 0], missing, 0.0)
