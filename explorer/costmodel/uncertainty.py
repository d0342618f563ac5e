"""How far time and energy may be off: the profile's numbers drawn from their spreads.

A spread is a judged standard deviation relative to the value, so a number is drawn as
`value * exp(z log(1 + spread))`, z standard normal and positive when the device is slower:
what speeds a step up is divided, what lengthens or feeds it is multiplied.

Numbers of one `[[source]]` err together, but not wholly. The spread of a fit is that of
whole networks it predicts: part of it is the board's and moves every rate the same way,
part is how the fit shared the time out between its rates. Neither part is published, so
each has half of the variance (assumed): numbers of one source correlate by 0.5, of
different sources not at all. Two policies on one board see the same draws, so that
common errors cancel; two boards are drawn independently, even where a source is alike.

Draws are Latin hypercubes of fixed seed: each z is a shuffle of the same N normal scores.
"""

from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np

from explorer.adapters import with_adapters
from explorer.costmodel.evaluate import device_life_table, evaluate
from explorer.costmodel.levels import overflow_seconds
from explorer.costmodel.lifetimes import trained_counts
from explorer.costmodel.tables import LayerTable, layer_table
from explorer.costmodel.timing import (
    Rates,
    rates_of,
    seconds_by_feature,
    step_energy,
    update_elements,
)
from explorer.costmodel.work import Factors, Work, plain_work, work_of
from explorer.design import DesignBatch, TrainingSetup
from explorer.device import DeviceProfile, SourceBlock
from explorer.graph import ModelGraph
from explorer.units import BoolArray, FloatArray

DRAWS = 1000
COVERED = 0.9  # an interval runs from 5 to 95 % of the draws
SHARED = 0.5  # of a source's variance
BOARD = ("clock_hz", "active_cores")  # not of a precision
SLOWS = {  # all else speeds up
    "layer_overhead_cycles",
    "thin_overhead_cycles",
    "active_power_w",
    "energy_j_per_mac",
}


@dataclass(frozen=True, eq=False, slots=True)
class Spread:
    """A quantity of the profile itself, then of each draw [1 + N]."""

    values: FloatArray

    @property
    def value(self) -> float:
        """With the profile as it stands."""
        return float(self.values[0])

    def interval(self) -> tuple[float, float]:
        """What 90 % of the draws lie in, and the value always."""
        drawn = np.sort(self.values[1:])
        out = round(len(drawn) * (1 - COVERED) / 2)
        return min(self.value, float(drawn[out])), max(self.value, float(drawn[-1 - out]))

    def chance_below(self, other: "Spread") -> float:
        """Share of the draws in which this is less; a tie counts half."""
        mine, theirs = self.values[1:], other.values[1:]
        return float(np.mean(mine < theirs) + np.mean(mine == theirs) / 2)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Spending:
    """Seconds and joules of something, as spreads."""

    time_s: Spread
    energy_j: Spread

    def times(self, count: float) -> "Spending":
        """So many of it, or a share."""
        return Spending(
            time_s=Spread(self.time_s.values * count), energy_j=Spread(self.energy_j.values * count)
        )

    def plus(self, other: "Spending") -> "Spending":
        """Both, one after the other, on one device."""
        return Spending(
            time_s=Spread(self.time_s.values + other.time_s.values),
            energy_j=Spread(self.energy_j.values + other.energy_j.values),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """One choice against another, for a sample of either: `time_ratio` below 1 is faster."""

    policy: str
    time_ratio: float
    p_faster: float
    p_less_energy: float

    @classmethod
    def of(cls, mine: Spending, theirs: Spending, policy: str) -> "Against":
        """From the spendings of both; `policy` is the other's."""
        return cls(
            policy=policy,
            time_ratio=mine.time_s.value / theirs.time_s.value,
            p_faster=mine.time_s.chance_below(theirs.time_s),
            p_less_energy=mine.energy_j.chance_below(theirs.energy_j),
        )


@lru_cache(maxsize=32)
def drawn_rates(device: DeviceProfile, precision: str) -> Rates:
    """Numbers of a profile by field name, its own first and then N draws [1 + N]."""
    drawn = {}
    for name, value in rates_of(device, precision).items():
        path = name if name in BOARD else f"kernels.{precision}.{name}"
        sign = 1 if name in SLOWS else -1
        drawn[name] = value * np.exp(sign * _log_factors(device, path))
    return drawn


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class MicroBatch:
    """The work of one micro-batch pass: how much of each feature, and MACs of a sample.

    `column` [2O + 2L + K + 1] is in the order of timing.seconds_by_feature.
    """

    table: LayerTable
    setup: TrainingSetup
    column: FloatArray
    sample_macs: float
    training: bool


def step_work(graph: ModelGraph, device: DeviceProfile, designs: DesignBatch) -> MicroBatch:
    """What a micro-batch of the first design does; a step is `accumulation_steps` of these."""
    graph, designs = with_adapters(graph, designs.take(np.array([0])))
    table = layer_table(graph)
    setup = designs.setup
    life = device_life_table(graph, device, setup)
    work = work_of(life, Factors.of(life, designs))
    update = update_elements(table, setup, work.trained)[0].sum() / setup.accumulation_steps
    macs = work.macs(table)
    per_pass = macs.pop("per_pass_macs")[0] / setup.micro_batch
    return MicroBatch(
        table=table,
        setup=setup,
        column=_column(work, work.share[0], work.runs[0], update),
        sample_macs=sum(column[0] for column in macs.values()) + per_pass,
        training=bool(work.trained.any()),
    )


def step_spending(graph: ModelGraph, device: DeviceProfile, designs: DesignBatch) -> Spending:
    """One step of the first design."""
    micro_batch = _spending(step_work(graph, device, designs), device)
    waiting = _waiting(graph, device, designs.take(np.array([0])))
    return micro_batch.times(designs.setup.accumulation_steps).plus(waiting)


def _waiting(graph: ModelGraph, device: DeviceProfile, designs: DesignBatch) -> Spending:
    """What one step waits for the overflow level."""
    drawn_s, power_w = np.zeros(1 + DRAWS), np.zeros(1)
    level = device.level("overflow")
    if level is not None and level.wait_power_w is not None:
        peak = evaluate(graph, device, designs).peak_live_bytes
        path = f"memory.{level.name}"
        drawn_s = overflow_seconds(device, designs.setup, peak) * np.exp(
            _log_factors(device, f"{path}.bytes_per_s")
        )
        power_w = level.wait_power_w * np.exp(_log_factors(device, f"{path}.wait_power_w"))
    return Spending(time_s=Spread(drawn_s), energy_j=Spread(drawn_s * power_w))


def backward_spending(
    table: LayerTable, device: DeviceProfile, setup: TrainingSetup, whole: DesignBatch
) -> Spending:
    """One micro-batch forward and back for gradients of activations alone.

    They go back to the earliest layer that `whole`, one design, trains.
    """
    nothing = np.zeros(len(table.kind))
    own = plain_work(table, whole, trained_counts(table, whole))
    counted = own.macs(table)
    work = MicroBatch(
        table=table,
        setup=setup,
        column=_column(own, nothing, nothing, 0.0),
        sample_macs=counted["forward_macs"][0] + counted["input_grad_macs"][0],
        training=True,
    )
    return _spending(work, device)


def _column(
    work: Work, share: FloatArray, runs: FloatArray | BoolArray, update: float
) -> FloatArray:
    """Features of the first design, in the order of timing.seconds_by_feature."""
    forward = work.forward_runs[0] + work.again[0]
    return np.concatenate([forward, work.passes[0], share, runs, work.operands[0], [update]])


def _spending(work: MicroBatch, device: DeviceProfile) -> Spending:
    time_s = _seconds(work.table, device, work.setup, training=work.training) @ work.column
    rates = drawn_rates(device, work.setup.precision)
    energy_j = step_energy(rates, time_s, np.array(work.setup.micro_batch * work.sample_macs))
    return Spending(time_s=Spread(time_s), energy_j=Spread(energy_j))


@lru_cache(maxsize=16)
def _seconds(
    table: LayerTable, device: DeviceProfile, setup: TrainingSetup, *, training: bool
) -> FloatArray:
    """Seconds of a micro-batch by feature, for the profile and each draw [1 + N, features]."""
    rates = drawn_rates(device, setup.precision)
    return seconds_by_feature(table, setup, rates, training=training)


def _log_factors(device: DeviceProfile, path: str) -> FloatArray:
    """By how much a number is worse in each draw [1 + N], as a logarithm; 0 first."""
    block = device.find_block(path)
    if block is None:
        return np.zeros(1 + DRAWS)
    common, own = _scores(device, block), _scores(device, path)
    mixed = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own
    return np.concatenate([[0.0], np.log1p(block.plus_minus_ratio) * mixed])


def _scores(device: DeviceProfile, what: SourceBlock | str) -> FloatArray:
    """Normal scores [N], shuffled for a source or a number of this device."""
    label = what if isinstance(what, str) else f"{what.cite} {what.fields}"
    shuffle = np.random.default_rng(crc32(f"{device.name}: {label}".encode()))
    from scipy.special import ndtri

    return ndtri((shuffle.permutation(DRAWS) + 0.5) / DRAWS)
