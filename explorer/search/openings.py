"""Genes a user may open beside what trains: the setup of a step, and adapters.

`micro-batch` takes the divisors of the batch, `norm`, `optimizer`, `precision`, `recompute`
and `update` their words, each or those that are named, as in `norm=gn/frozen-bn`. `adapters`
counts lite-residual adapters from the output, so that TinyTL, AdapterDrop, bias-only and
mixes of them with trained layers lie in one space. A proxy score sees what trains of the
network and nothing of these genes: of equal policies the cheaper setup is on the front.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from explorer.adapters import adapter_blocks
from explorer.design import OPTIMIZERS, RECOMPUTES, UPDATE_TIMINGS
from explorer.device import DeviceProfile
from explorer.errors import SpecError
from explorer.graph import NORMS, ModelGraph

Value = str | int

ADAPTERS = "adapters"
SETUP_FIELDS = {
    "micro-batch": "micro_batch",
    "norm": "norm",
    "optimizer": "optimizer",
    "precision": "precision",
    "recompute": "recompute",
    "update": "update_timing",
}
GENES = (*SETUP_FIELDS, ADAPTERS)
MOST_SETUPS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A gene whose number is the index of one of `values`."""

    name: str
    values: tuple[Value, ...]


def openings_of(
    specs: Sequence[str], graph: ModelGraph, device: DeviceProfile, batch: int
) -> tuple[Opening, ...]:
    """Genes from `name` or `name=value/value`; SpecError says what is allowed here."""
    known: dict[str, tuple[Value, ...]] = {
        "micro-batch": tuple(size for size in range(1, batch + 1) if batch % size == 0),
        "norm": NORMS,
        "optimizer": OPTIMIZERS,
        "precision": tuple(device.kernels),
        "recompute": RECOMPUTES,
        "update": UPDATE_TIMINGS,
        ADAPTERS: tuple(range(len(adapter_blocks(graph)) + 1)),
    }
    found = [_opening(spec, known) for spec in specs]
    if len({opening.name for opening in found}) != len(found):
        raise SpecError.of("genes", tuple(specs), "every gene once")
    if len(setups_of(found)) > MOST_SETUPS:
        raise SpecError.of("genes", tuple(specs), f"at most {MOST_SETUPS} setups together")
    return tuple(found)


def setups_of(openings: Sequence[Opening]) -> list[dict[str, Any]]:
    """What every combination of the opened setup genes changes, the last gene fastest."""
    opened = [opening for opening in openings if opening.name in SETUP_FIELDS]
    fields = [SETUP_FIELDS[opening.name] for opening in opened]
    combinations = product(*(opening.values for opening in opened))
    return [dict(zip(fields, values, strict=True)) for values in combinations]


def _opening(spec: str, known: dict[str, tuple[Value, ...]]) -> Opening:
    name, equals, text = spec.partition("=")
    if name not in known:
        raise SpecError.of("genes", spec, ", ".join(known))
    if not equals:
        return Opening(name=name, values=known[name])
    words = {str(value): value for value in known[name]}
    given = text.split("/")
    if not all(word in words for word in given) or len(set(given)) != len(given):
        raise SpecError.of(f"gene {name}", text, f"{'/'.join(words)}, or some of them")
    return Opening(name=name, values=tuple(words[word] for word in given))
