"""Inverse questions: what fits, where, and which change would make it fit.

The question is asked again with one or two things changed. All of these are screened at
once by their live bytes; whether one fits is what `cost` would say, and its arena is
placed only as far as that verdict needs.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from explorer import catalog
from explorer.costmodel.detail import fits_of, needs_and_limits, violations
from explorer.costmodel.evaluate import evaluate, place_rows
from explorer.costmodel.report import CostReport, Fit
from explorer.design import LARGEST_BATCH, OPTIMIZER_STATES, DesignBatch, TrainingSetup
from explorer.device import DeviceProfile
from explorer.errors import SpecError
from explorer.graph import NORMS, ModelGraph
from explorer.units import format_bytes

if TYPE_CHECKING:
    import pandas as pd

BATCH_NORM = "bn"
SPLIT_NORM = "gn"  # whose micro-batches add up to the batch
POLICIES = ("last-k:k=8", "last-k:k=4", "last-k:k=2", "last-layer", "bias-only:last=12")
MICRO_BATCH = "micro_batch"
ROUNDING_BYTES = 1024  # an arena's whole-byte buffers may be this much under the live bytes
ONLY = np.array([0])


class Question(Protocol):
    """What is asked again with a change; a Session is one."""

    @property
    def device(self) -> str:
        """The device by name or path."""

    @property
    def policy(self) -> str:
        """The policy by spec or path."""

    @property
    def reserve_bytes(self) -> int:
        """RAM the application keeps."""

    @property
    def graph(self) -> ModelGraph:
        """The network in the chosen normalisation."""

    @property
    def profile(self) -> DeviceProfile:
        """The device."""

    @property
    def designs(self) -> DesignBatch:
        """The chosen policy under the setup, one row; SpecError when it cannot be built."""

    def with_batch(self, batch: int | None, micro_batch: int | None = None) -> Self:
        """Another batch."""

    def with_device(self, device: str) -> Self:
        """Another device, in its own precision if it does not have the chosen one."""

    def with_norm(self, norm: str | None) -> Self:
        """Another normalisation."""

    def with_optimizer(self, optimizer: str) -> Self:
        """Another optimizer."""

    def with_update_timing(self, update_timing: str) -> Self:
        """Updates at once, or at the end of the step."""

    def with_recompute(self, recompute: str) -> Self:
        """Blocks run again in backward, or none."""

    def with_precision(self, precision: str | None) -> Self:
        """Another precision."""

    def with_policy(self, policy: str) -> Self:
        """Another policy."""


Settings = tuple[str, ...]  # what is changed, each as `key=value`
Changed = tuple[Settings, Question]
Changes = Iterator[tuple[Settings, Callable[[], Question]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change and what it does: bytes saved where it is tightest now, time of a step.

    `setting` is what to set, as `micro_batch=1` or `policy=last-k:k=2`. `saved_bytes` are
    of the memory level `level`; in RAM they are live bytes. `batch` is given where it becomes
    another one, since the policy that goes had brought its own.
    """

    setting: str
    fits: bool
    level: str
    saved_bytes: float
    peak_live_bytes: float
    step_time_s: float
    time_ratio: float
    trained_parameter_count: int
    batch: int | None = None

    @property
    def sentence(self) -> str:
        """For a person: `norm=gn: saves 212 KiB of L2, step x1.30, fits`."""
        return (
            f"{self.setting}: saves {format_bytes(self.saved_bytes)} of {self.level}, "
            f"step x{self.time_ratio:.2f}{f' of batch {self.batch}' if self.batch else ''}, "
            f"{'fits' if self.fits else 'does not fit'}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Answers for one question.

    `largest_batch_count` samples fit in one pass; `largest_micro_batch_count` is that for a
    batch of 1, else the largest split of the batch that fits. Both are 0 when not even one
    sample at a time does. `devices` are those that fit, smallest usable RAM first, and
    `precisions` what each of them runs in: the asked one, or its own where it does not have
    that. `changes` are single changes, those that fit first, by time and then by what is given
    up; pairs that fit are among them only where no single change does.
    """

    fits: tuple[Fit, ...]
    batch: int
    largest_batch_count: int
    largest_micro_batch_count: int
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    changes: tuple[Change, ...]

    @property
    def smallest_device(self) -> str | None:
        """The fitting device with the least RAM, if any."""
        return self.devices[0] if self.devices else None

    @property
    def sentences(self) -> tuple[str, str]:
        """For a person: the largest micro-batch and the smallest device."""
        once = f"largest batch that fits in one pass: {self.largest_batch_count:,}"
        if not self.largest_batch_count:
            once = "not even one sample at a time fits"
        elif self.batch > 1:
            split = self.largest_micro_batch_count or "none"
            once = f"largest micro-batch that fits: {split} of a batch of {self.batch:,}; {once}"
        device = f"{self.devices[0]} in {self.precisions[0]}" if self.devices else "none known"
        return (
            once,
            f"smallest device that fits: {device}",
        )

    def to_frame(self) -> "pd.DataFrame":
        """The changes, one row each."""
        import pandas as pd

        return pd.DataFrame([asdict(change) for change in self.changes])

    def to_dict(self) -> dict[str, Any]:
        """The JSON surface of `explorer advise`."""
        return {
            "fits": [fit.to_dict() for fit in self.fits],
            "largest_batch": self.largest_batch_count,
            "largest_micro_batch": self.largest_micro_batch_count,
            "smallest_device": self.smallest_device,
            "devices": list(self.devices),
            "precisions": list(self.precisions),
            "changes": [asdict(change) for change in self.changes],
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class _Answer:
    """A changed question and its costs by live bytes, one row."""

    settings: Settings
    question: Question
    costs: CostReport

    @property
    def setup(self) -> TrainingSetup:
        return self.costs.designs.setup

    @property
    def besides(self) -> Settings:
        """What is changed besides how the batch is split."""
        return tuple(setting for setting in self.settings if _key(setting) != MICRO_BATCH)

    @property
    def is_split(self) -> bool:
        """Whether the batch is split in another way."""
        return len(self.besides) < len(self.settings)

    @property
    def needed_bytes(self) -> list[float]:
        """Bytes of each memory level, live ones of RAM."""
        levels = needs_and_limits(self.question.profile, self.costs, self.question.reserve_bytes)
        return [float(needed[0]) for _, needed, _ in levels]

    @cached_property
    def fits(self) -> bool:
        """The verdict of `cost`."""
        profile, reserve_bytes = self.question.profile, self.question.reserve_bytes
        levels = needs_and_limits(profile, self.costs, reserve_bytes)
        if any(needed[0] > usable + ROUNDING_BYTES for _, needed, usable in levels):
            return False
        placed = self.placed(profile.ram.usable_bytes - reserve_bytes)
        return bool((violations(profile, placed, reserve_bytes) <= 0).all())

    def placed(self, enough_bytes: int = 0) -> CostReport:
        """The costs with the arena; no smaller one is looked for than `enough_bytes`."""
        question = self.question
        return place_rows(question.graph, question.profile, self.costs, ONLY, enough_bytes)


def advise(question: Question) -> Advice:
    """Largest micro-batch, fitting devices, and changes with what they save and cost.

    Of the ways to split the batch only the largest that fits and the smallest are listed.
    """
    (now,) = _answers([((), question)])
    placed = now.placed()
    singles = _answers(_allowed(_single_changes(question)))
    listed = fitting = _fitting(singles)
    if not fitting and not now.fits:
        listed = _fitting(_answers(_allowed(_second_changes(singles))))
    smallest = min((one.setup.micro_batch for one in singles if one.is_split), default=0)
    listed = listed + [
        one
        for one in singles
        if one not in fitting and (not one.is_split or one.setup.micro_batch == smallest)
    ]
    tightest = int(violations(question.profile, placed, question.reserve_bytes)[0].argmax())
    changes = [_compare(now, then, tightest) for then in listed]
    changes = [change for change in changes if change.saved_bytes > 0]
    changes.sort(
        key=lambda change: (
            not change.fits,
            round(change.time_ratio, 2),
            -change.trained_parameter_count,
        )
    )
    splits = [one for one in (now, *fitting) if one.fits and not one.besides]
    batch = now.setup.effective_batch
    largest = _largest_batch(question)
    split = max((one.setup.micro_batch for one in splits), default=0)
    elsewhere = _fitting_devices(question)
    return Advice(
        fits=tuple(fits_of(question.profile, placed, 0, question.reserve_bytes)),
        batch=batch,
        largest_batch_count=largest,
        largest_micro_batch_count=split if batch > 1 else largest,
        devices=tuple(one.question.device for one in elsewhere),
        precisions=tuple(one.setup.precision for one in elsewhere),
        changes=tuple(changes),
    )


def _answers(questions: Iterable[Changed]) -> list[_Answer]:
    """Their costs; designs of one network, setup and device are evaluated as one batch."""
    groups: dict[tuple[ModelGraph, TrainingSetup, DeviceProfile], list[Changed]] = {}
    for settings, asked in questions:
        key = (asked.graph, asked.designs.setup, asked.profile)
        groups.setdefault(key, []).append((settings, asked))
    answers = []
    for (graph, setup, profile), members in groups.items():
        policies = [asked.designs.policy(0) for _, asked in members]
        axes = members[0][1].designs.axes
        costs = evaluate(graph, profile, DesignBatch.of(axes, policies, setup))
        answers += [
            _Answer(settings=settings, question=asked, costs=costs.take(np.array([row])))
            for row, (settings, asked) in enumerate(members)
        ]
    return answers


def _allowed(changes: Changes) -> Iterator[Changed]:
    """Changed questions; those whose policy is not allowed with the change are left out."""
    for settings, change in changes:
        try:
            asked = change()
            asked.designs  # noqa: B018 - raises when the policy cannot be built
        except SpecError:
            continue
        yield settings, asked


def _fitting(answers: Iterable[_Answer]) -> list[_Answer]:
    """Those that fit; where only the micro-batch differs the largest, which is the fastest."""
    found: dict[Settings, _Answer] = {}
    for answer in sorted(answers, key=lambda one: -one.setup.micro_batch):
        if answer.besides not in found and answer.fits:
            found[answer.besides] = answer
    return list(found.values())


def _largest_batch(question: Question) -> int:
    """Samples that fit in one pass; memory rises with them, so halving the range finds it."""
    fitting, misfit = 0, LARGEST_BATCH + 1
    while misfit - fitting > 1:
        middle = min(2 * fitting + 1, (fitting + misfit) // 2)
        if _answers([((), question.with_batch(middle, middle))])[0].fits:
            fitting = middle
        else:
            misfit = middle
    return fitting


def _fitting_devices(question: Question) -> list[_Answer]:
    """On every device of the catalogue and the question's own, smallest usable RAM first."""
    names = {*catalog.names("device"), question.device}
    answers = _answers(((), question.with_device(name)) for name in sorted(names))
    answers.sort(key=lambda one: (one.question.profile.ram.usable_bytes, one.question.device))
    return [one for one in answers if one.fits]


def _second_changes(singles: Iterable[_Answer]) -> Changes:
    """Each unordered pair of changes of different things."""
    for once in singles:
        for then, change in _single_changes(once.question):
            if len(once.settings) == len(then) == 1 and _key(once.settings[0]) < _key(then[0]):
                yield (*once.settings, *then), change


def _single_changes(question: Question) -> Changes:
    setup, norm = question.designs.setup, question.graph.norm
    # statistics of a batch norm in training are of the micro-batch, so a split changes the norm
    keeps = norm != BATCH_NORM or not question.designs.trains[0]
    for micro in _divisors(setup.effective_batch):
        if micro != setup.micro_batch:
            split = (f"{MICRO_BATCH}={micro}",)
            whole = question if keeps else question.with_norm(SPLIT_NORM)
            settings = split if keeps else (*split, f"norm={SPLIT_NORM}")
            yield settings, partial(whole.with_batch, setup.effective_batch, micro)
    if norm != "none":
        for other in NORMS:
            if other not in (norm, "none", BATCH_NORM):
                yield (f"norm={other}",), partial(question.with_norm, other)
    for optimizer, states in OPTIMIZER_STATES.items():
        if states < OPTIMIZER_STATES[setup.optimizer]:
            yield (f"optimizer={optimizer}",), partial(question.with_optimizer, optimizer)
    if setup.update_timing == "deferred" and setup.accumulation_steps == 1:
        yield ("update_timing=fused",), partial(question.with_update_timing, "fused")
    if setup.recompute == "none":
        yield ("recompute=blocks",), partial(question.with_recompute, "blocks")
    for precision in question.profile.kernels:
        if precision != setup.precision:
            yield (f"precision={precision}",), partial(question.with_precision, precision)
    for policy in POLICIES:
        if policy != question.policy:
            yield (f"policy={policy}",), partial(question.with_policy, policy)


@lru_cache(maxsize=8)
def _divisors(batch: int) -> tuple[int, ...]:
    """In rising order."""
    return tuple(count for count in range(1, batch + 1) if batch % count == 0)


def _key(setting: str) -> str:
    return setting.partition("=")[0]


def _compare(now: _Answer, then: _Answer, tightest: int) -> Change:
    """What changes; `tightest` is the memory level that decides, by position."""
    step_time_s = float(then.costs.step_time_s[0])
    batch = then.setup.effective_batch
    return Change(
        setting=", ".join(then.settings),
        fits=then.fits,
        level=now.question.profile.fit_levels[tightest].name,
        saved_bytes=now.needed_bytes[tightest] - then.needed_bytes[tightest],
        peak_live_bytes=float(then.costs.peak_live_bytes[0]),
        step_time_s=step_time_s,
        time_ratio=step_time_s / float(now.costs.step_time_s[0]),
        trained_parameter_count=int(then.costs.trained_parameter_count[0]),
        batch=None if batch == now.setup.effective_batch else batch,
    )
