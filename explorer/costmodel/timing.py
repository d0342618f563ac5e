"""Time and energy of one training step, linear in a design's features.

A layer's pass takes `max(MACs / rate, weight bytes / stream) + activation traffic +
overhead`; dX and dW take the same, divided by the device's measured or judged speed
ratio, dW in proportion to what trains. A rate is that of a layer's kind of kernel, or of
special ones (ops.py) where a device has it; so are the ratio and the overhead, which is then
the same in every pass. Element operations (norms,
masks, optimizer) have their own rate. Energy is active power times time plus energy per MAC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from explorer.costmodel.forms import FORMS
from explorer.costmodel.ops import passes_of
from explorer.costmodel.tables import LayerTable
from explorer.costmodel.work import Work
from explorer.design import OPTIMIZER_STATES, TrainingSetup
from explorer.device import DeviceProfile
from explorer.units import BITS_PER_BYTE, BoolArray, FloatArray

UPDATE_PASSES = 3  # read weight, read gradient, write weight
STATE_PASSES = 2  # read and write one optimizer state
OPERANDS = 2  # a product without weights has a gradient of each

Rates = Mapping[str, FloatArray]  # numbers of a profile by field name, [] or, drawn, [N]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class PassTimes:
    """Seconds of one micro-batch pass; drawn rates put their N in front of each shape.

    Per operator [O]: `forward_s`, `input_grad_s`; per weighted layer [L]: `weight_grad_s`
    for all slices. `overhead_s` [L] is the part of dW that does not shrink with the share,
    `operand_s` [K] gradients of products, `element_s` [1] one element operation.
    """

    forward_s: FloatArray
    input_grad_s: FloatArray
    weight_grad_s: FloatArray
    overhead_s: FloatArray
    operand_s: FloatArray
    element_s: FloatArray


@lru_cache(maxsize=32)
def rates_of(device: DeviceProfile, precision: str) -> Rates:
    """The profile's own numbers, each of shape []; SpecError lists its precisions."""
    given = device.kernels_for(precision).model_dump(exclude={"workspace"}, exclude_none=True)
    whole = {"clock_hz": device.clock_hz, "active_cores": device.active_cores}
    return {name: np.array(value, np.float64) for name, value in {**whole, **given}.items()}


@lru_cache(maxsize=64)
def pass_times(
    table: LayerTable, device: DeviceProfile, setup: TrainingSetup, *, training: bool
) -> PassTimes:
    """Times on a device; training kernels differ from inference ones by their ratio."""
    return times_at(table, setup, rates_of(device, setup.precision), training=training)


def times_at(table: LayerTable, setup: TrainingSetup, rates: Rates, *, training: bool) -> PassTimes:
    """Times at these rates, for all draws at once."""
    form = FORMS[setup.precision]
    rate = {name: value[..., None] for name, value in rates.items()}
    cycles_per_s = rate["clock_hz"] * rate["active_cores"]
    if training:
        cycles_per_s = cycles_per_s * rate["trainer_speed_ratio"]
    batch = setup.micro_batch
    computes = (table.forward_macs > 0).astype(np.float64)
    macs_per_s = _by_kernel(table, rates, "macs_per_cycle") * cycles_per_s
    stream_s = table.weight_count * form.weight_bits / BITS_PER_BYTE / rate["weight_bytes_per_s"]
    activation_bytes = batch * table.element_count * form.activation_bits / BITS_PER_BYTE
    call_s = rate["layer_overhead_cycles"] / rate["clock_hz"]
    traffic_s = np.zeros(len(activation_bytes))
    if "activation_bytes_per_s" in rate:
        traffic_s = 2 * activation_bytes / rate["activation_bytes_per_s"]
    overhead_s = computes * (
        _by_kernel(table, rates, "overhead_cycles", "layer_overhead_cycles") / rate["clock_hz"]
    )
    constant = [f"{special}_overhead_cycles" in rates for special in table.special]

    def work_s(macs: FloatArray) -> FloatArray:
        busy_s = np.maximum(batch * macs / macs_per_s, stream_s)
        seconds: FloatArray = computes * (busy_s + traffic_s[..., table.op_index])
        return seconds

    element_s = 1.0 / (rate["elements_per_cycle"] * cycles_per_s)
    passes = np.array([passes_of(layer) for layer in table.graph.layers])
    forward_s = batch * table.element_count * passes[:, 0] * element_s
    input_grad_s = batch * table.element_count * passes[:, 1] * element_s
    forward_s[..., table.op_index] += work_s(table.forward_macs) + overhead_s
    input_grad_ratio = _by_kernel(table, rates, "grad_speed_ratio", "input_grad_speed_ratio")
    input_grad_s[..., table.op_index] += work_s(table.input_macs) / input_grad_ratio
    input_grad_s[..., table.op_index] += overhead_s / np.where(constant, 1, input_grad_ratio)
    by_op = np.empty((2, *forward_s.shape))
    by_op[:] = 1.0
    by_op[0][..., table.op_index], by_op[1][..., table.op_index] = macs_per_s, input_grad_ratio
    products = np.flatnonzero(table.op_macs)
    if len(products):
        speed = [_rate(rates, f"{kind}_macs_per_cycle") for kind in table.product_kind]
        ratio = [
            _rate(rates, f"{kind}_grad_speed_ratio", "input_grad_speed_ratio")
            for kind in table.product_kind
        ]
        by_op[0][..., products] = np.stack(speed, axis=-1) * cycles_per_s
        by_op[1][..., products] = np.stack(ratio, axis=-1)
        call_and_traffic_s = call_s + traffic_s[..., products]
        product_s = batch * table.op_macs[products] / by_op[0][..., products]
        forward_s[..., products] += product_s + call_and_traffic_s
        input_grad_s[..., products] += OPERANDS * call_and_traffic_s / by_op[1][..., products]
    operand_s = batch * table.operand_macs / by_op.prod(axis=0)[..., table.operand_op]
    weight_grad_ratio = _by_kernel(table, rates, "grad_speed_ratio", "weight_grad_speed_ratio")
    of_products_s = (1 - computes) * batch * table.weight_macs / macs_per_s
    return PassTimes(
        forward_s=forward_s,
        input_grad_s=input_grad_s,
        weight_grad_s=(work_s(table.weight_macs) + of_products_s) / weight_grad_ratio,
        overhead_s=overhead_s / np.where(constant, 1, weight_grad_ratio)
        + table.pass_macs / macs_per_s,
        operand_s=operand_s,
        element_s=element_s,
    )


def seconds_by_feature(
    table: LayerTable, setup: TrainingSetup, rates: Rates, *, training: bool
) -> FloatArray:
    """Seconds of a micro-batch by feature [..., 2O + 2L + K + 1], drawn rates in front.

    Columns: forward and dX of each operator, dW of each layer's whole weights, dW's overhead
    of each layer, each gradient of a product, one element operation.
    """
    times = times_at(table, setup, rates, training=training)
    passes = (times.forward_s, times.input_grad_s)
    weights = (times.weight_grad_s, times.overhead_s, times.operand_s)
    return np.concatenate([*passes, *weights, times.element_s], axis=-1)


def _by_kernel(table: LayerTable, rates: Rates, what: str, general: str = "") -> FloatArray:
    """A rate of each layer's kernel [..., L]: its special one, its kind's, or the general."""
    found = [
        _rate(rates, f"{special}_{what}", f"{kind}_{what}", general)
        for kind, special in zip(table.kind, table.special, strict=True)
    ]
    return np.stack(found, axis=-1)


def _rate(rates: Rates, *names: str) -> FloatArray:
    """The first of these numbers that a profile has."""
    return rates[next(name for name in names if name in rates)]


def operator_times(
    table: LayerTable, device: DeviceProfile, setup: TrainingSetup, work: Work
) -> FloatArray:
    """Seconds of one step booked on each operator [P, O]; the sum is the step."""
    learns: BoolArray = np.any(work.trained, axis=1)
    if learns.all() or not learns.any():
        return _booked(table, device, setup, work, training=bool(learns.all()))
    booked = np.zeros(work.passes.shape)
    for training, rows in ((False, ~learns), (True, learns)):
        booked[rows] = _booked(table, device, setup, work.take(rows), training=training)
    return booked


def _booked(
    table: LayerTable, device: DeviceProfile, setup: TrainingSetup, work: Work, *, training: bool
) -> FloatArray:
    """The same for designs that all train, or that all train nothing."""
    times = pass_times(table, device, setup, training=training)
    booked: FloatArray = (work.forward_runs[:, None] + work.again) * times.forward_s
    booked += work.passes * times.input_grad_s
    booked[:, table.op_index] += work.share * times.weight_grad_s + work.runs * times.overhead_s
    if len(table.operand_op):
        np.add.at(booked.T, table.operand_op, (work.operands * times.operand_s).T)
    booked *= setup.accumulation_steps
    booked[:, table.op_index] += update_elements(table, setup, work.trained) * times.element_s
    return booked


def step_energy(rates: Rates, time_s: FloatArray, step_macs: FloatArray) -> FloatArray:
    """Joules of steps from their seconds and their multiply-accumulates."""
    return rates["active_power_w"] * time_s + rates["energy_j_per_mac"] * step_macs


def update_elements(table: LayerTable, setup: TrainingSetup, trained: FloatArray) -> FloatArray:
    """Element operations of the weight update of each layer [P, L]."""
    layer_count = len(table.axes.names)
    per_layer = trained.reshape(len(trained), 3, layer_count).sum(axis=1)
    updates: FloatArray = per_layer * (
        UPDATE_PASSES + STATE_PASSES * OPTIMIZER_STATES[setup.optimizer]
    )
    return updates
