"""Quantities of BioTrain's tables: what the model says, or what follows from other figures there.

Operations are counted by one rule for all rows: two for a multiply-accumulate; two an element
of a norm, one of a ReLU and one of a pool's input, each twice again in backward. Quantities
that name "published" need a row's published figures and nothing of the model but the battery.
"""

from collections.abc import Callable
from math import prod

from explorer.costmodel.battery import Battery
from explorer.graph import NORM_OPS
from explorer.session import Session

CELL = Battery.of("320mAh@3.7V")
UPDATES = 40 * 200 // 8  # of one session: 40 epochs over 200 samples, eight an update
BASELINE = "biotrain-full-bn"
BACKWARD_ELEMENTS = 2  # times the forward element operations


def operations(session: Session, row: dict) -> float:
    macs = session.cost().macs
    backward = macs["input_grad"] > 0
    elements = _elements(session) * (1 + BACKWARD_ELEMENTS * backward)
    weighted = macs["forward"] + backward * (macs["input_grad"] + macs["weight_grad"])
    return session.batch * (2 * weighted + elements)


def _elements(session: Session) -> int:
    graph = session.graph
    norm = sum(layer.out_elements for layer in graph.layers if layer.op in NORM_OPS)
    relu = sum(layer.out_elements for layer in graph.layers if layer.op == "relu")
    pooled = sum(prod(graph.shape(layer.inputs[0])) for layer in graph.layers if "pool" in layer.op)
    return 2 * norm + relu + pooled


def batch_norm_ratio(session: Session, row: dict) -> float:
    """Activations and their gradients of the baseline over ours."""
    return _activations(session.with_policy(BASELINE)) / _activations(session)


def equal_batch_ratio(session: Session, row: dict) -> float:
    """The same with both at a micro-batch of eight."""
    whole = session.with_batch(session.batch, session.batch)
    return _activations(session.with_policy(BASELINE)) / _activations(whole)


def _activations(session: Session) -> float:
    memory = session.cost().memory
    return memory["saved_activation_bytes"] + memory["workspace_bytes"]


def _step_energy_j(session: Session, row: dict) -> float:
    return session.cost().step_energy_j


QUANTITIES: dict[str, Callable[[Session, dict], float]] = {
    "parameters": lambda session, row: session.graph.parameter_count,
    "trained parameters": lambda session, row: session.cost().trained_parameters,
    "operations of an update": operations,
    "samples, from the published latency": lambda session, row: (
        session.batch / (row["latency_ms"] * 1e-3)
    ),
    "energy of an update, from the published latency and power": lambda session, row: (
        row["latency_ms"] * 1e-3 * row["power_mw"] * 1e-3
    ),
    "sessions of a battery, from the published energy": lambda session, row: CELL.sessions(
        UPDATES * row["energy_mj"] * 1e-3
    ),
    "time of an update": lambda session, row: session.cost().step_time_s,
    "samples": lambda session, row: session.batch / session.cost().step_time_s,
    "energy of an update": _step_energy_j,
    "sessions of a battery": lambda session, row: CELL.sessions(
        UPDATES * _step_energy_j(session, row)
    ),
    "activations, batch norm over group norm": batch_norm_ratio,
    "activations, batch norm over group norm at equal batch": equal_batch_ratio,
}
