"""A question: one network on one device under one setup, and how to change it.

Frozen: every change is a new question. A session (session.py) is a question with answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Self

from explorer.accuracy.metrics import ACCURACY, METRICS, metric_column
from explorer.accuracy.scores import ScoreTable
from explorer.accuracy.tasks import check_task, task_metrics
from explorer.costmodel.adaptation import SAMPLES, Plan
from explorer.costmodel.battery import Battery
from explorer.costmodel.conventions import ACCOUNTINGS
from explorer.design import DesignBatch, TrainingSetup
from explorer.device import LARGEST_BYTES, DeviceProfile
from explorer.document import policy_file
from explorer.errors import SpecError, check_whole, is_whole
from explorer.family import PolicyContext, policy_setup
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
USUAL = {"batch": 1, "optimizer": "sgd", "update_timing": "fused", "recompute": "none"}
SETUP_FIELDS = (*USUAL, "micro_batch", "norm", "precision")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Fields of the setup that a person chose, and those that were in force with them."""

    own: tuple[tuple[str, Any], ...]
    in_force: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Question:
    """What is asked about, and under which setup.

    `model` may be a path to a network JSON, `device` to a TOML, `policy` a spec or a path to a
    policy JSON or to a tiny-training YAML, `task` a folder whose subfolders are classes of
    images, an .npz or a folder of signals, or code that returns either (`my_task.py:load`),
    which runs only to measure. `task` None means the model's own (a path has none); the policy
    `default` is a published scheme where there is one.

    A field of the setup that is None is not chosen: it is what the policy is published with (a
    family may bring a setup, a policy document always does), or else a batch of 1 at once, the
    network's own norm, sgd, the device's precision, fused, and no recompute; `usual` has other
    (field, value) pairs for that. Fields tell what is in force; `own_setup` and `brought_setup`
    tell why. Another policy gives back what one brought.

    `reserve_bytes` of RAM and
    `flash_reserve_bytes` of flash belong to the application. An adaptation is `steps` weight
    updates over `samples` kept samples; None means 40 passes over them, rounded up to whole
    steps. `memory_objective` says what a search makes small: the peak, or what training needs
    above inference; `objectives` and `limits` (`energy=5mJ`) are words of
    explorer.search.quantities, `genes` open more of a search (explorer.search.openings).
    `battery` is a cell such as `320mAh@3.7V`, whose sessions per charge the cost then tells.
    `metric`, a word of explorer.accuracy.metrics, ranks what is measured; None is the task's own.
    """

    model: str = "mcunet-5fps"
    device: str = "gap9"
    task: str | None = None
    batch: int | None = None
    micro_batch: int | None = None
    norm: str | None = None
    optimizer: str | None = None
    precision: str | None = None
    policy: str = DEFAULT_POLICY
    accounting: str = "device"
    reserve_bytes: int = 0
    flash_reserve_bytes: int = 0
    memory_limit_bytes: int | None = None
    steps: int | None = None
    samples: int = SAMPLES
    update_timing: str | None = None
    recompute: str | None = None
    memory_objective: str = "peak"
    battery: str | None = None
    metric: str | None = None
    objectives: tuple[str, ...] = DEFAULT_OBJECTIVES
    limits: tuple[str, ...] = ()
    genes: tuple[str, ...] = ()
    usual: tuple[tuple[str, Any], ...] = ()
    choices: Choices | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("model", "device", "policy"):
            if not isinstance(getattr(self, name), str):
                raise SpecError.of(name, getattr(self, name), "a name or a path, as text")
        for name in ("task", "norm", "precision"):
            if not isinstance(getattr(self, name), str | None):
                raise SpecError.of(name, getattr(self, name), "a name as text, or None")
        self._settle()
        if self.accounting not in ACCOUNTINGS:
            raise SpecError.of("accounting", self.accounting, ", ".join(ACCOUNTINGS))
        if self.memory_objective not in tuple(MEMORY_OBJECTIVES):
            allowed = ", ".join(MEMORY_OBJECTIVES)
            raise SpecError.of("memory_objective", self.memory_objective, allowed)
        for name in ("objectives", "limits", "genes"):
            object.__setattr__(self, name, _words(name, getattr(self, name)))
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
        if self.metric is not None:
            metric_column(self.metric, self.metrics)

    def __getstate__(self) -> dict[str, Any]:
        """Only the question travels; what was worked out is worked out again."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def with_device(self, device: str) -> Self:
        """Another device, in its own precision if it does not have the chosen one."""
        if self.precision is not None and self.precision not in device_profile(device).kernels:
            return replace(self, device=device, precision=None)
        return replace(self, device=device)

    def with_task(self, task: str | None) -> Self:
        """Another task; None for the model's own. A metric that it does not have is dropped."""
        return replace(self, task=task, metric=None).measured_by(self.metric)

    def with_metric(self, metric: str | None) -> Self:
        """Another metric: accuracy, f1 or auroc, where the task has it; None for the task's own."""
        return replace(self, metric=metric)

    def measured_by(self, metric: str | None) -> Self:
        """With that metric where the task has it, else as it is."""
        return self.with_metric(metric) if metric in self.metrics else self

    def with_batch(self, batch: int | None, micro_batch: int | None = None) -> Self:
        """Another effective batch, split into micro-batches that divide it; None as above."""
        return self._choose(batch=batch, micro_batch=micro_batch)

    def with_norm(self, norm: str | None) -> Self:
        """Another normalisation; None for the policy's, or the network's own."""
        return self._choose(norm=norm)

    def with_optimizer(self, optimizer: str) -> Self:
        """Another optimizer."""
        return self._choose(optimizer=optimizer)

    def with_update_timing(self, update_timing: str) -> Self:
        """Updates at once (fused) or at the end of the step (deferred, as accumulation is)."""
        return self._choose(update_timing=update_timing)

    def with_recompute(self, recompute: str) -> Self:
        """Keep what backward needs (none), or run blocks again in backward (blocks)."""
        return self._choose(recompute=recompute)

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
        return self._choose(precision=precision)

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
    def setup(self) -> TrainingSetup:
        """The setup in force."""
        return self._setup()

    @property
    def own_setup(self) -> dict[str, Any]:
        """Fields of the setup that were chosen, by name."""
        return {} if self.choices is None else dict(self.choices.own)

    @property
    def brought_setup(self) -> dict[str, Any]:
        """Fields of the setup that the policy brought and that are not as usual, by name."""
        known = self.own_setup.keys()
        usual = USUAL | dict(self.usual)
        every = {name: getattr(self, name) for name in SETUP_FIELDS if name not in known}
        published = self._published()
        return {
            name: value
            for name, value in every.items()
            if name in published and value not in (None, usual.get(name))
        }

    @property
    def setup_note(self) -> str:
        """`under its published setup: batch 8, norm gn`; empty where the policy brings none.

        A document brings its own setup, which nobody published.
        """
        words = [f"{name.replace('_', ' ')} {value}" for name, value in self.brought_setup.items()]
        which = "its own" if self.policy.endswith(".json") else "its published"
        return f"under {which} setup: {', '.join(words)}" if words else ""

    @property
    def task_name(self) -> str:
        """The task in force."""
        return self.task or model_task(self.model)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Words of the metrics that are measured on the task, its own first."""
        return task_metrics(self.task_name)

    @property
    def metric_column(self) -> str:
        """The metric in force, as columns and ledgers call it."""
        return METRICS[self.metric or self.metrics[0]]

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

    def _choose(self, **values: Any) -> Self:
        """Fields of the setup that someone chooses, also where they are so already."""
        choices = self.choices or Choices(own=(), in_force=())
        others = tuple(pair for pair in choices.in_force if pair[0] not in values)
        return replace(self, **values, choices=replace(choices, in_force=others))

    def _settle(self) -> None:
        """Put the setup in force; a field that is not as it was in force before is chosen."""
        choices = self.choices or Choices(own=(), in_force=())
        own, before = dict(choices.own), dict(choices.in_force)
        given = {name: getattr(self, name) for name in SETUP_FIELDS}
        object.__setattr__(self, "usual", tuple((name, value) for name, value in self.usual))
        own |= {
            name: value
            for name, value in given.items()
            if name not in before or value != before[name]
        }
        own = {name: value for name, value in own.items() if value is not None}
        others = USUAL | dict(self.usual) | self._published()
        in_force = dict.fromkeys(SETUP_FIELDS) | others | own
        if "micro_batch" not in own and not _splits(others, in_force):
            in_force["micro_batch"] = None
        for name, value in in_force.items():
            object.__setattr__(self, name, value)
        choices = Choices(own=tuple(sorted(own.items())), in_force=tuple(in_force.items()))
        object.__setattr__(self, "choices", choices)

    def _published(self) -> dict[str, Any]:
        """The setup that the policy is published with; a precision only if the device has it."""
        if self.policy.endswith(".json"):
            setup = policy_file(self.policy).setup
            found = setup.model_dump(exclude={"accumulation_steps"}, exclude_none=True)
            found["batch"] = setup.setup().effective_batch
            if setup.precision not in device_profile(self.device).kernels:
                del found["precision"]
            return found
        if self.policy == DEFAULT_POLICY or is_file(self.policy):
            return {}
        return dict(policy_setup(self.policy))

    def _asked(self) -> dict[str, object]:
        """What makes two searches the same question, beside device and score."""
        metric = self.metric_column
        kept = ("reserve_bytes", "flash_reserve_bytes", "memory_limit_bytes", "memory_objective")
        return {
            "model": f"{self.graph.name} ({self.graph.digest})",
            "task": self.task_name,
            **asdict(self._setup()),
            **{name: getattr(self, name) for name in kept},
            **{name: list(getattr(self, name)) for name in ("objectives", "limits", "genes")},
            **({} if metric == ACCURACY else {"metric": metric}),
        }

    def _setup(self, **changes: Any) -> TrainingSetup:
        """The setup in force, with some fields changed."""
        values = {name: getattr(self, name) for name in SETUP_FIELDS} | changes
        profile = self.profile
        values["precision"] = values["precision"] or profile.default_precision
        profile.kernels_for(values["precision"])
        return TrainingSetup.of_batch(**values)

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
        batch = self._setup().effective_batch
        return openings_of(self.genes, self.graph, self.profile, batch)

    def _setups(self) -> tuple[TrainingSetup, ...]:
        """Setups of the opened genes; a batch norm takes the whole batch, as it must."""
        own_norm = model_graph(self.model).norm
        found = []
        for changes in setups_of(self._openings):
            norm = changes.get("norm", self.norm) or own_norm
            if "micro_batch" in changes and norm == "bn":
                changes["micro_batch"] = None
            found.append(self._setup(**changes))
        return tuple(found)

    def _plan(self) -> Plan:
        return Plan(steps=self.steps, samples=self.samples)


def _words(field: str, given: Sequence[str]) -> tuple[str, ...]:
    """A list of words as a tuple; SpecError on a single text."""
    if isinstance(given, str) or not all(isinstance(word, str) for word in given):
        raise SpecError.of(field, given, "a list of texts")
    return tuple(given)


def _splits(others: Mapping[str, Any], in_force: Mapping[str, Any]) -> bool:
    """Whether micro-batches of another batch make up the one in force, as they did that."""
    micro, batch = others.get("micro_batch"), in_force["batch"]
    if micro is None or not is_whole(batch):
        return False
    is_split = micro < others["batch"] and batch % micro == 0 and in_force["norm"] != "bn"
    return bool(is_split or micro == batch)


def is_file(policy: str) -> bool:
    """Whether a policy is a path to a document or a tiny-training YAML, not a spec."""
    return policy.endswith((".json", ".yaml", ".yml"))
