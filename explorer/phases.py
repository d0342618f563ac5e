"""A training procedure: phases of epochs, each with a policy of its own.

mu-Training (Huang et al., 2025) puts epochs in which only the middle trains among epochs of
full training: at the beginning, at the rear or on both sides. The authors' integrated
procedure distils instead: the middle first, then encoder and decoder with the roles swapped.
Fine-tuning on the device comes after, as a procedure of its own with other data.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from math import cos, pi

from explorer.errors import SpecError, check_whole

FULL, MU, DISTILLED = "full", "mu-train", "mu-distilled"
OWN = "own"  # the policy of a measured design, among phases of full training
SOURCE_EPOCHS, MU_EPOCHS, TUNING_EPOCHS = 300, 100, 50
DISTILLED_EPOCHS = 75


@dataclass(frozen=True, slots=True, kw_only=True)
class Distillation:
    """Future-guided self-distillation (Huang et al. 2025, Algorithm 2): a step looks ahead first.

    What the policy leaves frozen takes a step on the true labels, in a copy; the answers of
    that future network are soft labels with the share `soft_label_ratio` (alpha) of the loss.
    `reuse_forward` runs the network once for both backward passes, with one set of dropout
    masks, and keeps the tensors of both.
    """

    soft_label_ratio: float = 0.8
    reuse_forward: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.soft_label_ratio <= 1:
            raise SpecError.of("soft_label_ratio", self.soft_label_ratio, "0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """So many epochs of one policy, named by its spec."""

    policy: str
    epoch_count: int

    def __post_init__(self) -> None:
        check_whole(f"epochs of {self.policy}", self.epoch_count, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure:
    """Phases one after the other; those of no epochs are left out.

    With `shared_cosine` one cosine of the learning rate runs over all of them, so a late
    phase gets little of it; otherwise every phase has its own.
    """

    phases: tuple[Phase, ...]
    shared_cosine: bool = True

    def __post_init__(self) -> None:
        kept = tuple(phase for phase in self.phases if phase.epoch_count)
        if not kept:
            raise SpecError.of("phases", self.phases, "at least one with an epoch")
        object.__setattr__(self, "phases", kept)

    @property
    def epoch_count(self) -> int:
        """Epochs of all phases."""
        return sum(phase.epoch_count for phase in self.phases)

    def lasting(self, count: int) -> "Procedure":
        """The same phases in so many epochs, or steps, in all; each keeps its share of them."""
        check_whole("epochs", count, 1)
        done = accumulate((phase.epoch_count for phase in self.phases), initial=0)
        ends = [round(count * end / self.epoch_count) for end in done]
        counts = [end - begun for begun, end in pairwise(ends)]
        phases = (
            replace(phase, epoch_count=own) for phase, own in zip(self.phases, counts, strict=True)
        )
        return replace(self, phases=tuple(phases))

    def rate_factors(self) -> tuple[tuple[float, ...], ...]:
        """What the learning rate is multiplied by in each epoch of each phase."""
        counts = [phase.epoch_count for phase in self.phases]
        if not self.shared_cosine:
            return tuple(_cosine(count) for count in counts)
        factors = iter(_cosine(sum(counts)))
        return tuple(tuple(next(factors) for _ in range(count)) for count in counts)

    def rate_shares(self) -> tuple[float, ...]:
        """The part of the whole learning-rate budget that each phase gets."""
        sums = [sum(factors) for factors in self.rate_factors()]
        return tuple(part / sum(sums) for part in sums)


def _cosine(count: int) -> tuple[float, ...]:
    return tuple(0.5 * (1 + cos(pi * epoch / count)) for epoch in range(count))


def _of(*parts: tuple[str, int]) -> Procedure:
    return Procedure(phases=tuple(Phase(policy=spec, epoch_count=count) for spec, count in parts))


def standard(epochs: int, mu_epochs: int) -> Procedure:
    """Full training alone, for as many epochs as the others have in all."""
    return _of((FULL, epochs + mu_epochs))


def begin(epochs: int, mu_epochs: int, policy: str = MU) -> Procedure:
    """First the middle alone, then everything."""
    return _of((policy, mu_epochs), (FULL, epochs))


def rear(epochs: int, mu_epochs: int, policy: str = MU) -> Procedure:
    """First everything, then the middle alone."""
    return _of((FULL, epochs), (policy, mu_epochs))


def sandwich(epochs: int, mu_epochs: int, policy: str = MU) -> Procedure:
    """The middle alone before and after everything, half of its epochs each."""
    return _of((policy, mu_epochs // 2), (FULL, epochs), (policy, mu_epochs - mu_epochs // 2))


POSITIONS: Mapping[str, Callable[[int, int, str], Procedure]] = {
    "begin": begin,
    "rear": rear,
    "sandwich": sandwich,
}


def integrated(epochs: int, distilled_epochs: int = DISTILLED_EPOCHS) -> Procedure:
    """Everything, then the middle with soft labels, then encoder and decoder with them."""
    return _of(
        (FULL, epochs),
        (DISTILLED, distilled_epochs),
        (f"{DISTILLED}:trains=ends", distilled_epochs),
    )


def fine_tuning(epochs: int = TUNING_EPOCHS, policy: str = "mu-finetune") -> Procedure:
    """Training on the device, with a learning rate of its own."""
    return _of((policy, epochs))


_USUAL = SOURCE_EPOCHS - MU_EPOCHS
PROCEDURES: Mapping[str, Callable[[], Procedure]] = {
    "standard": lambda: standard(_USUAL, MU_EPOCHS),
    "begin": lambda: begin(_USUAL, MU_EPOCHS),
    "rear": lambda: rear(_USUAL, MU_EPOCHS),
    "sandwich": lambda: sandwich(_USUAL, MU_EPOCHS),
    "integrated": lambda: integrated(SOURCE_EPOCHS - 2 * DISTILLED_EPOCHS),
    "fine-tuning": fine_tuning,
}
SCHEDULES = ("standard", *POSITIONS, "integrated")


def schedule(name: str, policy: str = DISTILLED) -> Procedure:
    """Source training by a published procedure; `policy` trains where the others train the middle.

    The integrated procedure has policies of its own. SpecError lists the names.
    """
    if name not in SCHEDULES:
        raise SpecError.of("schedule", name, ", ".join(SCHEDULES))
    if name in POSITIONS:
        return POSITIONS[name](_USUAL, MU_EPOCHS, policy)
    return PROCEDURES[name]()


def procedure_named(name: str) -> Procedure:
    """A published procedure with its published epochs; SpecError lists the names."""
    if name not in PROCEDURES:
        raise SpecError.of("procedure", name, ", ".join(PROCEDURES))
    return PROCEDURES[name]()
