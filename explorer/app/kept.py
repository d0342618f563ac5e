"""What a notebook keeps of its app: the question, the search, the selected point, pins, the tab.

Costs are not kept: designs are priced again. Of a search those designs of its front are kept
that the list of points offers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import traitlets
from pydantic import JsonValue, TypeAdapter, ValidationError

from explorer.accuracy.records import DesignRecord
from explorer.app.state import Phase, Run, Settings
from explorer.app.view import CHOICE, Found, Selection, View, candidate_label, choices_of
from explorer.design import DesignBatch, LayerAxes
from explorer.device import first_problem
from explorer.document import Document
from explorer.errors import ExplorerError, SpecError
from explorer.search.candidates import CandidateTable
from explorer.session import Session

if TYPE_CHECKING:
    from explorer.app.main import App


_SESSION = TypeAdapter(Session)


class KeptDesigns(Document):
    """Designs of one session and how they are called; of it only what is not the default."""

    session: dict[str, JsonValue]
    labels: tuple[str, ...]
    designs: tuple[DesignRecord, ...]

    @classmethod
    def of(cls, session: Session, table: CandidateTable, rows: Sequence[int]) -> "KeptDesigns":
        """Rows of a table."""
        return cls(
            session=kept_session(session),
            labels=tuple(candidate_label(table, row) for row in rows),
            designs=tuple(DesignRecord.of(table.designs[row]) for row in rows),
        )

    def table(self, session: Session) -> CandidateTable:
        """The designs priced and judged again; SpecError when they are not of its network."""
        if len(self.labels) != len(self.designs) or not self.designs:
            raise SpecError(f"{len(self.designs)} designs and {len(self.labels)} labels")
        axes = LayerAxes.of(session.graph)
        batches = [
            DesignBatch.of(axes, [record.policy(session.graph)], record.setup.setup())
            for record in self.designs
        ]
        screened = session.problem.screen(DesignBatch.joined(batches), self.labels)
        return session.problem.place(screened)


class KeptSearch(Document):
    """How a search was asked for and how it ended, and designs it found."""

    run: Run
    sampler: str
    seed: int
    found: KeptDesigns


class KeptView(Document):
    """The whole page. `origin` is what the cell asked for: for another it is not used."""

    schema_version: Literal[1] = 1
    origin: dict[str, JsonValue]
    settings: Settings
    trials: int
    sampler: str
    seed: int
    fits_only: bool
    tab: int
    selected: str
    search: KeptSearch | None
    pins: tuple[KeptDesigns, ...]


@dataclass(frozen=True, kw_only=True)
class _Priced:
    """What has to be worked out before the page is touched."""

    found: Found | None
    pins: tuple[Selection, ...]


def kept_session(session: Session) -> dict[str, JsonValue]:
    """What of a session is not the default, as JSON has it."""
    values: dict[str, JsonValue] = _SESSION.dump_python(session, mode="json", exclude_defaults=True)
    return values


def kept_view(app: "App") -> KeptView:
    """What is to be kept of an app."""
    view, controls, bar = app.view, app.controls, app.search_bar
    search, selected = _kept_search(app), view.selected_id
    kind, _, row = selected.partition(":")
    if search is not None and kind in ("found", "old"):
        selected = f"{kind}:{_rows_of(view).index(int(row))}"
    return KeptView(
        origin=kept_session(app.origin),
        settings=controls.read(),
        trials=bar.trials.value,
        sampler=bar.sampler.value,
        seed=bar.seed.value,
        fits_only=view.fits_only,
        tab=app.tabs.box.selected_index or 0,
        selected=selected,
        search=search,
        pins=tuple(
            KeptDesigns.of(pin.session, pin.table, [pin.row]).model_copy(
                update={"labels": (pin.label,)}
            )
            for pin in app.pins.pins
        ),
    )


def restore(app: "App", kept: KeptView) -> None:
    """Show what was kept; SpecError, and nothing is changed, when it has no answer."""
    before, bar = app.controls.read(), app.search_bar
    try:
        _check("tab", kept.tab, range(len(app.tabs.box.children)))
        _check("sampler", kept.sampler, bar.sampler.options)
        priced = _priced(kept)
        app.show_question(kept.settings)
    except (ExplorerError, traitlets.TraitError, TypeError, ValueError, LookupError) as error:
        app.show_question(before)
        raise SpecError(str(error)) from error
    bar.trials.value, bar.sampler.value, bar.seed.value = kept.trials, kept.sampler, kept.seed
    app.tabs.box.selected_index = kept.tab
    app.point_bar.fits_only.value = kept.fits_only
    app.view = replace(app.view, found=priced.found, fits_only=kept.fits_only)
    if _is_there(app.view, kept.selected):
        app.view = replace(app.view, selected_id=kept.selected)
    for pin in priced.pins:
        app.pins.pin(pin)
    if kept.search is not None and priced.found is not None:
        search = kept.search
        app.searching.recall(priced.found.session, search.run, search.sampler, search.seed)


def _kept_search(app: "App") -> KeptSearch | None:
    found, searching = app.view.found, app.searching
    rows = [] if found is None else _rows_of(app.view)
    if found is None or not rows:
        return None
    run = searching.run
    ended = (
        run
        if run.phase in (Phase.DONE, Phase.FAILED, Phase.IDLE)
        else replace(run, phase=Phase.DONE)
    )
    return KeptSearch(
        run=ended,
        sampler=searching.sampler,
        seed=searching.seed,
        found=KeptDesigns.of(found.session, found.table, rows),
    )


def _rows_of(view: View) -> list[int]:
    """Rows of what was found that are kept: those offered, and the selected one."""
    fresh = replace(view, session=view.found.session) if view.found is not None else view
    names = [name for _, name in choices_of(replace(fresh, fits_only=False))]
    names.append(view.selected_id)
    rows = {
        int(row)
        for kind, _, row in (name.partition(":") for name in names)
        if kind in ("found", "old")
    }
    return sorted(rows)


def _priced(kept: KeptView) -> _Priced:
    found = None
    if kept.search is not None:
        session = _session(kept.search.found.session)
        found = Found(session=session, table=kept.search.found.table(session))
    pins = []
    for pin in kept.pins:
        session = _session(pin.session)
        table = pin.table(session)
        pins.append(Selection(session=session, label=pin.labels[0], table=table, row=0))
    return _Priced(found=found, pins=tuple(pins))


def _check(name: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        raise SpecError.of(name, value, ", ".join(map(str, allowed)))


def _session(values: dict[str, JsonValue]) -> Session:
    try:
        session = _SESSION.validate_python(values)
    except ValidationError as error:
        raise SpecError(f"session: {first_problem(error)}") from error
    if unknown := values.keys() - kept_session(session).keys():
        raise SpecError(f"session: {', '.join(sorted(unknown))} is not known or not needed")
    return session


def _is_there(view: View, selected: str) -> bool:
    """Whether an id names something of a view."""
    kind, _, rest = selected.partition(":")
    if kind == "known":
        return rest in view.known.labels
    is_row = kind in ("found", "old") and rest.isdecimal() and view.found is not None
    return selected == CHOICE or (is_row and int(rest) < len(view.found.table))  # type: ignore[union-attr]
