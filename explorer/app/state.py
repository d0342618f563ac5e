"""What the app knows, as frozen values, and the one function that changes it.

`reduce` has two sorts of events. What a person asks for (pause, resume, stop,
start, another setup) may come late or twice and is ignored where it has no meaning. What the
worker reports is only possible while a run is active; elsewhere it is a bug
and raises ValueError.

    idle -> running <-> paused;  running | paused -> stopping
    running | paused | stopping -> done | failed -> idle;  idle | done | failed -> running
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class Phase(StrEnum):
    """Where a search is."""

    IDLE = "idle"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    DONE = "done"
    FAILED = "failed"


ACTIVE = frozenset({Phase.RUNNING, Phase.PAUSED, Phase.STOPPING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One search as people see it; `gained_at` is the trial of the last gain in hypervolume."""

    phase: Phase = Phase.IDLE
    done: int = 0
    total: int = 0
    hypervolume: float = 0.0
    gained_at: int = 0
    front_count: int = 0
    elapsed_s: float = 0.0
    error: str = ""

    @property
    def is_active(self) -> bool:
        """Whether a worker is at it."""
        return self.phase in ACTIVE

    @property
    def trials_per_s(self) -> float:
        """Mean rate so far, pauses left out."""
        return self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float:
        """Time to the last trial at that rate; 0 before there is a rate."""
        return (self.total - self.done) / self.trials_per_s if self.trials_per_s else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A person starts a search of `total` trials."""

    total: int


@dataclass(frozen=True, slots=True)
class PauseAsked:
    """A person asks to pause."""


@dataclass(frozen=True, slots=True)
class ResumeAsked:
    """A person asks to go on."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """A person asks to stop, or changed what is searched."""


@dataclass(frozen=True, slots=True)
class Outdated:
    """The controls ask about other designs than a run that has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """The worker finished a batch."""

    done: int
    total: int
    hypervolume: float
    front_count: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The worker came to its end, or stopped as asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The worker raised."""

    error: str


Event = Started | PauseAsked | ResumeAsked | StopAsked | Outdated | Progressed | Finished | Failed


def reduce(run: Run, event: Event) -> Run:
    """The run after an event; see the head of this module for what is legal."""
    match event:
        case Started(total=total):
            return run if run.is_active else Run(phase=Phase.RUNNING, total=total)
        case PauseAsked():
            return _moved(run, {Phase.RUNNING}, Phase.PAUSED)
        case ResumeAsked():
            return _moved(run, {Phase.PAUSED}, Phase.RUNNING)
        case StopAsked():
            return _moved(run, {Phase.RUNNING, Phase.PAUSED}, Phase.STOPPING)
        case Outdated():
            return run if run.is_active else Run()
    if not run.is_active:
        raise ValueError(f"{type(event).__name__} while {run.phase}: no search is active")
    match event:
        case Progressed():
            gained = event.hypervolume > run.hypervolume
            return replace(
                run,
                done=event.done,
                total=event.total,
                hypervolume=event.hypervolume,
                gained_at=event.done if gained else run.gained_at,
                front_count=event.front_count,
                elapsed_s=event.elapsed_s,
            )
        case Finished():
            return replace(run, phase=Phase.DONE)
        case Failed(error=error):
            return replace(run, phase=Phase.FAILED, error=error)


def _moved(run: Run, allowed: set[Phase], phase: Phase) -> Run:
    return replace(run, phase=phase) if run.phase in allowed else run


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a person chose; None is what nobody chose, so that policy and network may say it.

    `model` has its options, and `options` are `key=value` of the policy, where not the default.
    """

    model: str
    device: str | None
    task: str | None
    batch: int | None
    micro_batch: int | None
    norm: str | None
    optimizer: str | None
    update_timing: str | None
    recompute: str | None
    precision: str | None
    memory_objective: str
    reserve_bytes: int
    policy: str
    options: tuple[str, ...] = ()
    metric: str | None = None

    @property
    def policy_spec(self) -> str:
        """`name:key=value,...`."""
        return f"{self.policy}:{','.join(self.options)}" if self.options else self.policy
