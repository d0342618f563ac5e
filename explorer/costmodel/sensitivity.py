"""Which number of a device decides a comparison of two designs.

Each number of a profile is set to the ends of its 90 % interval while the others stay, and the
ratio of two designs' time (or energy) of a sample is read. The number whose interval moves the
logarithm of the ratio most decides. Inside that interval a value is looked for from which on
the other design is the better one.

A spread is a standard deviation relative to the value, as in uncertainty.py: the interval is
`value * (1 + spread) ** +-1.645`. All settings of all numbers are one evaluation.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from explorer.costmodel.evaluate import evaluate
from explorer.costmodel.levels import overflow_seconds
from explorer.costmodel.timing import Rates, rates_of, seconds_by_feature, step_energy
from explorer.costmodel.uncertainty import BOARD, MicroBatch, step_work
from explorer.design import DesignBatch
from explorer.device import DeviceProfile
from explorer.graph import ModelGraph
from explorer.provenance import Kind
from explorer.units import FloatArray

QUANTILE = 1.6448536269514722  # of the standard normal, 95 %
_GRID = 129  # settings a look for the turning value; two looks, the second between two settings
_DIGITS = 3
Quantity = Literal["time", "energy"]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Contender:
    """The first design of a batch, its network in its own norm, and the device."""

    graph: ModelGraph
    device: DeviceProfile
    designs: DesignBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNumber:
    """A number of a profile by its dotted path, with the ends of its 90 % interval."""

    device: str
    path: str
    value: float
    low: float
    high: float
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """The number that moves a comparison most.

    `now_ratio` is mine over theirs for a sample as the profile stands, `low_ratio` and `high_ratio`
    at the ends of the number's interval. From `turns_at` on, away from its value, the order is
    the other one; None where it stays within the interval.
    """

    number: DeviceNumber
    quantity: Quantity
    now_ratio: float
    low_ratio: float
    high_ratio: float
    turns_at: float | None


def decider(mine: Contender, theirs: Contender) -> Decider | None:
    """What decides between two designs; None where no number of a device moves their ratio."""
    sides = (_Side(mine), _Side(theirs))
    numbers = sorted(
        {number for side in sides for number in side.numbers()}, key=lambda n: (n.device, n.path)
    )
    ends = [(row, value) for row, n in enumerate(numbers) for value in (n.low, n.high)]
    settings = _settings(numbers, ends)
    best: tuple[float, int, Quantity, FloatArray] | None = None
    for quantity, log_ratio in _log_ratios(sides, settings).items():
        pairs = log_ratio[1:].reshape(-1, 2)
        swing = np.abs(pairs[:, 1] - pairs[:, 0])
        row = int(np.argmax(swing)) if len(swing) else 0
        if len(swing) and swing[row] > 1e-9 and (best is None or swing[row] > best[0] + 1e-9):
            best = (float(swing[row]), row, quantity, np.append(log_ratio[:1], pairs[row]))
    if best is None:
        return None
    _, row, quantity, found = best
    now, low, high = np.exp(found).tolist()
    return Decider(
        number=numbers[row],
        quantity=quantity,
        now_ratio=now,
        low_ratio=low,
        high_ratio=high,
        turns_at=_turn(sides, numbers[row], quantity),
    )


class _Side:
    """One design with what it does, so that only the rates are left to be set."""

    def __init__(self, contender: Contender) -> None:
        graph, device = contender.graph, contender.device
        designs = contender.designs.take(np.array([0]))
        self.device = device
        self.setup = designs.setup
        self.work: MicroBatch = step_work(graph, device, designs)
        peak_bytes = evaluate(graph, device, designs).peak_live_bytes
        self.waiting_s = float(overflow_seconds(device, self.setup, peak_bytes)[0])
        self.level = device.level("overflow") if self.waiting_s else None

    def numbers(self) -> list[DeviceNumber]:
        """Every number of the profile that time or energy here rest on and that may be off."""
        values = {self._path(name): float(value) for name, value in self._rates().items()}
        if self.level is not None:
            values[f"memory.{self.level.name}.bytes_per_s"] = self.level.bytes_per_s or 0.0
            values[f"memory.{self.level.name}.wait_power_w"] = self.level.wait_power_w or 0.0
        found = []
        for path, value in values.items():
            block = self.device.find_block(path)
            if block is not None and block.plus_minus_ratio > 0 and value > 0:
                factor = (1 + block.plus_minus_ratio) ** QUANTILE
                found.append(
                    DeviceNumber(
                        device=self.device.name,
                        path=path,
                        value=value,
                        low=value / factor,
                        high=value * factor,
                        kind=block.source.kind,
                    )
                )
        return found

    def sample(self, settings: dict[tuple[str, str], FloatArray], count: int) -> list[FloatArray]:
        """Seconds and joules of a sample under each of N settings, [N] each."""

        def of(path: str, value: float) -> FloatArray:
            return settings.get((self.device.name, path), np.full(count, value))

        rates = {n: of(self._path(n), float(value)) for n, value in self._rates().items()}
        work, setup = self.work, self.setup
        by_feature = seconds_by_feature(work.table, setup, rates, training=work.training)
        time_s = by_feature @ work.column
        macs = np.array(setup.micro_batch * work.sample_macs)
        energy_j = setup.accumulation_steps * step_energy(rates, time_s, macs)
        time_s = setup.accumulation_steps * time_s
        if self.level is not None:
            path, rate = f"memory.{self.level.name}", self.level.bytes_per_s or 1.0
            waiting_s = self.waiting_s * rate / of(f"{path}.bytes_per_s", rate)
            power_w = of(f"{path}.wait_power_w", self.level.wait_power_w or 0.0)
            time_s, energy_j = time_s + waiting_s, energy_j + waiting_s * power_w
        return [time_s / setup.effective_batch, energy_j / setup.effective_batch]

    def _rates(self) -> Rates:
        return rates_of(self.device, self.setup.precision)

    def _path(self, name: str) -> str:
        return name if name in BOARD else f"kernels.{self.setup.precision}.{name}"


def _settings(
    numbers: list[DeviceNumber], changes: list[tuple[int, float]]
) -> dict[tuple[str, str], FloatArray]:
    """Values [1 + N] of each number: as they stand, then with one of them changed at a time."""
    columns = {}
    for row, number in enumerate(numbers):
        column = np.full(1 + len(changes), number.value)
        for place, (changed, value) in enumerate(changes, start=1):
            if changed == row:
                column[place] = value
        columns[number.device, number.path] = column
    return columns


def _log_ratios(
    sides: tuple[_Side, _Side], settings: dict[tuple[str, str], FloatArray]
) -> dict[Quantity, FloatArray]:
    """Logarithm of mine over theirs under each setting [N], of time and of energy."""
    count = len(next(iter(settings.values()), np.zeros(1)))
    (my_s, my_j), (their_s, their_j) = (side.sample(settings, count) for side in sides)
    return {"time": np.log(my_s / their_s), "energy": np.log(my_j / their_j)}


def _turn(sides: tuple[_Side, _Side], number: DeviceNumber, quantity: Quantity) -> float | None:
    """The value nearest to the number's own, in its interval, at which the order has changed."""
    turns = [_turn_towards(sides, number, quantity, end) for end in (number.low, number.high)]
    found = [turn for turn in turns if turn is not None]
    return min(found, key=lambda turn: abs(np.log(turn / number.value)), default=None)


def _turn_towards(
    sides: tuple[_Side, _Side], number: DeviceNumber, quantity: Quantity, end: float
) -> float | None:
    near, far = number.value, end
    for _ in range(2):
        values = np.geomspace(near, far, _GRID)
        settings = {(number.device, number.path): values}
        log_ratio = _log_ratios(sides, settings)[quantity]
        if near == number.value:
            sign = np.sign(log_ratio[0])
        turned = np.flatnonzero(np.sign(log_ratio) * sign < 0)
        if not len(turned):
            return None
        near, far = float(values[turned[0] - 1]), float(values[turned[0]])
    return _rounded_away(far, number.value)


def _rounded_away(turn: float, value: float) -> float:
    """Three digits, on the far side of the turn."""
    unit = 10.0 ** (np.floor(np.log10(turn)) + 1 - _DIGITS)
    rounded = (np.floor if turn < value else np.ceil)(turn / unit) * unit
    return float(f"{rounded:.{_DIGITS}g}")
