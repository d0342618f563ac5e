"""Golden rows: what a paper printed, and what the cost model says of the same design."""

import tomllib
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np
from golden.biotrain import QUANTITIES

from explorer.costmodel.tables import layer_table
from explorer.session import Session

FOLDER = Path(__file__).parent
FILES = (
    *("networks", "tinytrain", "sparse_update", "engine", "biotrain"),
    *("mutraining", "mutraining_counts"),
)
WEIGHTS = "weights in RAM"
UNITS = {
    "MiB": 2**20,
    "KiB": 2**10,
    "MB": 1e6,
    "M": 1e6,
    "k": 1e3,
    "ms": 1e-3,
    "mJ": 1e-3,
    "a second": 1,
    "times": 1,
    "1": 1,
}


@dataclass(frozen=True)
class Golden:
    """One row with our value in the unit it was printed in."""

    name: str
    model: str
    policy: str
    quantity: str
    published: str
    unit: str
    value: float
    met: bool
    missed: str

    @property
    def ratio(self) -> float:
        published = float(self.published)
        if not published:
            return inf if self.value else 1.0
        return self.value / published


def golden_rows() -> list[Golden]:
    return [row for name in FILES for row in _rows(name)]


def _rows(name: str) -> list[Golden]:
    table = tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8"))
    return [_reproduce(name, row, table) for row in table["row"]]


def _reproduce(name: str, row: dict, table: dict) -> Golden:
    policy = row.get("policy", "none")
    session = Session(
        model=row["model"],
        device=table.get("device", "gap9"),
        policy=policy,
        batch=row.get("batch"),
        accounting=row.get("accounting", table.get("accounting", "device")),
        update_timing=row.get("update_timing"),
    )
    unit = row.get("unit", "1")
    value = _value(session, row) / UNITS[unit]
    if "against" in row:
        value /= _value(session.with_policy(row["against"]), row)
    published = str(row["published"])
    return Golden(
        name=name,
        model=row["model"],
        policy=", ".join(filter(None, (policy, row.get("update_timing"), _against(row)))),
        quantity=row["quantity"],
        published=published,
        unit=unit,
        value=value,
        met=_agrees(value, published, row),
        missed=row.get("missed", ""),
    )


def _against(row: dict) -> str:
    return f"against {row['against']}" if "against" in row else ""


def _value(session: Session, row: dict) -> float:
    quantity = row["quantity"]
    if quantity in QUANTITIES:
        return QUANTITIES[quantity](session, row)
    if quantity == "backward_macs":
        macs = session.cost().macs
        return macs["input_grad"] + macs["weight_grad"]
    if quantity == "sample_macs":
        macs = session.cost().macs
        return sum(macs.values()) - macs["per_pass"]
    if quantity == "per_pass_macs":
        return session.cost().macs["per_pass"]
    if quantity in ("peak_live_bytes", "saved_activation_bytes"):
        return session.cost().memory[quantity]
    if quantity == "trained_parameters":
        return session.cost().trained_parameters
    if quantity == "stored_parameters":
        return session.cost().trained_parameters + _trained_constants(session)
    if quantity == "tensor_sram_bytes":
        return _tensor_sram_bytes(session, row.get("mask_bits", 1))
    return float(getattr(layer_table(session.graph), quantity).sum())


def _trained_constants(session: Session) -> int:
    """Entries of the constant masks of layers that train."""
    graph, policy = session.graph, session.chosen_policy
    trained = zip(policy.layer_names, policy.slices, strict=True)
    return sum(graph.mask_elements(graph[name]) for name, taken in trained if taken)


def _tensor_sram_bytes(session: Session, mask_bits: int) -> float:
    """The highest sum of buffers alive, without weights, masks `mask_bits` an element."""
    memory = session.memory_map()
    live = np.zeros(len(memory.step_labels))
    for buffer, _ in memory.placed:
        if buffer.label != WEIGHTS:
            scale = mask_bits if buffer.form == "mask" else 1
            live[buffer.birth : buffer.death] += scale * buffer.size_bytes
    return float(live.max())


def _agrees(value: float, published: str, row: dict) -> bool:
    """Equal to the digits printed, or within the tolerance a row states."""
    if "tolerance_ratio" in row:
        return abs(value / float(published) - 1) <= row["tolerance_ratio"]
    if row.get("rounding") == "floor":
        return int(value) == int(published)
    decimals = len(published.partition(".")[2])
    return abs(value - float(published)) <= 0.5 * 10**-decimals + 1e-9
