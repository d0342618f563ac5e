"""From a session and its tables to what is shown: points, the selection, the list of points.

Ids name designs for as long as they mean the same: `choice`, `known:LABEL`,
`found:ROW`, `old:ROW`. A table of a search only grows, so its rows keep their ids.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from explorer.accuracy.metrics import ACCURACY, METRIC_NAMES
from explorer.accuracy.published_points import PublishedTable, tables_about
from explorer.costmodel.report import Cost
from explorer.design import TrainingSetup
from explorer.figures.points import Budget, Mark, Points, worth_text
from explorer.figures.published import marks_of
from explorer.figures.thinning import POINT_CAP, even_share
from explorer.figures.traces import TradeoffData
from explorer.figures.tradeoff import tradeoff_data
from explorer.provenance import Kind
from explorer.search.candidates import CandidateTable
from explorer.search.picks import KNEE, choose
from explorer.session import Session
from explorer.units import BoolArray, IntArray, format_bytes, format_joules

CHOICE = "choice"
LIST_CAP = 24
_STREAM_LIMITS: dict[str, Any] = {"cap": 500, "cell": 0.03}  # points a panel, and their distance
PICKED = {KNEE: KNEE, "max-accuracy": "best", "cheapest-near-best": "cheapest-near-best"}
MEMORY_NAMES = {"peak": "peak live memory", "above-inference": "memory above inference"}
MEASURED_PRECISION = "fp32"  # what our trainer computes in, whatever setup is asked about


@dataclass(frozen=True, kw_only=True)
class Found:
    """Candidates of a search and the session that searched."""

    session: Session
    table: CandidateTable


@dataclass(frozen=True, kw_only=True)
class View:
    """The last good state of the page: the choice, the known policies, what was found."""

    session: Session
    cost: Cost
    chosen: CandidateTable
    known: CandidateTable
    found: Found | None = None
    selected_id: str = CHOICE
    fits_only: bool = False

    @property
    def is_found_stale(self) -> bool:
        """Whether what was found belongs to another setup than the controls say."""
        return self.found is not None and not same_space(self.found.session, self.session)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The selected design: a row of a table and the session that made it."""

    session: Session
    label: str
    table: CandidateTable
    row: int

    @property
    def setup(self) -> TrainingSetup:
        """The setup it trains under."""
        return self.table.designs.row_setups[self.row]

    @property
    def worth_words(self) -> str:
        """`accuracy 71.2 % (measured)`, or a proxy score and what the ledger measured."""
        value = worth_text(float(self.table.score[self.row]), self.table.score_name)
        words = f"{self.table.score_name} {value} ({self.table.score_kind[self.row].word})"
        measured = measured_text(self.table, self.row)
        if self.table.worth.is_merit or not measured:
            return words
        return (
            f"{words}; {METRIC_NAMES[self.table.worth.metric]} on {self.session.task_name} "
            f"{measured} (measured, trained in {MEASURED_PRECISION})"
        )


def measured_text(table: CandidateTable, row: int) -> str:
    """`71.2 % ± 3.1 %`, of the table's metric; empty where it was not measured."""
    measured, error = float(table.worth.measured[row]), float(table.worth.measured_error[row])
    spread = f" ± {error:.1%}" if np.isfinite(error) else ""  # one run has none
    return f"{measured:.1%}{spread}" if np.isfinite(measured) else ""


def same_space(one: Session, other: Session) -> bool:
    """Whether two sessions search the same designs at the same costs by the same metric."""
    asked = replace(one, policy=other.policy, metric=None) == replace(other, metric=None)
    return asked and one.metric_column == other.metric_column and one.setup == other.setup


def panels_of(view: View, *, is_streaming: bool = False) -> TradeoffData:
    """The three panels; as long as points stream in, with fewer of those that are dominated."""
    limits = _STREAM_LIMITS if is_streaming else {}
    points = points_of(view, limits.get("cap", POINT_CAP))
    return tradeoff_data(points, view.selected_id, **limits)


def points_of(view: View, cap: int = POINT_CAP) -> Points:
    """What there is to draw; stale points only while they can be compared.

    Of a search that found more than `cap`, an even share besides its front, what was measured
    and the selection.
    """
    measured = view.session.metric is not None
    ids, labels = _known_ids(view.known), view.known.labels
    known = _table_points(view.known, ids, labels, known=True, only_measured=measured)
    parts = [_table_points(view.chosen, (CHOICE,), (_choice_label(view),), only_measured=measured)]
    found = view.found
    if found is not None:
        stale = view.is_found_stale
        comparable = found.session.model == view.session.model
        comparable &= found.table.score_name == view.known.score_name
        comparable &= found.session.memory_objective == view.session.memory_objective
        comparable &= found.session.metric_column == view.session.metric_column
        if comparable:
            rows = _drawn_rows(view, found, cap)
            shown = _found_points(found.table, rows, stale=stale, only_measured=measured)
            parts.append(shown)
    objective = view.session.memory_objective
    return replace(
        known.join(parts),
        choice_id=CHOICE,
        budgets=(_budget(view),) if objective == "peak" else (),
        marks=_marks(view),
        memory_name=MEMORY_NAMES[objective],
        memory_kind=Kind.of(view.cost.provenance["memory"].kind),
        energy_kind=Kind.of(view.cost.provenance["step.energy_j"].kind),
    )


def selection_of(view: View) -> Selection:
    """What `selected_id` stands for; the choice when it is gone."""
    kind, _, rest = view.selected_id.partition(":")
    if kind == "known" and rest in view.known.labels:
        return Selection(
            session=view.session, label=rest, table=view.known, row=view.known.labels.index(rest)
        )
    if kind in ("found", "old") and view.found is not None and int(rest) < len(view.found.table):
        row = int(rest)
        label = candidate_label(view.found.table, row)
        label += " (earlier setup)" if view.is_found_stale else ""
        return Selection(session=view.found.session, label=label, table=view.found.table, row=row)
    return Selection(session=view.session, label=_choice_label(view), table=view.chosen, row=0)


def nearest_misfit(view: View) -> Selection | None:
    """The known policy of the smallest violation when none fits, else None."""
    known = view.known
    if len(known) == 0 or known.feasible.any():
        return None
    row = int(np.argmin(np.maximum(known.violations, 0).sum(axis=1)))
    return Selection(session=view.session, label=known.labels[row], table=known, row=row)


def picks_of(view: View) -> list[Selection]:
    """Three of the front, each once; none without a search of what the controls say."""
    found = view.found
    if found is None or view.is_found_stale:
        return []
    table, rows = found.table, np.flatnonzero(found.table.on_front)
    if not len(rows):
        return []
    fits = table.feasible[rows]
    picks = {name: choose(name, table.values[rows], table.objectives, fits).row for name in PICKED}
    names: dict[int, str] = {}
    for which, pick in picks.items():
        row, name = int(rows[pick]), PICKED[which]
        names[row] = f"{names[row]}, {name}" if row in names else name
    return [
        Selection(
            session=found.session,
            label=f"{name}: {candidate_label(table, row)}",
            table=table,
            row=row,
        )
        for row, name in names.items()
    ]


def rejudged(view: View) -> View:
    """The same designs at the same costs after more of them was measured."""
    session, found = replace(view.session), view.found
    if found is not None:
        searched, table = replace(found.session), found.table
        worth = searched.problem.judge.worth(table.designs, table.costs)
        found = Found(session=searched, table=replace(table, worth=worth))
    return replace(
        view, session=session, chosen=session.chosen(), known=session.compare(), found=found
    )


def candidate_label(table: CandidateTable, row: int) -> str:
    """How a row of a search is called."""
    return table.labels[row] or f"candidate {row}"


def choices_of(view: View) -> list[tuple[str, str]]:
    """Texts and ids for the list of points: the choice, known policies, the front by memory."""
    rows = [("your choice", CHOICE)]
    setups = view.known.designs.row_setups
    rows += [
        (f"{_line(view.known, row, label)}{_batch_words(view, setups[row])}", f"known:{label}")
        for row, label in enumerate(view.known.labels)
    ]
    found = view.found
    if found is not None and not view.is_found_stale:
        front = _found_rows(view, found)
        front = front[found.table.on_front[front]]
        front = front[np.argsort(found.table.memory_bytes[front], kind="stable")]
        if len(front) > LIST_CAP:
            front = front[np.linspace(0, len(front) - 1, LIST_CAP).round().astype(np.int64)]
        rows += [
            (_line(found.table, int(row), candidate_label(found.table, int(row))), f"found:{row}")
            for row in front
        ]
    if view.selected_id not in {name for _, name in rows}:
        rows.append((selection_of(view).label, view.selected_id))
    return rows


def _line(table: CandidateTable, row: int, label: str) -> str:
    return (
        f"{label}: {format_bytes(table.memory_bytes[row])}, "
        f"{format_joules(table.step_energy_j[row])}"
    )


def _batch_words(view: View, setup: TrainingSetup) -> str:
    """Where a known policy is under another batch than the choice: `, batch 8 by 1`."""
    own = view.session.setup
    if (setup.effective_batch, setup.micro_batch) == (own.effective_batch, own.micro_batch):
        return ""
    return f", batch {setup.effective_batch} by {setup.micro_batch}"


def _known_ids(table: CandidateTable) -> tuple[str, ...]:
    return tuple(f"known:{label}" for label in table.labels)


def _table_points(
    table: CandidateTable,
    ids: tuple[str, ...],
    labels: Iterable[str],
    *,
    known: bool = False,
    stale: bool = False,
    only_measured: bool = False,
    rows: IntArray | None = None,
) -> Points:
    rows = np.arange(len(table)) if rows is None else rows
    worth = table.worth
    kinds = (Kind(int(code)) for code in worth.kind[rows])
    words = {
        row: f"{METRIC_NAMES[worth.metric]} {measured_text(table, row)} (measured)"
        for row in map(int, rows[np.isfinite(worth.measured[rows])])
    }
    return Points(
        ids=ids,
        labels=tuple(labels),
        worth=worth.measured[rows] if only_measured else table.score[rows],
        worth_name=METRIC_NAMES[worth.metric] if only_measured else table.score_name,
        worth_kind=tuple(Kind.MEASURED if only_measured else kind for kind in kinds),
        measured=tuple(words.get(int(row), "") for row in rows),
        memory_bytes=table.memory_bytes[rows],
        energy_j=table.step_energy_j[rows],
        feasible=table.feasible[rows],
        on_front=table.on_front[rows] if not known else _none(len(rows)),
        known=~_none(len(rows)) if known else _none(len(rows)),
        stale=~_none(len(rows)) if stale else _none(len(rows)),
    )


def _found_rows(view: View, found: Found) -> IntArray:
    """Rows of a search that are not shown as known policies already, under the same setup."""
    known = set(zip(view.known.labels, view.known.designs.row_setups, strict=True))
    labels, setups = found.table.labels, found.table.designs.row_setups
    named = [row for row, label in enumerate(labels) if label]  # few are, and setups hash slowly
    twice = [row for row in named if (labels[row], setups[row]) in known]
    rows = np.delete(np.arange(len(found.table)), twice)
    return rows[found.table.feasible[rows]] if view.fits_only else rows


def _drawn_rows(view: View, found: Found, cap: int) -> IntArray:
    """Rows of a search to draw: texts for each of ten thousand would take longer than the rest."""
    rows = _found_rows(view, found)
    kind, _, selected = view.selected_id.partition(":")
    keep = found.table.on_front[rows] & ~np.bool_(view.is_found_stale)
    keep = keep | np.isfinite(found.table.worth.measured[rows])
    if kind in ("found", "old"):
        keep = keep | (rows == int(selected))
    return rows[even_share(keep, found.table.memory_bytes[rows], cap)]


def _found_points(
    table: CandidateTable, rows: IntArray, *, stale: bool, only_measured: bool
) -> Points:
    prefix = "old" if stale else "found"
    return _table_points(
        table,
        tuple(f"{prefix}:{row}" for row in rows),
        (candidate_label(table, row) for row in rows),
        stale=stale,
        only_measured=only_measured,
        rows=rows,
    )


def _choice_label(view: View) -> str:
    return f"your choice: {view.session.policy}"


def _budget(view: View) -> Budget:
    session = view.session
    level = session.profile.ram
    limit_bytes = float(level.usable_bytes - session.reserve_bytes)
    source = view.cost.provenance.get(f"fits.{level.name}.usable_bytes")
    kind = f" ({source.kind})" if source else ""
    label = f"{level.name} {format_bytes(limit_bytes)}{kind}"
    return Budget(label=label, limit_bytes=limit_bytes)


def _marks(view: View) -> tuple[Mark, ...]:
    """Published points of this network, board and task whose updates are of this setup."""
    setup, is_peak = view.chosen.designs.setup, view.session.memory_objective == "peak"
    metric, worth = view.session.metric, view.known.worth
    is_accuracy = worth.is_accuracy if metric is None else worth.metric == ACCURACY
    return tuple(
        mark
        for table in published_of(view.session)
        if not table.reason_against(setup.effective_batch, setup.precision)
        for mark in marks_of(table, is_accuracy=is_accuracy, is_peak=is_peak)
    )


def published_of(session: Session) -> tuple[PublishedTable, ...]:
    """What others published of a session's network on its board and task."""
    return tables_about(session.model, session.device, session.task_name)


def _none(count: int) -> BoolArray:
    return np.zeros(count, dtype=bool)
