"""What a notebook keeps of its app: the question, the search, the selected point, pins, the tab.

Costs are not kept: designs are priced again. Of a search its front is kept, and as many of the
other designs as the panels draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import traitlets
from pydantic import JsonValue

from explorer.app.kept_designs import KeptDesigns, kept_session
from explorer.app.state import Phase, Run, Settings
from explorer.app.view import CHOICE, Found, Selection, View
from explorer.document import Document
from explorer.errors import ExplorerError, SpecError
from explorer.figures.thinning import POINT_CAP

if TYPE_CHECKING:
    from explorer.app.main import App

FOUND = ("found", "old")  # how ids begin that name a row of what was found


class KeptSearch(Document):
    """How a search was asked for and how it ended, and designs it found."""

    run: Run
    sampler: str
    seed: int
    volumes: tuple[tuple[int, float], ...]
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


def kept_view(app: "App") -> KeptView:
    """What is to be kept of an app."""
    view, controls, bar = app.view, app.controls, app.search_bar
    selected = view.selected_id
    kind, _, row = selected.partition(":")
    if view.found is not None and kind in FOUND:
        selected = f"{kind}:{_rows_of(view.found, selected).index(int(row))}"
    return KeptView(
        origin=kept_session(app.origin),
        settings=controls.read(),
        trials=bar.trials.value,
        sampler=bar.sampler.value,
        seed=bar.seed.value,
        fits_only=view.fits_only,
        tab=app.tabs.box.selected_index or 0,
        selected=selected,
        search=_kept_search(app),
        pins=tuple(
            KeptDesigns.of(pin.session, pin.table, [pin.row], [pin.label]) for pin in app.pins.pins
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
        app.searching.recall(
            priced.found.session, search.run, search.sampler, search.seed, search.volumes
        )


def _kept_search(app: "App") -> KeptSearch | None:
    found, searching = app.view.found, app.searching
    if found is None:
        return None
    run = searching.last_run
    is_over = run.phase in (Phase.DONE, Phase.FAILED, Phase.IDLE)
    return KeptSearch(
        run=run if is_over else replace(run, phase=Phase.DONE),
        sampler=searching.sampler,
        seed=searching.seed,
        volumes=tuple(searching.volumes),
        found=KeptDesigns.of(found.session, found.table, _rows_of(found, app.view.selected_id)),
    )


def _rows_of(found: Found, selected_id: str) -> list[int]:
    """Rows that are kept: the front, the selected one, and of others an even share."""
    table = found.table
    keep = table.on_front.copy()
    kind, _, row = selected_id.partition(":")
    if kind in FOUND:
        keep[int(row)] = True
    others = np.flatnonzero(~keep)
    room = max(POINT_CAP - int(keep.sum()), 0)
    if len(others) > room:
        others = others[np.linspace(0, len(others) - 1, room).round().astype(np.int64)]
    keep[others] = True
    rows: list[int] = np.flatnonzero(keep).tolist()
    return rows


def _priced(kept: KeptView) -> _Priced:
    found = None
    if kept.search is not None:
        session = kept.search.found.asked()
        found = Found(session=session, table=kept.search.found.table(session))
    pins = []
    for pin in kept.pins:
        session = pin.asked()
        table = pin.table(session)
        pins.append(Selection(session=session, label=pin.labels[0], table=table, row=0))
    return _Priced(found=found, pins=tuple(pins))


def _check(name: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        raise SpecError.of(name, value, ", ".join(map(str, allowed)))


def _is_there(view: View, selected: str) -> bool:
    """Whether an id names something of a view."""
    kind, _, rest = selected.partition(":")
    if kind == "known":
        return rest in view.known.labels
    is_row = kind in FOUND and rest.isdecimal() and view.found is not None
    return selected == CHOICE or (is_row and int(rest) < len(view.found.table))  # type: ignore[union-attr]
