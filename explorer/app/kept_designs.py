"""Many designs of one network as short text, priced again when they are read."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from explorer.design import DesignBatch, LayerAxes, TrainingSetup, UpdatePolicy
from explorer.device import first_problem
from explorer.document import Adapters, DistillationRecord, Document, Selection, SetupRecord
from explorer.errors import SpecError
from explorer.search.candidates import CandidateTable
from explorer.session import Session

_SESSION = TypeAdapter(Session)
_LAYER = re.compile(r"(\d{1,9})(b?)(n?)")


def kept_session(session: Session) -> dict[str, JsonValue]:
    """What of a session is not the default, as JSON has it."""
    values: dict[str, JsonValue] = _SESSION.dump_python(session, mode="json", exclude_defaults=True)
    return values


class KeptDesign(Document):
    """A row of a batch.

    `trains` has a word for each layer: slices, then `b` when its bias trains and `n` when its
    norm does. `setup` is the place in a list of setups.
    """

    family: str
    trains: str
    setup: Annotated[int, Field(ge=0)]
    selection: Selection
    axis: Literal["out", "in"]
    adapters: Adapters
    distillation: DistillationRecord | None

    def policy(self, axes: LayerAxes) -> UpdatePolicy:
        """The policy again; SpecError where the network cannot have it."""
        words = self.trains.split()
        parts = [part for part in map(_LAYER.fullmatch, words) if part]
        if not len(parts) == len(words) == len(axes.names):
            allowed = f"{len(axes.names)} numbers, each with b or n or both or neither"
            raise SpecError.of("trains", self.trains, allowed)
        return UpdatePolicy(
            family=self.family,
            layer_names=axes.names,
            slices=tuple(int(part[1]) for part in parts),
            slice_counts=tuple(int(count) for count in axes.channels(self.axis)),
            update_bias=tuple(bool(part[2]) for part in parts),
            update_norm=tuple(bool(part[3]) for part in parts),
            channel_axis=self.axis,
            selection=self.selection,
            adapters=self.adapters,
            distillation=None if self.distillation is None else self.distillation.distillation(),
        )


class KeptDesigns(Document):
    """Designs of one session and how they are called; of it only what is not the default."""

    session: dict[str, JsonValue]
    layers: tuple[str, ...]
    setups: tuple[SetupRecord, ...]
    labels: tuple[str, ...]
    designs: tuple[KeptDesign, ...]

    @classmethod
    def of(
        cls,
        session: Session,
        table: CandidateTable,
        rows: Sequence[int],
        labels: Sequence[str] | None = None,
    ) -> "KeptDesigns":
        """Rows of a table, called as in it unless `labels` say otherwise."""
        designs, used = table.designs, table.designs.row_setups
        setups = list(dict.fromkeys(used[row] for row in rows))
        named = (table.labels[row] for row in rows)
        return cls(
            session=kept_session(session),
            layers=designs.axes.names,
            setups=tuple(map(SetupRecord.of, setups)),
            labels=tuple(named if labels is None else labels),
            designs=tuple(_kept(designs, row, setups) for row in rows),
        )

    def asked(self) -> Session:
        """The session; SpecError names a value that it cannot have."""
        try:
            session = _SESSION.validate_python(self.session)
        except ValidationError as error:
            raise SpecError(f"session: {first_problem(error)}") from error
        if unknown := self.session.keys() - kept_session(session).keys():
            raise SpecError(f"session: {', '.join(sorted(unknown))} is not known or not needed")
        return session

    def table(self, session: Session) -> CandidateTable:
        """The designs priced and judged again; SpecError when they are not of its network."""
        if len(self.labels) != len(self.designs) or not self.designs:
            raise SpecError(f"{len(self.designs)} designs and {len(self.labels)} labels")
        axes = LayerAxes.of(session.graph)
        if self.layers != axes.names:
            raise SpecError.of("layers", self.layers[:3], f"{axes.names[:3]}...")
        most = max(design.setup for design in self.designs)
        if most >= len(self.setups):
            raise SpecError.of("setup", most, f"below {len(self.setups)}")
        setups = [record.setup() for record in self.setups]
        policies = [design.policy(axes) for design in self.designs]
        batch = DesignBatch.of(axes, policies, setups[0])
        batch = batch.under([setups[design.setup] for design in self.designs])
        return session.problem.screen(batch, self.labels)


def _kept(designs: DesignBatch, row: int, setups: list[TrainingSetup]) -> KeptDesign:
    columns = (designs.slices[row], designs.update_bias[row], designs.update_norm[row])
    words = (
        f"{slices}{'b' * bool(bias)}{'n' * bool(norm)}"
        for slices, bias, norm in zip(*columns, strict=True)
    )
    fields = {
        "family": designs.families[row],
        "trains": " ".join(words),
        "setup": setups.index(designs.row_setups[row]),
        "selection": designs.selections[row],
        "axis": "in" if designs.axis_in[row] else "out",
        "adapters": designs.adapters[row],
        "distillation": DistillationRecord.of(designs.distillations[row]),
    }
    return KeptDesign.model_validate(fields)
