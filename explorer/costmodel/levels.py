"""The level under the data level: external RAM or swap that takes what does not fit.

The excess of the peak over the data level is written and read once in every micro-batch
pass while the processor waits. That is linear in the excess and knows no access pattern.
"""

import numpy as np

from explorer.design import TrainingSetup
from explorer.device import DeviceProfile
from explorer.units import FloatArray, format_bytes

ROUND_TRIP = 2  # out and back


def overflow_bytes(device: DeviceProfile, peak_bytes: FloatArray) -> FloatArray:
    """Bytes above what the data level holds [P]; 0 where the device has no overflow level.

    The application's reserve is not in it: an idle application is what moves out first.
    """
    if device.level("overflow") is None:
        return np.zeros_like(peak_bytes)
    return np.maximum(peak_bytes - device.ram.usable_bytes, 0.0)


def overflow_seconds(
    device: DeviceProfile, setup: TrainingSetup, peak_bytes: FloatArray
) -> FloatArray:
    """Seconds of a step spent waiting for the overflow level [P]."""
    level = device.level("overflow")
    if level is None or level.bytes_per_s is None:
        return np.zeros_like(peak_bytes)
    moved = ROUND_TRIP * overflow_bytes(device, peak_bytes) * setup.accumulation_steps
    return moved / level.bytes_per_s


def overflow_joules(device: DeviceProfile, wait_s: FloatArray) -> FloatArray:
    """Energy of that waiting [P]."""
    level = device.level("overflow")
    return wait_s * (level.wait_power_w if level and level.wait_power_w else 0.0)


def overflow_warning(
    device: DeviceProfile, peak_bytes: float, wait_s: float, step_time_s: float
) -> str:
    """What spilling over does to a step, in a sentence; empty where nothing spills."""
    over = float(overflow_bytes(device, np.array([peak_bytes]))[0])
    level = device.level("overflow")
    if level is None or not over:
        return ""
    head = f"{format_bytes(over)} over {device.ram.name}"
    if over > level.usable_bytes:
        room = format_bytes(level.usable_bytes)
        return f"{head}, more than the {room} of {level.name}: does not run"
    more = wait_s / (step_time_s - wait_s)
    longer = f"{1 + more:.2g} times as long" if more > 0.5 else f"{more:.1%} longer"
    return f"{head}: runs from {level.name}, steps take {longer}"
