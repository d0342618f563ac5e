"""The answer for the selected design as HTML: whether it fits, what it costs, where it sits.

No formulas: every number is read from a cost, a comparison or a memory map. Everything
that is not a number of ours goes through `html.escape`.
"""

from collections.abc import Callable, Mapping
from html import escape

import numpy as np

from explorer.costmodel.memory_map import LevelUse
from explorer.costmodel.report import Cost, Estimate, Fit
from explorer.units import format_bytes, format_count, format_joules, format_seconds

_ALL = 100.0


def verdict_html(cost: Cost, label: str, worth_words: str) -> str:
    """What is selected, a bar against the limit for each memory level, and what to beware of."""
    bars = "".join(_fit_bar(cost, fit) for fit in cost.fits)
    warnings = "".join(f'<div class="warning">{escape(text)}</div>' for text in cost.warnings)
    return (
        f'<div class="explorer-html explorer-answer"><h4>{escape(label)}</h4>'
        f'<div class="levels">{bars}</div>{warnings}'
        f"<div>{escape(worth_words)}</div></div>"
    )


def numbers_html(cost: Cost) -> str:
    """Memory, time and energy of a step, and a whole session."""
    memory, session = cost.memory, cost.session
    rows = [
        ("peak live memory", format_bytes(memory["peak_live_bytes"]), "memory"),
        ("above inference", format_bytes(memory["training_extra_bytes"]), "memory"),
        ("placed arena", format_bytes(memory["arena_bytes"]), "memory"),
        ("time of a step", format_seconds(cost.step_time_s), "step.time_s"),
        ("energy of a step", format_joules(cost.step_energy_j), "step.energy_j"),
        (f"{session['steps']:,} steps", format_seconds(session["time_s"]), "session.time_s"),
        ("their energy", format_joules(session["energy_j"]), "session.energy_j"),
        ("trained parameters", format_count(cost.trained_parameters), "macs"),
    ]
    cells = "".join(
        f'<tr><td>{name}</td><td class="number">{value}</td>'
        f"<td>{_how_known(cost.provenance[path], _text_of(path))}</td></tr>"
        for name, value, path in rows
    )
    return (
        f'<div class="explorer-html explorer-answer"><table class="numbers">{cells}</table>'
        f'<div class="note">{_mac_words(cost.macs)} ({escape(cost.provenance["macs"].kind)})</div>'
        f"{_session_note(cost)}{_allocators(memory)}</div>"
    )


def levels_html(levels: tuple[LevelUse, ...]) -> str:
    """What each memory level holds when the fastest is used; nothing where there is one only."""
    if len(levels) < 2:
        return ""
    parts = [
        f'<span title="{format_bytes(use.traffic_bytes)} read and written in a pass">'
        f"{format_bytes(use.needed_bytes)} of {format_bytes(use.usable_bytes)} in "
        f"{escape(use.level)}{' (the busiest buffers)' if use.holds == 'inner' else ''}</span>"
        for use in sorted(levels, key=lambda use: use.usable_bytes)
    ]
    words = f"by memory level: {', '.join(parts)} (modelled)"
    return f'<div class="explorer-html explorer-answer"><div class="note">{words}</div></div>'


def fit_line(fit: Fit) -> str:
    """`L2: needs 212 KiB of 1.46 MiB usable: fits`, or by how many bytes it does not."""
    head = (
        f"{fit.level}: needs {format_bytes(fit.needed_bytes)} "
        f"of {format_bytes(fit.usable_bytes)} usable"
    )
    if fit.fits:
        return f"{head}: fits"
    over = fit.needed_bytes - fit.usable_bytes
    return f"{head}: does not fit, {over:,.0f} bytes ({format_bytes(over)}) over"


def error_html(sentence: str) -> str:
    """One sentence, or nothing."""
    return f'<div class="explorer-error" role="alert">{escape(sentence)}</div>' if sentence else ""


def note_html(sentence: str) -> str:
    """One sentence that is no error, or nothing."""
    return f'<div class="explorer-text" role="status">{escape(sentence)}</div>' if sentence else ""


def _fit_bar(cost: Cost, fit: Fit) -> str:
    """A bar as long as the larger of need and limit, with a mark at the limit.

    Spaces part the words where a page drops the style sheet.
    """
    longest = max(fit.needed_bytes, fit.usable_bytes, 1.0)
    need, limit = _ALL * fit.needed_bytes / longest, _ALL * max(fit.usable_bytes, 0.0) / longest
    over = fit.needed_bytes - fit.usable_bytes
    look, verdict = ("fits", "fits") if fit.fits else ("misfit", f"{format_bytes(over)} over")
    known = cost.provenance.get(f"fits.{fit.level}.usable_bytes")
    words = (
        f"{format_bytes(fit.needed_bytes)} ({_how_known(cost.provenance['memory'])}) "
        f"of {format_bytes(fit.usable_bytes)} usable"
    )
    words += f" ({_how_known(known)})" if known else ""
    words += "" if fit.fits else f", {over:,.0f} bytes over"
    return (
        f'<b>{escape(fit.level)}</b><div class="bar {look}">'
        f'<i class="need" style="width:{need:.1f}%"></i>'
        f'<i class="limit" style="left:{limit:.1f}%"></i></div>'
        f'<b class="{look}">{verdict}</b> <small>{words}</small> '
    )


def _text_of(path: str) -> Callable[[float], str] | None:
    """How the interval of a number is written; None for counts, which have none."""
    if path.endswith("time_s"):
        return format_seconds
    return format_joules if path.endswith("energy_j") else None


def _how_known(estimate: Estimate, text_of: Callable[[float], str] | None = None) -> str:
    """The kind, with the 90 % interval where there is one; who says so appears on hover."""
    words = estimate.kind
    if text_of and estimate.low is not None and estimate.high is not None:
        words += f", 90 %: {text_of(estimate.low)} to {text_of(estimate.high)}"
    return f'<span title="{escape(estimate.source)}">{escape(words)}</span>'


def _mac_words(macs: Mapping[str, float]) -> str:
    backward = macs["input_grad"] + macs["weight_grad"]
    words = (
        f"MACs of a sample: {format_count(macs['forward'])} forward, "
        f"{format_count(backward)} backward"
    )
    again, once = macs["recompute"], macs["per_pass"]
    words += f", {format_count(again)} run again" if again else ""
    return words + (f", {format_count(once)} once a micro-batch" if once else "")


def _session_note(cost: Cost) -> str:
    """What a session of so many steps rests on."""
    session = cost.session
    words = f"{session['samples']:,} samples kept in {format_bytes(session['sample_bytes'])}"
    if session["selection_time_s"]:
        chosen = format_seconds(session["selection_time_s"])
        words = f"{chosen} of the session to choose channels, {words}"
    return f'<div class="note">{words} ({_how_known(cost.provenance["session"])} plan)</div>'


def _allocators(memory: Mapping[str, float]) -> str:
    """What knowing every lifetime is worth; nothing under an accounting without an arena."""
    ahead, in_order = memory["arena_bytes"], memory["runtime_arena_bytes"]
    if not np.isfinite(ahead):
        return ""
    return (
        f'<div class="note">placed ahead {format_bytes(ahead)}; a run-time allocator in order '
        f"of need: {format_bytes(in_order)}, {in_order / ahead - 1:+.0%} (modelled)</div>"
    )
