"""Candidates and fronts as tables in the terminal."""

from collections.abc import Iterable

import numpy as np

from explorer.cli.shared import console, print_rows
from explorer.search.candidates import CandidateTable, ParetoFront
from explorer.units import format_bytes, format_joules, format_seconds


def print_table(table: CandidateTable, title: str) -> None:
    """Candidates as rows, every score with its kind."""
    rows = []
    setups = table.designs.setup_columns().items()
    for row in range(len(table)):
        label = table.labels[row] or table.designs.families[row]
        rows.append(
            {
                "policy": label,
                table.score_name: f"{table.score[row]:.3f} ({table.score_kind[row].word})",
                "accuracy (measured, fp32)": _measured(table, row),
                "peak RAM": format_bytes(float(table.peak_live_bytes[row])),
                "above inference": format_bytes(float(table.training_extra_bytes[row])),
                "step": format_seconds(float(table.step_time_s[row])),
                "energy": format_joules(float(table.step_energy_j[row])),
                "fits": "yes" if table.feasible[row] else "no",
                **({"setup": _setup_text(setups, row)} if setups else {}),
            }
        )
    print_rows(rows, f"{title} (memory, time and energy modelled)")


def print_front(front: ParetoFront) -> None:
    """The front, its share of the optimum, and what the closest needs when nothing fits."""
    table = front.table.take(front.rows)
    print_table(table, f"front of {len(table)}")
    if not table.feasible.any():
        least = format_bytes(float(table.peak_live_bytes.min()))
        console.print(f"nothing fits: the closest needs {least} of RAM", style="red")
    for note in front.notes:
        console.print(note)
    if front.exact_hypervolume_ratio is not None:
        share = f"{front.exact_hypervolume_ratio:.1%}"
        console.print(f"{share} of the additive-proxy optimum (not about accuracy)")


def _setup_text(columns: Iterable[tuple[str, list[object]]], row: int) -> str:
    """`micro batch 2, norm gn`: what differs among the rows."""
    parts = [f"{name.replace('_', ' ')} {column[row] or 'own'}" for name, column in columns]
    return ", ".join(parts)


def _measured(table: CandidateTable, row: int) -> str:
    accuracy, error = table.worth.measured[row], table.worth.measured_error[row]
    return f"{accuracy:.1%} ± {error:.1%}" if np.isfinite(accuracy) else ""
