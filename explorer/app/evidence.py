"""Where each number of the selected design comes from, as HTML."""

from collections.abc import Sequence
from html import escape

from explorer.accuracy.published_points import PublishedTable
from explorer.costmodel.report import Cost, Estimate
from explorer.design import TrainingSetup
from explorer.figures.published import row_words
from explorer.units import format_bytes, format_joules, format_seconds

_FORMATS = (("_bytes", format_bytes), ("time_s", format_seconds), ("energy_j", format_joules))


def evidence_html(cost: Cost, worth_words: str, left_out: Sequence[str] = ()) -> str:
    """How each number is known, its 90 % interval, and the sources; equal sources once.

    `left_out` are sentences on measured runs that are not shown.
    """
    groups: dict[str, list[tuple[str, Estimate]]] = {}
    for path, estimate in cost.provenance.items():
        groups.setdefault(estimate.source, []).append((path, estimate))
    rows = "".join(_rows(source, members) for source, members in groups.items())
    notes = "".join(f'<div class="note">{escape(sentence)}</div>' for sentence in left_out)
    return (
        '<div class="explorer-html explorer-evidence"><table><tr><th>number</th><th>kind</th>'
        f"<th>90 % interval</th><th>where from</th></tr>{rows}</table>"
        f'<div class="note">Worth: {escape(worth_words)}. A proxy score only orders designs; what '
        f"one reaches is measured by real fine-tuning alone.</div>{notes}</div>"
    )


def published_html(tables: Sequence[PublishedTable], setup: TrainingSetup) -> str:
    """What others printed of this network on this board, and why it is not on the panels."""
    return "".join(_published(table, setup) for table in tables)


def _published(table: PublishedTable, setup: TrainingSetup) -> str:
    rows = "".join(
        f"<tr><td>{escape(f'{table.system} {row.method}')}</td><td>published</td>"
        f"<td>{row_words(row)}</td><td>{escape(row.note)}</td></tr>"
        for row in table.row
    )
    reason = table.reason_against(setup.effective_batch, setup.precision)
    words = [f"{table.cite}. Measured with: {table.conditions}", f"May differ: {table.differs}"]
    words += [f"Not on the panels, because {reason}"] if reason else []
    return (
        '<div class="explorer-html explorer-evidence explorer-published"><table><tr>'
        f"<th>published by others</th><th>kind</th><th>of an update of {table.batch}</th>"
        "<th>note</th></tr>"
        f'{rows}</table><div class="note">{escape(". ".join(words))}.</div></div>'
    )


def _rows(source: str, members: list[tuple[str, Estimate]]) -> str:
    parts = "".join(f"<li>{escape(part)}</li>" for part in source.split("; "))
    cited = f'<td class="source" rowspan="{len(members)}"><ul>{parts}</ul></td>'
    rows = ""
    for path, estimate in members:
        rows += (
            f"<tr><td>{escape(path)}</td><td>{escape(estimate.kind)}</td>"
            f"<td>{_interval(path, estimate)}</td>{cited}</tr>"
        )
        cited = ""
    return rows


def _interval(path: str, estimate: Estimate) -> str:
    text_of = next((text for end, text in _FORMATS if path.endswith(end)), None)
    if estimate.low is None or estimate.high is None or text_of is None:
        return ""
    return f"{text_of(estimate.low)} to {text_of(estimate.high)}"
