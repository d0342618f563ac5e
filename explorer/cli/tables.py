"""Candidates and fronts as tables in the terminal."""

from collections.abc import Iterable
from dataclasses import replace
from math import isfinite

import numpy as np
from rich.progress import Progress

from explorer.accuracy.metrics import METRIC_NAMES
from explorer.accuracy.progress import CancelledError
from explorer.cli.shared import console, print_rows
from explorer.refining import Measure, refine
from explorer.search.candidates import CandidateTable, ParetoFront
from explorer.search.control import SearchControl
from explorer.search.refinement import Refinement
from explorer.session import Session
from explorer.units import format_bytes, format_joules, format_seconds

MOST_ROWS = 20  # of a front in the terminal


def print_table(
    table: CandidateTable, title: str, setup_fields: Iterable[str] | None = None
) -> None:
    """Candidates as rows, every score with its kind, and what differs among their setups."""
    rows = []
    setups = table.designs.setup_columns(setup_fields).items()
    forgotten, metric = table.worth.forgotten, METRIC_NAMES[table.worth.metric]
    has_source = bool(np.isfinite(forgotten).any())
    has_measured = bool(np.isfinite(table.worth.measured).any())
    kinds = {kind.word for kind in table.score_kind}
    score = f"{table.score_name} ({kinds.pop()})" if len(kinds) == 1 else table.score_name
    for row in range(len(table)):
        label = table.labels[row] or table.designs.families[row]
        rows.append(
            {
                "policy": label,
                score: f"{table.score[row]:.3f}"
                + (f" ({table.score_kind[row].word})" if kinds else ""),
                **({f"{metric} (measured, fp32)": _measured(table, row)} if has_measured else {}),
                **({"source lost (measured)": _lost(forgotten[row])} if has_source else {}),
                "peak RAM": format_bytes(float(table.peak_live_bytes[row])),
                "above inference": format_bytes(float(table.training_extra_bytes[row])),
                "step": format_seconds(float(table.step_time_s[row])),
                "energy": format_joules(float(table.step_energy_j[row])),
                "fits": "yes" if table.feasible[row] else "no",
                **({"setup": _setup_text(setups, row)} if setups else {}),
            }
        )
    print_rows(rows, f"{title} (memory, time and energy modelled)")


def question_words(session: Session) -> str:
    """`batch 8 by 1, adam, fp32, deferred updates`: the setup and what the application keeps."""
    setup = session.setup
    batch, micro = setup.effective_batch, setup.micro_batch
    words = [f"batch {batch}" + (f" by {micro}" if micro < batch else "")]
    words += [setup.optimizer, setup.precision, f"{setup.update_timing} updates"]
    words += [f"norm {setup.norm}"] if setup.norm else []
    words += [f"recompute {setup.recompute}"] if setup.recompute != "none" else []
    kept = {"RAM": session.reserve_bytes, "flash": session.flash_reserve_bytes}
    words += [f"{format_bytes(size)} of {level} kept" for level, size in kept.items() if size]
    return ", ".join(words)


def print_front(front: ParetoFront) -> None:
    """The front, its share of the optimum, and what the closest needs when nothing fits.

    Of a long front an even share is shown, from the least memory to the most, and its knee.
    """
    table, knee = front.table.take(front.rows), front.knee()
    places = np.linspace(0, len(table) - 1, min(len(table), MOST_ROWS)).round().astype(np.int64)
    shown = front.rows[np.isin(front.rows, [*front.rows[places], knee])]
    few, names = front.table.take(shown), front.table.designs.families
    labels = (
        f"{label or names[row]} (knee)" if row == knee else label
        for row, label in zip(shown, few.labels, strict=True)
    )
    title = f"front of {len(table)}"
    if len(shown) < len(table):
        title += f", {len(shown)} shown; --json and --out have all"
    print_table(replace(few, labels=tuple(labels)), title, front.table.designs.setup_columns())
    if not table.feasible.any():
        least = format_bytes(float(table.peak_live_bytes.min()))
        limits = "".join(f", {limit.sentence}" for limit in front.limits)
        console.print(f"nothing fits{limits}: the closest needs {least} of RAM", style="red")
    if front.refinement is not None:
        print_refinement(front, front.refinement)
    for note in front.notes:
        console.print(note)
    if front.exact_hypervolume_ratio is not None:
        share = f"{front.exact_hypervolume_ratio:.1%}"
        console.print(f"{share} of the additive-proxy optimum (not about accuracy)")


def print_refinement(front: ParetoFront, refinement: Refinement) -> None:
    """What was measured and how the front moved; nothing measured is mixed into the score."""
    table, metric = front.table, METRIC_NAMES[refinement.metric]
    rows = [
        {
            "candidate": one.row,
            "policy": table.labels[one.row] or table.designs.families[one.row],
            "why": one.why,
            "score before": f"{one.score_before:.3f}",
            f"{metric} (measured)": _merit(one.measured, one.measured_error),
            "on the measured front": "yes" if one.on_measured_front else "no",
        }
        for one in refinement.choices
    ]
    title = f"measured on {refinement.episodes} episodes, seed {refinement.seed}"
    print_rows(rows, title)
    if np.isfinite(refinement.tau):
        console.print(f"Kendall's tau of score and measured {metric}: {refinement.tau:.2f}")
    if refinement.reason_against:
        console.print(f"the score stays as it was: {refinement.reason_against}")
        return
    console.print(
        f"searched on with predicted {metric}: {refinement.kept_count} of "
        f"{refinement.kept_count + refinement.left_count} members stayed, "
        f"{refinement.entered_count} came; hypervolume "
        f"{refinement.hypervolume_before:.4f} to {refinement.hypervolume_after:.4f}"
    )


def refined(
    session: Session,
    front: ParetoFront,
    count: int,
    how: Measure,
    space: str,
    progress: Progress,
    control: SearchControl,
) -> ParetoFront:
    """The front with some of it measured, with a bar."""
    bar = progress.add_task("measure", total=count)

    def told(design: int, designs: int, done: int, total: int) -> None:
        progress.update(bar, total=designs, completed=design + done / total)

    try:
        return refine(session, front, count, how, space=space, on_tuned=told, control=control)
    except CancelledError as error:
        note = f"{error}; what was measured is kept, and the same command goes on"
        return replace(front, notes=(*front.notes, note))


def _setup_text(columns: Iterable[tuple[str, list[object]]], row: int) -> str:
    """`micro batch 2, norm gn`: what differs among the rows."""
    parts = [
        f"{name.replace('_', ' ')} {column[row] or 'own'}"
        for name, column in columns
        if name != "accumulation_steps"  # what the micro-batch leaves of the batch
    ]
    return ", ".join(parts)


def _lost(share: float) -> str:
    """`2.6 pp`, percent points of accuracy on the source."""
    return f"{100 * share:.1f} pp" if isfinite(share) else ""


def _measured(table: CandidateTable, row: int) -> str:
    return _merit(table.worth.measured[row], table.worth.measured_error[row])


def _merit(share: float, error: float) -> str:
    """`54.0% ± 2.1%`; one episode has no error, and a design that is not measured nothing."""
    if not isfinite(share):
        return ""
    return f"{share:.1%} ± {error:.1%}" if isfinite(error) else f"{share:.1%}"
