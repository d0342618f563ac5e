"""How many adaptation sessions one charge of a cell pays for.

The whole nominal energy of the cell goes into sessions: no converter loss, no idle draw, no
acquisition of the samples, as BioTrain counts (arXiv 2604.13359: 320 mAh at 3.7 V).
"""

import re
from dataclasses import dataclass
from typing import Any

from explorer.errors import SpecError
from explorer.units import MILLI

SECONDS_PER_HOUR = 3600
COUNTED = "nominal energy of the cell over the energy of a session; nothing else draws from it"
_CELL = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(m?)Ah@(\d+(?:\.\d+)?|\.\d+)V")
_LARGEST = 1e6  # ampere-hours or volts


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """A cell by its nominal energy; `label` is what it was asked by."""

    label: str
    energy_j: float

    @classmethod
    def of(cls, text: str) -> "Battery":
        """From `320mAh@3.7V` or `0.32Ah@3.7V`; SpecError says so."""
        charge_ah, volts = charge_and_voltage(text)
        return cls(label=text, energy_j=charge_ah * SECONDS_PER_HOUR * volts)

    def sessions(self, session_energy_j: float) -> float | None:
        """Sessions of so much energy in one charge; None when a session takes none."""
        return self.energy_j / session_energy_j if session_energy_j > 0 else None

    def to_dict(self, session_energy_j: float) -> dict[str, Any]:
        """As in the JSON surface."""
        return {
            "cell": self.label,
            "energy_j": self.energy_j,
            "sessions_per_charge": self.sessions(session_energy_j),
        }


def charge_and_voltage(text: str) -> tuple[float, float]:
    """Ampere-hours and volts of `320mAh@3.7V` or `0.32Ah@3.7V`; SpecError says so."""
    found = _CELL.fullmatch(str(text))
    numbers = (float(found[1]), float(found[3])) if found else (0.0, 0.0)
    if not found or not all(0 < number <= _LARGEST for number in numbers):
        raise SpecError.of("battery", text, "charge and voltage, such as 320mAh@3.7V")
    return numbers[0] * (MILLI if found[2] else 1.0), numbers[1]
