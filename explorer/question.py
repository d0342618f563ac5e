"""A question: one network on one device under one setup, and how to change it.

Frozen: every change is a new question. A session (session.py) is a question with answers.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

from explorer.accuracy.scores import ScoreTable
from explorer.accuracy.tasks import check_task
from explorer.costmodel.adaptation import SAMPLES, Plan
from explorer.costmodel.battery import Battery
from explorer.costmodel.conventions import ACCOUNTINGS
from explorer.design import DesignBatch, TrainingSetup
from explorer.device import LARGEST_BYTES, DeviceProfile
from explorer.errors import SpecError, check_whole
from explorer.family import PolicyContext
from explorer.graph import ModelGraph, normalised
from explorer.search.openings import Opening, openings_of, setups_of
from explorer.search.quantities import (
    DEFAULT_OBJECTIVES,
    MEMORY_OBJECTIVES,
    check_limits,
    check_objectives,
)
from explorer.search.sources import (
    device_profile,
    model_graph,
    model_task,
    policy_context,
    score_table,
)

DEFAULT_POLICY = "default"


@dataclass(frozen=True)
class Question:
    """What is asked about, and under which setup.

    `model` may be a path to a network JSON, `device` to a TOML, `policy` a spec or a path to a
    policy JSON or to a tiny-training YAML, `task` a folder whose subfolders are classes of
    images. `task`, `norm`, `precision` None mean the model's task (a path has none), the
    network's own norm, the device's precision; the
    policy `default` is a published scheme where there is one. `reserve_bytes` of RAM and
    `flash_reserve_bytes` of flash belong to the application. An adaptation is `steps` weight
    updates over `samples` kept samples; None means 40 passes over them, rounded up to whole
    steps. `memory_objective` says what a search makes small: the peak, or what training needs
    above inference; `objectives` and `limits` (`energy=5mJ`) are words of
    explorer.search.quantities, `genes` open more of a search (explorer.search.openings).
    `battery` is a cell such as `320mAh@3.7V`, whose sessions per charge the cost then tells.
    """

    model: str = "mcunet-5fps"
    device: str = "gap9"
    task: str | None = None
    batch: int = 1
    micro_batch: int | None = None
    norm: str | None = None
    optimizer: str = "sgd"
    precision: str | None = None
    policy: str = DEFAULT_POLICY
    accounting: str = "device"
    reserve_bytes: int = 0
    flash_reserve_bytes: int = 0
    memory_limit_bytes: int | None = None
    steps: int | None = None
    samples: int = SAMPLES
    update_timing: str = "fused"
    recompute: str = "none"
    memory_objective: str = "peak"
    battery: str | None = None
    objectives: tuple[str, ...] = DEFAULT_OBJECTIVES
    limits: tuple[str, ...] = ()
    genes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in ("model", "device", "policy"):
            if not isinstance(getattr(self, field), str):
                raise SpecError.of(field, getattr(self, field), "a name or a path, as text")
        for field in ("task", "norm", "precision"):
            if not isinstance(getattr(self, field), str | None):
                raise SpecError.of(field, getattr(self, field), "a name as text, or None")
        if self.accounting not in ACCOUNTINGS:
            raise SpecError.of("accounting", self.accounting, ", ".join(ACCOUNTINGS))
        if self.memory_objective not in tuple(MEMORY_OBJECTIVES):
            allowed = ", ".join(MEMORY_OBJECTIVES)
            raise SpecError.of("memory_objective", self.memory_objective, allowed)
        for field in ("objectives", "limits", "genes"):
            object.__setattr__(self, field, _words(field, getattr(self, field)))
        check_objectives(self.objectives)
        check_limits(self.limits)
        check_whole("reserve_bytes", self.reserve_bytes, 0, LARGEST_BYTES)
        check_whole("flash_reserve_bytes", self.flash_reserve_bytes, 0, LARGEST_BYTES)
        if self.memory_limit_bytes is not None:
            check_whole("memory_limit_bytes", self.memory_limit_bytes, 1, LARGEST_BYTES)
        model_graph(self.model)
        self._setup()
        self._plan()
        if self.battery is not None:
            Battery.of(self.battery)
        if self.genes:
            self._setups()
        if self.task is not None:
            check_task(self.task)

    def __getstate__(self) -> dict[str, Any]:
        """Only the question travels; what was worked out is worked out again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def with_device(self, device: str) -> Self:
        """Another device, in its own precision if it does not have the chosen one."""
        if self.precision is not None and self.precision not in device_profile(device).kernels:
            return replace(self, device=device, precision=None)
        return replace(self, device=device)

    def with_task(self, task: str | None) -> Self:
        """Another task; None for the model's own."""
        return replace(self, task=task)

    def with_batch(self, batch: int, micro_batch: int | None = None) -> Self:
        """Another effective batch, split into micro-batches that divide it."""
        return replace(self, batch=batch, micro_batch=micro_batch)

    def with_norm(self, norm: str | None) -> Self:
        """Another normalisation; None for the network's own."""
        return replace(self, norm=norm)

    def with_optimizer(self, optimizer: str) -> Self:
        """Another optimizer."""
        return replace(self, optimizer=optimizer)

    def with_update_timing(self, update_timing: str) -> Self:
        """Updates at once (fused) or at the end of the step (deferred, as accumulation is)."""
        return replace(self, update_timing=update_timing)

    def with_recompute(self, recompute: str) -> Self:
        """Keep what backward needs (none), or run blocks again in backward (blocks)."""
        return replace(self, recompute=recompute)

    def with_memory_objective(self, memory_objective: str) -> Self:
        """What a search makes small: peak, or above-inference."""
        return replace(self, memory_objective=memory_objective)

    def with_objectives(self, objectives: Sequence[str], limits: Sequence[str] = ()) -> Self:
        """What a search makes good at once, and bounds on any quantity, as `energy=5mJ`."""
        return replace(self, objectives=tuple(objectives), limits=tuple(limits))

    def with_genes(self, genes: Sequence[str]) -> Self:
        """What a search may change beside what trains, as `micro-batch` or `norm=gn/bn`."""
        return replace(self, genes=tuple(genes))

    def with_precision(self, precision: str | None) -> Self:
        """Another precision; None for the device's own."""
        return replace(self, precision=precision)

    def with_limits(
        self,
        reserve_bytes: int = 0,
        memory_limit_bytes: int | None = None,
        flash_reserve_bytes: int = 0,
    ) -> Self:
        """RAM and flash the application keeps, and a limit on peak RAM in searches."""
        return replace(
            self,
            reserve_bytes=reserve_bytes,
            memory_limit_bytes=memory_limit_bytes,
            flash_reserve_bytes=flash_reserve_bytes,
        )

    @property
    def task_name(self) -> str:
        """The task in force."""
        return self.task or model_task(self.model)

    @cached_property
    def graph(self) -> ModelGraph:
        """The network, in the chosen normalisation."""
        return normalised(model_graph(self.model), self.norm)

    @property
    def profile(self) -> DeviceProfile:
        """The device, without the flash that the application keeps."""
        return device_profile(self.device).without_flash(self.flash_reserve_bytes)

    @cached_property
    def scores(self) -> ScoreTable | None:
        """Channel scores of this network on this task, where someone made them."""
        return score_table(self.graph, self.task_name)

    @property
    def predicts(self) -> bool:
        """Whether accuracy may be the score: no proxy is insisted on, and no other norm is open."""
        words = {*self.objectives, *(text.partition("=")[0] for text in self.limits)}
        return "proxy" not in words and all(one.name != "norm" for one in self._openings)

    def _with_setup(self, setup: TrainingSetup) -> Self:
        known = setup.precision in self.profile.kernels
        return replace(
            self,
            batch=setup.effective_batch,
            micro_batch=setup.micro_batch,
            optimizer=setup.optimizer,
            norm=setup.norm,
            precision=setup.precision if known else None,
            update_timing=setup.update_timing,
            recompute=setup.recompute,
        )

    def _asked(self) -> dict[str, object]:
        """What makes two searches the same question, beside device and score."""
        kept = ("reserve_bytes", "flash_reserve_bytes", "memory_limit_bytes", "memory_objective")
        return {
            "model": f"{self.graph.name} ({self.graph.digest})",
            "task": self.task_name,
            **asdict(self._setup()),
            **{name: getattr(self, name) for name in kept},
            **{name: list(getattr(self, name)) for name in ("objectives", "limits", "genes")},
        }

    def _setup(self) -> TrainingSetup:
        profile = self.profile
        precision = self.precision or profile.default_precision
        profile.kernels_for(precision)
        rest = {
            "optimizer": self.optimizer,
            "precision": precision,
            "update_timing": self.update_timing,
            "recompute": self.recompute,
        }
        if self.norm is not None:
            rest["norm"] = self.norm
        return TrainingSetup.of_batch(self.batch, self.micro_batch, **rest)

    def _network(self, designs: DesignBatch) -> ModelGraph:
        """The network in the norm of a batch of one."""
        return normalised(model_graph(self.model), designs.setup.norm)

    @cached_property
    def _context(self) -> PolicyContext:
        return self._context_of(self.scores)

    def _context_of(self, scores: ScoreTable | None) -> PolicyContext:
        reserve_bytes = self.reserve_bytes
        return policy_context(self.graph, self.profile, self._setup(), scores, reserve_bytes)

    @cached_property
    def _openings(self) -> tuple[Opening, ...]:
        return openings_of(self.genes, self.graph, self.profile, self.batch)

    def _setups(self) -> tuple[TrainingSetup, ...]:
        """Setups of the opened genes; a batch norm takes the whole batch, as it must."""
        own_norm = model_graph(self.model).norm
        found = []
        for changes in setups_of(self._openings):
            changed = replace(self, genes=(), policy="none", **changes)
            if "micro_batch" in changes and (changed.norm or own_norm) == "bn":
                changed = replace(changed, micro_batch=None)
            found.append(changed._setup())
        return tuple(found)

    def _plan(self) -> Plan:
        return Plan(steps=self.steps, samples=self.samples)


def _words(field: str, given: Sequence[str]) -> tuple[str, ...]:
    """A list of words as a tuple; SpecError on a single text."""
    if isinstance(given, str) or not all(isinstance(word, str) for word in given):
        raise SpecError.of(field, given, "a list of texts")
    return tuple(given)


def is_file(policy: str) -> bool:
    """Whether a policy is a path to a document or a tiny-training YAML, not a spec."""
    return policy.endswith((".json", ".yaml", ".yml"))
