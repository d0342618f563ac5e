"""What the cost model answers: columns over designs, and one design in full.

No formulas; `evaluate` fills these.
"""

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.costmodel.battery import COUNTED, Battery
from explorer.design import DesignBatch
from explorer.units import (
    BoolArray,
    FloatArray,
    IntArray,
    format_bytes,
    format_count,
    format_joules,
    format_seconds,
)

if TYPE_CHECKING:
    import pandas as pd

COST_MODEL_VERSION = 2

MACS_COLUMNS = (
    "forward_macs",
    "input_grad_macs",
    "weight_grad_macs",
    "recompute_macs",
    "per_pass_macs",
)
MEMORY_COLUMNS = (
    "weight_bytes",
    "saved_activation_bytes",
    "gradient_bytes",
    "optimizer_bytes",
    "workspace_bytes",
    "peak_live_bytes",
    "training_extra_bytes",
    "arena_bytes",
    "flash_bytes",
)


@dataclass(frozen=True, eq=False, kw_only=True)
class CostReport:
    """Costs of P designs on one device, columns [P].

    MACs are per sample, but `per_pass_macs` once a micro-batch whatever its size; memory is for
    one micro-batch, a step is one weight update.
    `arena_bytes` is nan until placed.
    """

    designs: DesignBatch
    forward_macs: FloatArray
    input_grad_macs: FloatArray
    weight_grad_macs: FloatArray
    recompute_macs: FloatArray
    per_pass_macs: FloatArray
    weight_bytes: FloatArray
    saved_activation_bytes: FloatArray
    gradient_bytes: FloatArray
    optimizer_bytes: FloatArray
    workspace_bytes: FloatArray
    peak_live_bytes: FloatArray
    training_extra_bytes: FloatArray
    arena_bytes: FloatArray
    flash_bytes: FloatArray
    step_time_s: FloatArray
    step_energy_j: FloatArray
    trained_parameter_count: FloatArray

    def __len__(self) -> int:
        return len(self.designs)

    @property
    def training_macs(self) -> FloatArray:
        """Everything a sample's step multiplies [P]: forward, backward and run again."""
        total: FloatArray = np.sum([getattr(self, name) for name in MACS_COLUMNS], axis=0)
        return total

    def take(self, rows: IntArray | BoolArray) -> "CostReport":
        """The rows of an index or mask."""
        index = np.flatnonzero(rows) if rows.dtype == bool else rows
        columns = {name: getattr(self, name)[index] for name in self.columns()}
        return replace(self, designs=self.designs.take(index), **columns)

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """Names of the numeric columns."""
        timing = ("step_time_s", "step_energy_j", "trained_parameter_count")
        return (*MACS_COLUMNS, *MEMORY_COLUMNS, *timing)

    def to_frame(self) -> "pd.DataFrame":
        """One row a design, units in the column names."""
        import pandas as pd

        columns = {name: getattr(self, name) for name in self.columns()}
        return pd.DataFrame(
            {"policy": self.designs.families, **columns} | self.designs.setup_columns()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Whether a memory level is large enough. `usable_bytes` is what the reserve leaves."""

    level: str
    needed_bytes: float
    usable_bytes: float

    @property
    def fits(self) -> bool:
        """Not a byte over."""
        return self.needed_bytes <= self.usable_bytes

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON surface."""
        return {
            "level": self.level,
            "needed_bytes": _plain(self.needed_bytes),
            "usable_bytes": _plain(self.usable_bytes),
            "fits": self.fits,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Provenance of one number: its kind, its interval and who says so.

    The interval of a time or an energy holds 90 % of the draws of the device's numbers, that
    of a memory limit is one standard deviation to either side.
    """

    kind: str
    low: float | None
    high: float | None
    source: str

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON surface."""
        return {"kind": self.kind, "low": self.low, "high": self.high, "source": self.source}


@dataclass(frozen=True, eq=False, kw_only=True)
class Cost:
    """One design in full. `layer_rows` has one entry per operator, sums equal the totals."""

    model: str
    device: str
    policy: str
    setup: dict[str, Any]
    accounting: str
    macs: dict[str, float]
    memory: dict[str, float]
    fits: tuple[Fit, ...]
    step_time_s: float
    step_energy_j: float
    batch: int
    trained_parameters: int
    session: dict[str, Any]
    provenance: dict[str, Estimate]
    layer_rows: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...] = ()
    battery: Battery | None = None

    @property
    def fits_all(self) -> bool:
        """Every memory level is large enough."""
        return all(fit.fits for fit in self.fits)

    @property
    def layers(self) -> "pd.DataFrame":
        """Per operator: what trains and what it costs."""
        import pandas as pd

        return pd.DataFrame(list(self.layer_rows))

    def to_dict(self, *, layers: bool = False) -> dict[str, Any]:
        """The JSON surface of `explorer cost`."""
        data: dict[str, Any] = {
            "model": self.model,
            "device": self.device,
            "policy": self.policy,
            "setup": self.setup,
            "accounting": self.accounting,
            "macs": {name: _plain(value) for name, value in self.macs.items()},
            "memory": {name: _plain(value) for name, value in self.memory.items()},
            "fits": [fit.to_dict() for fit in self.fits],
            "step": {"time_s": self.step_time_s, "energy_j": self.step_energy_j},
            "sample": {
                "time_s": self.step_time_s / self.batch,
                "energy_j": self.step_energy_j / self.batch,
            },
            "trained_parameters": self.trained_parameters,
            "session": self.session,
            "provenance": {path: entry.to_dict() for path, entry in self.provenance.items()},
            "warnings": list(self.warnings),
        }
        if self.battery is not None:
            data["battery"] = self.battery.to_dict(self.session["energy_j"])
        if layers:
            data["layers"] = [
                {name: _plain(value) for name, value in row.items()} for row in self.layer_rows
            ]
        return data

    def to_json(self, *, layers: bool = False) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(layers=layers), indent=2)

    def summary(self) -> list[tuple[str, str]]:
        """Label and value of what an engineer asks first, in order."""
        chosen_s = self.session["selection_time_s"]
        choosing = f", {format_seconds(chosen_s)} of it to choose channels" if chosen_s else ""
        steps = self.session["steps"]
        fit_lines = []
        for fit in self.fits:
            over = fit.needed_bytes - fit.usable_bytes
            verdict = "fits" if fit.fits else f"does not fit, {format_bytes(over)} over"
            need, usable = format_bytes(fit.needed_bytes), format_bytes(fit.usable_bytes)
            fit_lines.append((fit.level, f"{need} of {usable}: {verdict}"))
        counted = f"peak as {self.accounting} counts it"
        return [
            *fit_lines,
            *(
                [(counted, format_bytes(self.memory["peak_live_bytes"]))]
                if self.accounting != "device"
                else []
            ),
            ("above inference", format_bytes(self.memory["training_extra_bytes"])),
            ("trained parameters", f"{self.trained_parameters:,}"),
            ("forward", f"{format_count(self.macs['forward'])} MACs"),
            (
                "backward",
                f"{format_count(self.macs['input_grad'] + self.macs['weight_grad'])} MACs",
            ),
            *(
                [("run again", f"{format_count(self.macs['recompute'])} MACs")]
                if self.macs["recompute"]
                else []
            ),
            *(
                [("once a micro-batch", f"{format_count(self.macs['per_pass'])} MACs")]
                if self.macs["per_pass"]
                else []
            ),
            ("time of a step", format_seconds(self.step_time_s)),
            ("energy of a step", format_joules(self.step_energy_j)),
            (
                f"a session of {steps:,} step{'s' * (steps != 1)}",
                f"{format_seconds(self.session['time_s'])}{choosing}, "
                f"{format_joules(self.session['energy_j'])}, "
                f"{format_bytes(self.session['sample_bytes'])} of samples",
            ),
            *self._charge_line(),
        ]

    def with_battery(self, battery: Battery) -> "Cost":
        """The same, with how many sessions one charge pays for."""
        spent = self.provenance["session.energy_j"]
        low, high = (battery.sessions(bound or 0.0) for bound in (spent.high, spent.low))
        sessions = Estimate(kind=spent.kind, low=low, high=high, source=COUNTED)
        provenance = self.provenance | {"battery.sessions_per_charge": sessions}
        return replace(self, battery=battery, provenance=provenance)

    def _charge_line(self) -> list[tuple[str, str]]:
        if self.battery is None:
            return []
        sessions = self.battery.sessions(self.session["energy_j"])
        text = "nothing is spent" if sessions is None else f"{sessions:,.1f}"
        return [(f"sessions a charge of {self.battery.label}", text)]

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{k}</td><td>{v}</td></tr>" for k, v in self.summary())
        return f"<table>{rows}</table>"


def _plain(value: Any) -> Any:
    """Whole numbers as int, nan as None, everything else as it is."""
    if isinstance(value, float | np.floating):
        if not np.isfinite(value):
            return None
        return int(value) if float(value).is_integer() else float(value)
    return value
