"""Time and energy of one training step, linear in a design's features.

A layer's pass takes `max(MACs / rate, weight bytes / stream) + activation traffic +
overhead`; dX and dW take the same, divided by the device's measured or judged speed
ratio, dW in proportion to what trains. Element operations (norms, masks, optimizer)
have their own rate. Energy is active power times time plus energy per MAC.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from explorer.costmodel.forms import FORMS
from explorer.costmodel.ops import RULES
from explorer.costmodel.tables import LayerTable
from explorer.design import OPTIMIZER_STATES, DesignBatch, TrainingSetup
from explorer.device import DeviceProfile
from explorer.units import BITS_PER_BYTE, BoolArray, FloatArray

UPDATE_PASSES = 3  # read weight, read gradient, write weight
STATE_PASSES = 2  # read and write one optimizer state


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class PassTimes:
    """Seconds of one micro-batch pass.

    Per operator [O]: `forward_s`, `input_grad_s`; per weighted layer [L]: `weight_grad_s`
    for all slices. `overhead_s` [L] is the part of dW that does not shrink with the share.
    """

    forward_s: FloatArray
    input_grad_s: FloatArray
    weight_grad_s: FloatArray
    overhead_s: FloatArray
    element_s: float


@lru_cache(maxsize=64)
def pass_times(
    table: LayerTable, device: DeviceProfile, setup: TrainingSetup, *, training: bool
) -> PassTimes:
    """Times on a device; training kernels differ from inference ones by their ratio."""
    kernels = device.kernels_for(setup.precision)
    form = FORMS[setup.precision]
    cycles_per_s = device.clock_hz * device.active_cores
    if training:
        cycles_per_s *= kernels.trainer_speed_ratio
    batch = setup.micro_batch
    macs_per_cycle = np.array([getattr(kernels, f"{kind}_macs_per_cycle") for kind in table.kind])
    work_s = np.maximum(
        batch * table.forward_macs / (macs_per_cycle * cycles_per_s),
        table.weight_count * form.weight_bits / BITS_PER_BYTE / kernels.weight_bytes_per_s,
    )
    activation_bytes = batch * table.element_count * form.activation_bits / BITS_PER_BYTE
    overhead_s = np.full(len(work_s), kernels.layer_overhead_cycles / device.clock_hz)
    if kernels.activation_bytes_per_s is not None:
        work_s += 2 * activation_bytes[table.op_index] / kernels.activation_bytes_per_s
    element_s = 1.0 / (kernels.elements_per_cycle * cycles_per_s)
    passes = np.array(
        [
            (RULES[layer.op].forward_passes, RULES[layer.op].backward_passes)
            for layer in table.graph.layers
        ]
    )
    forward_s = batch * table.element_count * passes[:, 0] * element_s
    input_grad_s = batch * table.element_count * passes[:, 1] * element_s
    forward_s[table.op_index] += work_s + overhead_s
    input_grad_s[table.op_index] += (work_s + overhead_s) / kernels.input_grad_speed_ratio
    return PassTimes(
        forward_s=forward_s,
        input_grad_s=input_grad_s,
        weight_grad_s=work_s / kernels.weight_grad_speed_ratio,
        overhead_s=overhead_s / kernels.weight_grad_speed_ratio,
        element_s=element_s,
    )


def operator_times(
    table: LayerTable,
    device: DeviceProfile,
    designs: DesignBatch,
    passes: BoolArray,
    trained: FloatArray,
    again: FloatArray,
) -> FloatArray:
    """Seconds of one step booked on each operator [P, O]; the sum is the step.

    `passes` bool [P, O]: where a gradient passes; `trained` [P, 3L] counts; `again` [P, O]:
    forward passes run again in backward.
    """
    setup = designs.setup
    booked = np.zeros((len(designs), len(table.element_count)))
    learns = trained.any(axis=1)
    update_s = _update_seconds(table, setup, trained)
    for training in (False, True):
        rows = learns == training
        if not rows.any():
            continue
        times = pass_times(table, device, setup, training=training)
        per_pass = (1 + again[rows]) * times.forward_s + passes[rows] * times.input_grad_s
        share = designs.update_ratio[rows]
        per_pass[:, table.op_index] += share * times.weight_grad_s + (share > 0) * times.overhead_s
        booked[rows] = per_pass * setup.accumulation_steps
        booked[np.ix_(rows, table.op_index)] += update_s[rows] * times.element_s
    return booked


def step_energy(
    device: DeviceProfile, setup: TrainingSetup, time_s: FloatArray, step_macs: FloatArray
) -> FloatArray:
    """Joules of one step [P] from its seconds and its multiply-accumulates."""
    kernels = device.kernels_for(setup.precision)
    return kernels.active_power_w * time_s + kernels.energy_j_per_mac * step_macs


def _update_seconds(table: LayerTable, setup: TrainingSetup, trained: FloatArray) -> FloatArray:
    """Element operations of the weight update of each layer [P, L]."""
    layer_count = len(table.axes.names)
    per_layer = trained.reshape(len(trained), 3, layer_count).sum(axis=1)
    updates: FloatArray = per_layer * (
        UPDATE_PASSES + STATE_PASSES * OPTIMIZER_STATES[setup.optimizer]
    )
    return updates
