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
    live_bytes,
    parameter_bytes,
    peak_bytes,
)
from explorer.costmodel.work import Factors, reusing
from explorer.design import DesignBatch, TrainingSetup
from explorer.units import BoolArray, FloatArray, IntArray

Columns = dict[str, FloatArray]


def memory_of(life: LifeTable, factors: Factors, *, weights_in_flash: bool) -> Columns:
    """Columns [P] of a CostReport: parameters, saved activations, workspace, peak live bytes."""
    own = _plain(life, factors, weights_in_flash=weights_in_flash)
    if factors.ahead is not None:
        own = _joined(life, factors, factors.ahead, own)
    constant = constant_bytes(own, factors.designs.setup)
    return own | {"peak_live_bytes": own["peak_live_bytes"] + constant}


def constant_bytes(fixed: Columns, setup: TrainingSetup) -> FloatArray:
    """Bytes alive at every step [P]: weights in RAM, optimizer state, accumulators."""
    constant = fixed["weight_bytes"] + fixed["optimizer_bytes"]
    if setup.update_timing == "deferred":
        constant = constant + fixed["gradient_bytes"]
    return constant


def kept_bytes(life: LifeTable, designs: DesignBatch) -> FloatArray:
    """What forward keeps for backward, booked on layers [P, L]; the sum is what is saved."""
    shown, _ = _shown(life, Factors.of(life, designs), "saved_activation_bytes")
    kept: FloatArray = shown.values @ life.layer_saved_bytes
    return kept


def live_profile_of(life: LifeTable, designs: DesignBatch, *, weights_in_flash: bool) -> FloatArray:
    """Live bytes at every step [P, T] of the pass that has the peak."""
    factors = Factors.of(life, designs)
    shown, soft_bytes = _shown(life, factors, "peak_live_bytes")
    live = live_bytes(life, shown.values, shown.trained)
    live[:, life.schedule.forward_steps] += soft_bytes
    fixed = memory_of(life, factors, weights_in_flash=weights_in_flash)
    return live + constant_bytes(fixed, designs.setup)[:, None]


def all_buffers(life: LifeTable, designs: DesignBatch, *, weights_in_flash: bool) -> list[Buffer]:
    """Every buffer of the first design's pass that has the peak."""
    factors = Factors.of(life, designs.take(np.array([0])))
    shown, soft_bytes = _shown(life, factors, "peak_live_bytes")
    fixed = memory_of(life, factors, weights_in_flash=weights_in_flash)
    buffers = buffers_of(life, shown.designs, designs.setup, fixed)
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


def _plain(life: LifeTable, factors: Factors, *, weights_in_flash: bool) -> Columns:
    """The columns without look-ahead; the peak without what is alive all the time."""
    trained, values, setup = factors.trained, factors.values, factors.designs.setup
    table = life.schedule.table
    return parameter_bytes(table, trained, setup, weights_in_flash=weights_in_flash) | {
        "saved_activation_bytes": values @ life.saved_bytes,
        "workspace_bytes": (values * life.workspace_bytes).max(axis=1),
        "peak_live_bytes": peak_bytes(life, values, trained),
    }


def _joined(life: LifeTable, factors: Factors, ahead: Factors, own: Columns) -> Columns:
    """Own pass and look-ahead, one after the other or at once."""
    looks = np.array([one is not None for one in factors.designs.distillations])
    copied = _plain(life, ahead, weights_in_flash=True)
    both = _plain(life, _both(life, factors.designs, ahead.designs), weights_in_flash=True)
    answers = both["saved_activation_bytes"] + life.inference_bytes
    both["peak_live_bytes"] = np.maximum(both["peak_live_bytes"], answers)
    reuses = reusing(factors.designs)
    joined = dict(own)
    for name in ("weight_bytes", "optimizer_bytes"):
        joined[name] = own[name] + looks * copied[name]
    joined["gradient_bytes"] = np.maximum(own["gradient_bytes"], looks * copied["gradient_bytes"])
    for name in ("saved_activation_bytes", "workspace_bytes", "peak_live_bytes"):
        one_by_one = np.maximum(own[name], looks * copied[name])
        joined[name] = np.where(reuses, both[name], one_by_one)
    return joined


def _both(life: LifeTable, designs: DesignBatch, ahead: DesignBatch) -> Factors:
    """Own and look-ahead trained in one pass."""
    return Factors.of(
        life,
        replace(
            ahead,
            slices=designs.slices + ahead.slices,
            update_bias=designs.update_bias | ahead.update_bias,
            update_norm=designs.update_norm | ahead.update_norm,
        ),
    )


def _shown(life: LifeTable, factors: Factors, by: str) -> tuple[Factors, FloatArray]:
    """The pass of each design with more of a column, and bytes [P] beside it at the loss."""
    designs, ahead = factors.designs, factors.ahead
    if ahead is None:
        return factors, np.zeros(len(designs))
    own, other = (_plain(life, part, weights_in_flash=True)[by] for part in (factors, ahead))
    both = _both(life, designs, ahead.designs).designs
    reuses = reusing(designs)
    which = np.where(reuses, 2, other > own)[:, None]
    parts = (designs, ahead.designs, both)
    slices: IntArray = np.choose(which, [part.slices for part in parts])
    biases: BoolArray = np.choose(which, [part.update_bias for part in parts])
    norms: BoolArray = np.choose(which, [part.update_norm for part in parts])
    shown = Factors.of(life, replace(both, slices=slices, update_bias=biases, update_norm=norms))
    at_loss = live_bytes(life, shown.values, shown.trained)[:, life.schedule.forward_steps]
    answers = shown.values @ life.saved_bytes + life.inference_bytes
    return shown, np.where(reuses, np.maximum(answers - at_loss, 0.0), 0.0)
