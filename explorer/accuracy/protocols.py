"""How runs of a comparison are made: episodes of images, or lessons on signals."""

from typing import Literal

from pydantic import Field, model_validator

from explorer.document import Document
from explorer.phases import OWN, POSITIONS, Phase

FIXED, VARYING = "fixed", "varying"
LARGEST_SUPPORT = 500
LESSON_SCORED = 64
VARYING_MOST = {"ways": 50, "shots": 100, "query_count": 10}


class Protocol(Document):
    """How every run of a comparison is made: episodes and steps.

    Under the sampler `varying` every episode draws its own ways, shots and queries, and the
    fields are the most of each; `shots` is then the most a class counts for.
    """

    ways: int = Field(default=5, ge=2)
    shots: int = Field(default=5, ge=1)
    query_count: int = Field(default=15, ge=1)
    steps: int = Field(default=40, ge=1)
    sampler: Literal["fixed", "varying"] = "fixed"

    @property
    def phases(self) -> tuple[Phase, ...]:
        """None: every step is the design's."""
        return ()

    @property
    def support_count(self) -> int:
        """Support images of an episode; the most when they vary."""
        count = self.ways * self.shots
        return count if self.sampler == FIXED else min(LARGEST_SUPPORT, count)

    @property
    def words(self) -> str:
        """`5-way 5-shot, 15 queries a class`; with `up to` where they vary."""
        most = "up to " if self.sampler == VARYING else ""
        return f"{most}{self.ways}-way {self.shots}-shot, {self.query_count} queries a class"


class LessonProtocol(Document):
    """How runs on a task of signals are made: `steps` weight updates, each repeat on one split.

    An episode is then one repeat. The design's setup says the batch and the optimizer. In
    `full_steps` of the steps everything trains; `position` says where the design's own stand.
    With a `learning_rate` all run at that one, and none is tuned.
    """

    kind: Literal["lessons"] = "lessons"
    steps: int = Field(default=60, ge=1)
    schedule: Literal["cosine", "constant"] = "cosine"
    full_steps: int = Field(default=0, ge=0)
    position: Literal["begin", "rear", "sandwich"] = "rear"
    learning_rate: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _some_steps_of_the_design(self) -> "LessonProtocol":
        if self.full_steps >= self.steps:
            raise ValueError(f"full_steps: got {self.full_steps}, allowed: below {self.steps}")
        return self

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Steps of full training and of the design's own policy, `own`; none without the former."""
        if not self.full_steps:
            return ()
        made = POSITIONS[self.position](self.full_steps, self.steps - self.full_steps, OWN)
        return made.phases

    @property
    def words(self) -> str:
        """`60 steps on three quarters of the target, tested on the rest`."""
        parts = [f"{phase.epoch_count} {phase.policy}" for phase in self.phases]
        how = f" ({', '.join(parts)})" if parts else ""
        return f"{self.steps} steps{how} on three quarters of the target, tested on the rest"

    @property
    def support_count(self) -> int:
        """Signals that channel scores are taken on, at most."""
        return LESSON_SCORED


AnyProtocol = Protocol | LessonProtocol
