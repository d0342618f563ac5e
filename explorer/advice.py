"""Inverse questions: what fits, where, and which single change would make it fit.

Answers come from asking the same question again with one thing changed, so they
can never differ from what the cost model says.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self

from explorer import catalog
from explorer.costmodel.report import Cost, Fit
from explorer.design import OPTIMIZER_STATES
from explorer.device import DeviceProfile, load_device
from explorer.errors import SpecError
from explorer.graph import NORMS
from explorer.units import format_bytes

if TYPE_CHECKING:
    import pandas as pd

LARGEST_MICRO_BATCH = 4096
BATCH_NORM = "bn"
POLICIES = ("last-k:k=8", "last-k:k=4", "last-k:k=2", "last-layer", "bias-only:last=12")


class Question(Protocol):
    """What is asked again with a change; a Session is one."""

    @property
    def batch(self) -> int:
        """Effective batch."""

    @property
    def micro_batch(self) -> int | None:
        """Samples in memory at once, None for the batch."""

    @property
    def optimizer(self) -> str:
        """Optimizer by name."""

    @property
    def profile(self) -> DeviceProfile:
        """The device."""

    def cost(self) -> Cost:
        """The answer."""

    def with_batch(self, batch: int, micro_batch: int | None = None) -> Self:
        """Another batch."""

    def with_device(self, device: str) -> Self:
        """Another device."""

    def with_norm(self, norm: str | None) -> Self:
        """Another normalisation."""

    def with_optimizer(self, optimizer: str) -> Self:
        """Another optimizer."""

    def with_recompute(self, recompute: str) -> Self:
        """Blocks run again in backward, or none."""

    def with_precision(self, precision: str | None) -> Self:
        """Another precision."""

    def with_policy(self, policy: str) -> Self:
        """Another policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change and what it does: bytes saved where it is tightest, time of a step.

    `setting` is what to set, as `micro_batch=1` or `policy=last-k:k=2`.
    """

    setting: str
    fits: bool
    saved_bytes: float
    peak_live_bytes: float
    step_time_s: float
    time_ratio: float
    trained_parameter_count: int

    @property
    def sentence(self) -> str:
        """For a person: `norm=gn: saves 212 KiB, step x1.3, fits`."""
        verdict = "fits" if self.fits else "still does not fit"
        return (
            f"{self.setting}: saves {format_bytes(self.saved_bytes)}, "
            f"step x{self.time_ratio:.2f}, {verdict}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Answers for one question.

    `largest_micro_batch_count` is 0 when not even one sample fits; `devices` are those that
    fit, smallest usable RAM first; `changes` are single changes, those that fit first,
    by time and then by what is given up (pairs only where no single change fits).
    """

    fits: tuple[Fit, ...]
    largest_micro_batch_count: int
    devices: tuple[str, ...]
    changes: tuple[Change, ...]

    @property
    def smallest_device(self) -> str | None:
        """The fitting device with the least RAM, if any."""
        return self.devices[0] if self.devices else None

    def to_frame(self) -> "pd.DataFrame":
        """The changes, one row each."""
        import pandas as pd

        return pd.DataFrame([asdict(change) for change in self.changes])

    def to_dict(self) -> dict[str, Any]:
        """The JSON surface of `explorer advise`."""
        return {
            "fits": [fit.to_dict() for fit in self.fits],
            "largest_micro_batch": self.largest_micro_batch_count,
            "smallest_device": self.smallest_device,
            "devices": list(self.devices),
            "changes": [asdict(change) for change in self.changes],
        }


def advise(question: Question) -> Advice:
    """Largest micro-batch, fitting devices, and changes with what they save and cost.

    Pairs of changes are tried only where no single one makes a misfit fit.
    """
    now = question.cost()
    singles = list(_answered_changes(question))
    changes = [_compare(setting, now, then) for setting, _, then in singles]
    if not now.fits_all and not any(change.fits for change in changes):
        pairs = (
            _compare(f"{first}, {second}", now, then)
            for first, once, _ in singles
            for second, _, then in _answered_changes(once)
            if first.split("=")[0] < second.split("=")[0]
        )
        changes += [pair for pair in pairs if pair.fits]
    useful = [change for change in changes if change.saved_bytes > 0]
    useful.sort(
        key=lambda change: (
            not change.fits,
            round(change.time_ratio, 2),
            -change.trained_parameter_count,
        )
    )
    return Advice(
        fits=now.fits,
        largest_micro_batch_count=_largest_micro_batch(question),
        devices=tuple(_fitting_devices(question)),
        changes=tuple(useful),
    )


def _largest_micro_batch(question: Question) -> int:
    """By bisection: more samples never need less memory."""

    def fits(samples: int) -> bool:
        return question.with_batch(samples).cost().fits_all

    if not fits(1):
        return 0
    low, high = 1, LARGEST_MICRO_BATCH
    if fits(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _fitting_devices(question: Question) -> Iterator[str]:
    sizes = {name: load_device(name) for name in catalog.names("device")}
    for name in sorted(sizes, key=lambda name: sizes[name].ram.usable_bytes):
        if question.with_precision(None).with_device(name).cost().fits_all:
            yield name


def _answered_changes(question: Question) -> Iterator[tuple[str, Question, Cost]]:
    """Single changes with their answers; those the policy does not allow are left out."""
    for setting, change in _single_changes(question):
        try:
            changed = change()
            yield setting, changed, changed.cost()
        except SpecError:
            continue


def _single_changes(question: Question) -> Iterator[tuple[str, Callable[[], Question]]]:
    micro = question.micro_batch or question.batch
    for smaller in sorted({1, micro // 4, micro // 2}):
        if 0 < smaller < micro and question.batch % smaller == 0:
            yield f"micro_batch={smaller}", partial(question.with_batch, question.batch, smaller)
    norm = question.cost().setup["norm"]
    if norm != "none":
        for other in NORMS:
            if other not in (norm, "none", BATCH_NORM):
                yield f"norm={other}", partial(question.with_norm, other)
    for optimizer, states in OPTIMIZER_STATES.items():
        if states < OPTIMIZER_STATES[question.optimizer]:
            yield f"optimizer={optimizer}", partial(question.with_optimizer, optimizer)
    if question.cost().setup["recompute"] == "none":
        yield "recompute=blocks", partial(question.with_recompute, "blocks")
    for precision in question.profile.kernels:
        yield f"precision={precision}", partial(question.with_precision, precision)
    for policy in POLICIES:
        yield f"policy={policy}", partial(question.with_policy, policy)


def _compare(setting: str, now: Cost, then: Cost) -> Change:
    return Change(
        setting=setting,
        fits=then.fits_all,
        saved_bytes=now.memory["peak_live_bytes"] - then.memory["peak_live_bytes"],
        peak_live_bytes=then.memory["peak_live_bytes"],
        step_time_s=then.step_time_s,
        time_ratio=then.step_time_s / now.step_time_s,
        trained_parameter_count=then.trained_parameters,
    )
