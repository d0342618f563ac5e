"""Which profile predicts a row: the shipped one where there is one, else one of `devices/`."""

import re
from functools import cache

from golden.device_table import FOLDER, THREADED, Measurement

from explorer.device import DeviceProfile, load_device

SHIPPED = {
    "GAP9": "gap9",
    "STM32F746": "stm32f746",
    "STM32H743": "stm32h743",
    "STM32H7A3": "stm32h7a3",
    "Raspberry Pi Zero 2 W": "pi-zero-2w",
    "Raspberry Pi 5": "pi-zero-2w",
    "Jetson Nano GPU": "jetson-nano",
}
EXTRA = {
    "STM32L4R5": "stm32l4r5",
    "STM32U575": "stm32u575",
    "STM32N6": "stm32n6-npu",
    "Raspberry Pi Zero 2 W": "pi-zero-2w",
    "Raspberry Pi 3B+": "pi-3b-plus",
    "Orange Pi Zero 2 H616": "h616",
    "NanoPi R2S RK3328": "rk3328",
    "Jetson Nano CPU": "jetson-nano-cpu",
}


def profile_of(row: Measurement) -> tuple[DeviceProfile, bool]:
    """The profile that predicts a row, and whether it ships with the package as it is."""
    board = re.sub(r" \(.*", "", row.board)
    one_thread = row.cores == 1 and board in THREADED
    if board == "GAP9" and row.phase == "inference":
        return _extra(f"gap9-ne16-{row.clock_hz / 1e6:.0f}"), False
    if board == "Raspberry Pi Zero 2 W" and not row.phase:
        shipped = load_device("pi-zero-2w")
        if (row.clock_hz, row.cores) == (shipped.clock_hz, shipped.active_cores):
            return shipped, True
        return _pi_at(row.clock_hz, row.cores), False
    if board == "STM32H747":
        return _at_clock(load_device("stm32h743"), row.clock_hz), False
    if board in SHIPPED and not one_thread:
        return load_device(SHIPPED[board]), True
    return _extra(f"{EXTRA[board]}-1t" if one_thread else EXTRA[board]), False


@cache
def _extra(name: str) -> DeviceProfile:
    return load_device(str(FOLDER / "devices" / f"{name}.toml"))


def _at_clock(profile: DeviceProfile, clock_hz: float) -> DeviceProfile:
    """A microcontroller at another clock, its weight stream with it."""
    ratio = clock_hz / profile.clock_hz
    kernels = {
        precision: rates.model_copy(update={"weight_bytes_per_s": rates.weight_bytes_per_s * ratio})
        for precision, rates in profile.kernels.items()
    }
    update = {"name": f"{profile.name} at {clock_hz / 1e6:.0f} MHz", "clock_hz": clock_hz}
    return profile.model_copy(update={**update, "kernels": kernels})


def _pi_at(clock_hz: float, cores: int) -> DeviceProfile:
    """Board power by the formula that the shipped profile quotes for 1 GHz and four cores."""
    profile, ghz = load_device("pi-zero-2w"), clock_hz / 1e9
    watts = 1e-3 * (775 + 628 * ghz + 235 * cores * ghz)
    rates = profile.kernels["fp32"].model_copy(update={"active_power_w": watts})
    return profile.model_copy(
        update={"name": f"{profile.name}, power formula", "kernels": {"fp32": rates}}
    )
