"""What a file of meta-trained weights says of how they were made. Nothing here knows torch."""

from pydantic import Field, ValidationError

from explorer.device import first_problem
from explorer.document import Document, Named
from explorer.errors import SpecError


class Pretraining(Document):
    """How weights were meta-trained, kept inside their file.

    The prototype head of `ways`-way `shots`-shot episodes of the trained classes, from the
    weights of `start_digest`. Held-out classes were never seen, so only they are measured.
    `temperature` is what the head ended with; measuring has one of its own for all.
    """

    model: Named
    start_digest: str
    task: str
    data_digest: str
    trained_classes: tuple[str, ...]
    held_out_classes: tuple[str, ...]
    episodes: int = Field(ge=1)
    ways: int = Field(ge=2)
    shots: int = Field(ge=1)
    query_count: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    seed: int = Field(ge=0)
    learn_temperature: bool
    temperature: float
    versions: dict[str, str]

    @classmethod
    def of_json(cls, text: str, origin: str) -> "Pretraining":
        """Read back what a weight file holds; SpecError when it is something else."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise SpecError(f"{origin}: pretraining: {first_problem(error)}") from None
