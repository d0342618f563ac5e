"""Candidates and fronts as documents."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from explorer.accuracy.metrics import METRIC_NAMES
from explorer.accuracy.scores import ScoreTable
from explorer.costmodel.detail import cost_of_row
from explorer.costmodel.report import COST_MODEL_VERSION, Cost
from explorer.design import Design
from explorer.device import DeviceProfile, read_text
from explorer.document import (
    SCHEMA_VERSION,
    Adapters,
    DistillationRecord,
    Document,
    LayerChoice,
    LayerChoices,
    MadeWith,
    Named,
    PolicyDocument,
    Quantity,
    SetupRecord,
    choices_of,
    parse_document,
)
from explorer.errors import SpecError
from explorer.front_parts import LimitRecord, ReadCost, RefinementRecord, finite_or_none
from explorer.graph import ModelGraph
from explorer.provenance import Kind
from explorer.search.candidates import CandidateTable, ParetoFront, Worth
from explorer.search.front import Objective
from explorer.search.picks import PICKS, choose
from explorer.search.problem import Problem
from explorer.search.quantities import ENERGY, PEAK, PROXY_SCORE

PREDICTED_BYTES = ("peak_live_bytes", "arena_bytes", "training_extra_bytes")


Bounded = Annotated[float, Field(ge=-1e100, le=1e100)]  # what follows from it stays finite


class PolicyRecord(Document):
    """What a candidate trains."""

    family: str
    layers: LayerChoices
    adapters: Adapters = ()
    distillation: DistillationRecord | None = None


class AccuracyRecord(Document):
    """Accuracy, another metric or proxy score of a candidate; `name` says which."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    kind: Literal["measured", "published", "modelled", "assumed"]


class ObjectiveRecord(Document):
    """An objective with what its hypervolume was computed by."""

    name: str
    unit: str
    sense: Literal["min", "max"]
    reference: Bounded
    scale: Annotated[float, Field(ge=1e-100, le=1e100)]


class CandidateRecord(Document):
    """One candidate; `cost` is shaped as `explorer cost --json` prints it.

    `feasible` says that it fits and is within the limits; older documents do not say. `model`
    is the network in the norm of `setup`, where that is not the front's.
    """

    policy: PolicyRecord
    setup: SetupRecord
    cost: ReadCost
    accuracy: AccuracyRecord
    objectives: dict[str, Bounded]
    on_front: bool
    feasible: bool | None = None
    model: Named | None = None

    @property
    def fits(self) -> bool:
        """Whether it fits and is within the limits, as far as is known."""
        if self.feasible is not None:
            return self.feasible
        return all(level["fits"] for level in self.cost["fits"])


class FrontDocument(Document):
    """The result of a search."""

    schema_version: Literal[1] = SCHEMA_VERSION
    model: Named
    device: Named
    task: str
    seed: int
    sampler: str
    versions: dict[str, str]
    objectives: tuple[ObjectiveRecord, ...]
    hypervolume: float
    exact_hypervolume_ratio: float | None = None
    limits: tuple[LimitRecord, ...] = ()
    notes: tuple[str, ...] = ()
    refinement: RefinementRecord | None = None
    candidates: Annotated[tuple[CandidateRecord, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _every_objective(self) -> "FrontDocument":
        names = {objective.name for objective in self.objectives}
        for index, candidate in enumerate(self.candidates):
            if set(candidate.objectives) != names:
                raise ValueError(f"candidates.{index}.objectives must be {sorted(names)}")
        if not any(candidate.on_front for candidate in self.candidates):
            raise ValueError("candidates: none is on_front, and at least one must be")
        if not self.versions.get("cost_model", "0").isdecimal():
            raise ValueError(f"versions.cost_model: got {self.versions['cost_model']!r}, no number")
        return self


def version() -> str:
    """Version of this package."""
    return metadata.version("ondevice-explorer")


def _named(graph: ModelGraph) -> Named:
    return Named(name=graph.name, digest=graph.digest)


def device_digest(device: DeviceProfile) -> str:
    """Twelve hexadecimal digits over a profile's content."""
    return hashlib.sha256(device.model_dump_json().encode()).hexdigest()[:12]


def policy_document(
    graph: ModelGraph,
    device: DeviceProfile,
    task: str | None,
    design: Design,
    cost: Cost,
    worth: Worth,
    scores: ScoreTable | None,
    procedure: str | None = None,
) -> PolicyDocument:
    """A design with its predictions. Channels are listed where a score table can tell them."""
    policy = design.policy
    unit = "1" if worth.is_merit else "share of full training"
    predicted = {
        worth.name: Quantity.model_validate(
            {
                "value": float(worth.value[0]),
                "unit": unit,
                "kind": Kind(int(worth.kind[0])).word,
                "low": finite_or_none(worth.low[0]),
                "high": finite_or_none(worth.high[0]),
            }
        )
    }
    entries = {path: entry.to_dict() for path, entry in cost.provenance.items()}
    predicted |= _predicted(cost.memory, cost.step_time_s, cost.step_energy_j, entries)
    return PolicyDocument(
        model=_named(graph),
        device=Named(name=device.name, digest=device_digest(device)),
        task=task,
        family=policy.family,
        procedure=procedure,
        setup=SetupRecord.of(design.setup),
        layers=with_channels(choices_of(policy), graph, scores),
        adapters=policy.adapters,
        distillation=DistillationRecord.of(policy.distillation),
        predicted=predicted,
        made_with=MadeWith(version=version(), cost_model_version=COST_MODEL_VERSION),
    )


def front_document(front: ParetoFront, problem: Problem, task: str) -> FrontDocument:
    """Every candidate of a search; members of the front have their arena placed."""
    table, moved = problem.settle(front.table), front.refinement
    return FrontDocument(
        model=_named(problem.graph),
        device=Named(name=problem.device.name, digest=device_digest(problem.device)),
        task=task,
        seed=front.seed,
        sampler=front.sampler,
        versions={
            "ondevice-explorer": version(),
            "cost_model": str(COST_MODEL_VERSION),
            "optuna": metadata.version("optuna"),
        },
        objectives=tuple(
            ObjectiveRecord.model_validate(
                {
                    name: getattr(objective, name)
                    for name in ("name", "unit", "sense", "reference", "scale")
                }
            )
            for objective in table.objectives
        ),
        hypervolume=table.hypervolume,
        exact_hypervolume_ratio=front.exact_hypervolume_ratio,
        limits=tuple(LimitRecord.model_validate(asdict(limit)) for limit in front.limits),
        notes=front.notes,
        refinement=None if moved is None else RefinementRecord.of(moved),
        candidates=tuple(_candidate(table, row, problem) for row in range(len(table))),
    )


def pick(front: FrontDocument, which: str) -> CandidateRecord:
    """A member by rule or by its index in `candidates`; SpecError says what is allowed."""
    return front.candidates[_picked(front, which)[0]]


def pick_reason(front: FrontDocument, which: str) -> str:
    """Why `pick` takes what it takes, in one sentence."""
    return _picked(front, which)[1]


def _picked(front: FrontDocument, which: str) -> tuple[int, str]:
    count = len(front.candidates)
    if which.isdecimal() and int(which) < count:
        return int(which), f"candidate {which} of {count}, by its index"
    if which not in PICKS:
        raise SpecError.of("pick", which, f"{', '.join(PICKS)}, or an index from 0 to {count - 1}")
    rows = [row for row, candidate in enumerate(front.candidates) if candidate.on_front]
    members = [front.candidates[row] for row in rows]
    names = [objective.name for objective in front.objectives]
    values = [[candidate.objectives[name] for name in names] for candidate in members]
    fits = np.array([candidate.fits for candidate in members], dtype=bool)
    objectives = tuple(Objective(**objective.model_dump()) for objective in front.objectives)
    others = {
        PEAK: np.array([candidate.cost["memory"][PEAK] for candidate in members]),
        ENERGY: np.array([candidate.cost["step"]["energy_j"] for candidate in members]),
        _score_name(members): np.array([candidate.accuracy.value for candidate in members]),
    }
    picked = choose(which, np.array(values), objectives, fits, others)
    return rows[picked.row], picked.reason


def _score_name(members: Sequence[CandidateRecord]) -> str:
    columns = {name: column for column, name in METRIC_NAMES.items()}
    found = {columns.get(candidate.accuracy.name, PROXY_SCORE) for candidate in members}
    return found.pop() if len(found) == 1 else PROXY_SCORE


def policy_of_candidate(
    front: FrontDocument,
    candidate: CandidateRecord,
    graph: ModelGraph,
    scores: ScoreTable | None,
) -> PolicyDocument:
    """A candidate as a document of its own, with what was predicted for it.

    SpecError when `graph` is not the front's network.
    """
    model = candidate.model or front.model
    if graph.digest != model.digest:
        raise SpecError(
            f"model: the front is for {model.name} ({model.digest}), which is now {graph.digest}"
        )
    cost = candidate.cost
    worth = candidate.accuracy
    predicted = {
        worth.name: Quantity(
            value=worth.value, unit="1", kind=worth.kind, low=worth.low, high=worth.high
        )
    }
    predicted |= _predicted(
        cost["memory"], cost["step"]["time_s"], cost["step"]["energy_j"], cost["provenance"]
    )
    return PolicyDocument(
        model=model,
        device=front.device,
        task=front.task,
        family=candidate.policy.family,
        setup=candidate.setup,
        layers=with_channels(candidate.policy.layers, graph, scores),
        adapters=candidate.policy.adapters,
        distillation=candidate.policy.distillation,
        predicted=predicted,
        made_with=MadeWith(
            version=front.versions.get("ondevice-explorer", version()),
            cost_model_version=int(front.versions.get("cost_model", COST_MODEL_VERSION)),
        ),
    )


def schema_kind(path: Path, text: str) -> str:
    """Which document a file claims to be.

    device (TOML), tiny-training (YAML), ledger (JSON lines), or in JSON network, front or policy.
    """
    if path.suffix == ".toml":
        return "device"
    if path.suffix == ".jsonl":
        return "ledger"
    if path.suffix in (".yaml", ".yml"):
        return "tiny-training"
    if '"input_shape"' in text:
        return "network"
    return "front" if '"candidates"' in text else "policy"


def load_front(path: str | Path) -> FrontDocument:
    """Read a front document; SpecError in one sentence when it is not one."""
    return parse_document(FrontDocument, read_text(Path(path)), str(path))


def _candidate(table: CandidateTable, row: int, problem: Problem) -> CandidateRecord:
    design = table.designs[row]
    network = problem.network(design.setup)
    cost = cost_of_row(network, problem.device, table.costs, row, problem.reserve_bytes)
    worth = table.worth
    return CandidateRecord(
        policy=PolicyRecord(
            family=table.labels[row] or design.policy.family,
            layers=choices_of(design.policy),
            adapters=design.policy.adapters,
            distillation=DistillationRecord.of(design.policy.distillation),
        ),
        setup=SetupRecord.of(design.setup),
        cost=cost.to_dict(),
        accuracy=AccuracyRecord.model_validate(
            {
                "name": worth.name,
                "value": float(worth.value[row]),
                "low": finite_or_none(worth.low[row]),
                "high": finite_or_none(worth.high[row]),
                "kind": table.score_kind[row].word,
            }
        ),
        objectives={
            objective.name: float(value)
            for objective, value in zip(table.objectives, table.values[row], strict=True)
        },
        on_front=bool(table.on_front[row]),
        feasible=bool(table.feasible[row]),
        model=_named(network) if network.digest != problem.graph.digest else None,
    )


def with_channels(
    layers: tuple[LayerChoice, ...], graph: ModelGraph, scores: ScoreTable | None
) -> tuple[LayerChoice, ...]:
    """List the channels a criterion chooses, where a score table can tell them.

    Whole layers and channels that are listed or simply the first stay as they are.
    """
    if scores is None:
        return layers
    listed = []
    for layer in layers:
        by_rule = isinstance(layer.channels, str) and layer.channels != "first"
        if by_rule and 0 < layer.slices < layer.slice_count:
            index = graph.weighted.index(layer.name)
            order = scores.order(index, str(layer.channels), layer.channel_axis)
            chosen = tuple(sorted(int(channel) for channel in order[: layer.slices]))
            layer = layer.model_copy(update={"channels": chosen})
        listed.append(layer)
    return tuple(listed)


def _predicted(
    memory: Mapping[str, float | None],
    time_s: float,
    energy_j: float,
    provenance: Mapping[str, Mapping[str, Any]],
) -> dict[str, Quantity]:
    """Predicted costs with the kind and interval their provenance states."""
    rows = [
        *((name, memory[name], "byte", "memory") for name in PREDICTED_BYTES),
        ("step_time_s", time_s, "s", "step.time_s"),
        ("step_energy_j", energy_j, "J", "step.energy_j"),
    ]
    return {
        name: Quantity.model_validate(
            {
                "value": value,
                "unit": unit,
                **{key: provenance[path][key] for key in ("kind", "low", "high")},
            }
        )
        for name, value, unit, path in rows
    }
