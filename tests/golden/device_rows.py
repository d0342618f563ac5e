"""Every row of device_measurements.csv: predicted by the model, or refused with a reason.

A board that ships with the package is judged by its shipped profile as it is; others have one in
`devices/`, from the same public fits. A software stack is one time factor for all its rows on
a core. Nothing here belongs to a single row.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from golden.device_profiles import profile_of
from golden.device_table import Measurement, measurements
from golden.networks.imagenet import IMAGENET
from golden.networks.sketch import foreign_ops
from golden.networks.tiny import TINY

from explorer.costmodel.lifetimes import trained_counts
from explorer.costmodel.tables import layer_table
from explorer.costmodel.timing import operator_times
from explorer.costmodel.work import plain_work
from explorer.design import (
    DesignBatch,
    LayerAxes,
    TrainingSetup,
    UpdatePolicy,
    everything,
    nothing,
)
from explorer.device import DeviceProfile
from explorer.graph import ModelGraph
from explorer.session import Session

NETWORKS = {**TINY, **IMAGENET}
TINYENGINE = 1.12
# Time of a stack relative to X-CUBE-AI 9 and 10, to which the shipped Cortex-M rates refer:
# of the M7 from MLPerf Tiny v0.7-v1.2 and tinyengine, of the M4 and M33 from MLPerf Tiny alone.
STACKS = {
    "Cortex-M7": {
        "X-CUBE-AI 7": 1.27,
        "X-CUBE-AI 8": 1.15,
        "X-CUBE-AI 9": 1.0,
        "X-CUBE-AI 10": 1.0,
        "Bosch HALE": 0.98,
        "Plumerai": 1.02,
        "TinyEngine": TINYENGINE,
        "CMSIS-NN": 2.2,
    },
    "Cortex-M4": {
        "X-CUBE-AI 7": 2.05,
        "X-CUBE-AI 8": 1.35,
        "X-CUBE-AI 9": 1.0,
        "Bosch HALE": 1.46,
    },
    "Cortex-M33": {
        "X-CUBE-AI 7": 1.77,
        "X-CUBE-AI 8": 1.17,
        "X-CUBE-AI 9": 1.0,
        "X-CUBE-AI 10": 1.0,
        "Bosch HALE": 1.44,
    },
}
# Forward and backward of the two trainers: the profile's backward is that of Tiny Training
# Engine; TF-Lite Micro's two factors were fitted to its four rows.
TRAINERS = {"Tiny Training Engine": (TINYENGINE, 1.0), "TF-Lite Micro": (16.9, 5.8)}
TRAINED = {
    "MobileNetV2-w0.35 sparse update": ("mbv2-w0.35", "sparse-update:scheme=99kb"),
    "MobileNetV2-w0.35 full update": ("mbv2-w0.35", "full"),
    "MCUNet-5fps sparse update": ("mcunet-5fps", "sparse-update:scheme=99kb"),
    "MCUNet-5fps full update": ("mcunet-5fps", "full"),
}
PULP_MACS_PER_CYCLE = 3.11  # of the fp16 ResNet8 step, in the note of its row
UNPUBLISHED = "only totals of this network are public to us, not its layers"
# Networks along time, and the policies that bring their batch of eight along.
SIGNALS = {
    "BioTrain EEG last layer only (LP)": ("mi-bminet", "biotrain-last-layer"),
    "BioTrain EEG full fine-tuning (Edge-FT)": ("mi-bminet", "biotrain-edge"),
    "BioTrain EOG last layer only (LP)": ("epidenet", "biotrain-last-layer"),
}
UNCLEAR = "network and clock are not in the source"
SWAP = "the run waits for swap, and the profile has no idle power"
# (pattern in board and workload, quantity, why it is not predicted)
REFUSED = (
    ("mcunet-vww", "latency", UNPUBLISHED),
    ("mcunet-5fps-vww", "latency", UNPUBLISHED),
    ("ST-MNIST", "latency", UNPUBLISHED),
    ("EEG BMI", "latency", UNCLEAR),
    ("EEGNet", "latency", UNCLEAR),
    ("EpiDeNet", "latency", UNCLEAR),
    ("EpiDeNet", "energy", UNCLEAR),
    ("MCUNet FullTrain", "power", SWAP),
    ("MobileNetV2 FullTrain", "power", SWAP),
    ("TinyTL", "power", SWAP),
    ("Pi 5.*last layer only", "latency", "the row that full training is divided by"),
    ("idle", "power", "the profile has no idle power"),
    ("Orange Pi Zero 2W.*CPU load", "power", "the stand-in for the Radxa Zero is made from it"),
    ("HPL fp64", "power", "fp64, and held back by the size of the memory"),
)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One published figure and the model's: seconds, joules, watts or a pure ratio.

    `model(profile)` predicts the same row with any profile, such as one with sampled rates;
    `shipped` says whether `profile` is the package's own.
    """

    line: int
    device: str
    precision: str
    phase: str
    workload: str
    shipped: bool
    profile: DeviceProfile
    measured: float
    model: Callable[[DeviceProfile], float]

    @property
    def predicted(self) -> float:
        return self.model(self.profile)

    @property
    def error(self) -> float:
        """Signed, as a share of what was measured."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A published figure that the model is not asked for, and why."""

    line: int
    device: str
    workload: str
    quantity: str
    reason: str


@cache
def answers() -> tuple[Prediction | Refusal, ...]:
    """One or more answers for each line of the table, in its order."""
    return tuple(answer for row in measurements() for answer in _answer(row))


def predicted_rows() -> list[Prediction]:
    return [answer for answer in answers() if isinstance(answer, Prediction)]


def refused_rows() -> list[Refusal]:
    return [answer for answer in answers() if isinstance(answer, Refusal)]


def _answer(row: Measurement) -> Iterator[Prediction | Refusal]:
    latency: Callable[[DeviceProfile], float] | None = None
    for quantity, measured in row.published.items():
        if reason := _reason(row, quantity):
            yield Refusal(
                line=row.line,
                device=row.device,
                workload=row.workload,
                quantity=quantity,
                reason=reason,
            )
        elif quantity == "latency":
            phase, measured, latency = _time_model(row, measured)
            yield _prediction(row, phase, measured, latency)
        elif quantity == "energy":
            seconds = row.published["latency"]
            yield _prediction(row, "energy, time measured", measured, _energy(row, seconds))
            if latency is not None:
                yield _prediction(row, "energy, time predicted", measured, _energy(row, latency))
        else:
            yield _prediction(row, "power", measured, lambda device: _watts(row, device))


def _reason(row: Measurement, quantity: str) -> str:
    for pattern, refused, reason in REFUSED:
        if quantity == refused and re.search(pattern, f"{row.board} {row.workload}"):
            return reason
    return ""


def _prediction(
    row: Measurement, phase: str, measured: float, model: Callable[[DeviceProfile], float]
) -> Prediction:
    profile, shipped = profile_of(row)
    return Prediction(
        line=row.line,
        device=row.device,
        precision=row.precision,
        phase=phase,
        workload=row.workload,
        shipped=shipped,
        profile=profile,
        measured=measured,
        model=model,
    )


def _time_model(
    row: Measurement, measured: float
) -> tuple[str, float, Callable[[DeviceProfile], float]]:
    """Phase, what was measured, and the model of it."""
    if row.workload.startswith("ResNet8 fp16"):
        graph = NETWORKS["ResNet8 32"]()
        return "step MAC/cycle", PULP_MACS_PER_CYCLE, lambda device: _step_rate(graph, device)
    if row.workload in SIGNALS:
        return "training step", measured, lambda device: _signal_seconds(row, device)
    if row.workload in TRAINED:
        trainer = next(name for name in TRAINERS if name in row.note)
        return (
            f"training step, {trainer}",
            measured,
            lambda device: _trainer_seconds(row, trainer, device),
        )
    if row.workload.endswith("full train"):
        other = f"{row.network} last layer only"
        base = next(x for x in measurements() if x.workload == other).published["latency"]
        return "step / forward", measured / base, lambda device: _step_to_forward(row, device)
    return "inference", measured, lambda device: _stack_factor(row, device) * _infer(row, device)


def _infer(row: Measurement, device: DeviceProfile) -> float:
    graph = network(row.network)
    return step_seconds(graph, device, nothing, TrainingSetup(precision=row.precision))


def _stack_factor(row: Measurement, device: DeviceProfile) -> float:
    factors = STACKS.get(device.core, {})
    matching = [stack for stack in factors if f"stack={stack}" in row.note]
    if not matching:
        return 1.0
    return factors[max(matching, key=len)]


def _trainer_seconds(row: Measurement, trainer: str, device: DeviceProfile) -> float:
    model, policy = TRAINED[row.workload]
    session = Session(model=model, device="stm32f746", policy=policy, precision="int8")
    forward, backward = TRAINERS[trainer]
    setup = TrainingSetup(precision="int8")
    forward_s = step_seconds(session.graph, device, nothing, setup)
    step_s = step_seconds(session.graph, device, lambda _: session.chosen_policy, setup)
    return forward * forward_s + backward * (step_s - forward_s)


def _signal_seconds(row: Measurement, device: DeviceProfile) -> float:
    """A sample's share of an update."""
    model, policy = SIGNALS[row.workload]
    session = Session(model=model).with_policy(policy)
    setup = session.designs.setup
    step_s = step_seconds(session.graph, device, lambda _: session.chosen_policy, setup)
    return step_s / setup.effective_batch


def _step_rate(graph: ModelGraph, device: DeviceProfile) -> float:
    setup = TrainingSetup(precision="fp16")
    macs = layer_table(graph).forward_macs
    cycles = step_seconds(graph, device, everything, setup) * device.clock_hz
    return float(3 * macs.sum() - macs[0]) / cycles


def _step_to_forward(row: Measurement, device: DeviceProfile) -> float:
    graph, setup = network(row.network), TrainingSetup(micro_batch=row.batch)
    full_s = step_seconds(graph, device, everything, setup)
    return full_s / step_seconds(graph, device, _last_layer, setup)


def _last_layer(axes: LayerAxes) -> UpdatePolicy:
    last = np.arange(len(axes.names)) == len(axes.names) - 1
    slices = last * axes.out_channels
    return UpdatePolicy.of("last-layer", axes, slices=slices, update_bias=last)


def _energy(
    row: Measurement, time: float | Callable[[DeviceProfile], float]
) -> Callable[[DeviceProfile], float]:
    """Power over the time, and what a profile charges for each multiply-accumulate."""

    def joules(device: DeviceProfile) -> float:
        kernels = device.kernels_for(row.precision)
        seconds = time(device) if callable(time) else time
        return kernels.active_power_w * seconds + kernels.energy_j_per_mac * (row.macs or 0.0)

    return joules


def _watts(row: Measurement, device: DeviceProfile) -> float:
    return device.kernels_for(row.precision or device.default_precision).active_power_w


def step_seconds(
    graph: ModelGraph,
    device: DeviceProfile,
    policy: Callable[[LayerAxes], UpdatePolicy],
    setup: TrainingSetup,
) -> float:
    """Seconds of one step as the cost model books them; a frozen network is inference."""
    with foreign_ops():
        table = layer_table(graph)
        designs = DesignBatch.of(table.axes, [policy(table.axes)], setup)
        work = plain_work(table, designs, trained_counts(table, designs))
        return float(operator_times(table, device, setup, work).sum())


@cache
def network(workload: str) -> ModelGraph:
    return NETWORKS[workload]()
