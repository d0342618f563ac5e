"""Pinned designs side by side, as HTML.

The first column is what the others are held against: settings that differ are marked, and
numbers say how many times the first they are.
"""

from collections.abc import Callable, Sequence
from html import escape

from explorer.accuracy.metrics import METRIC_NAMES
from explorer.app.view import Selection, measured_text
from explorer.costmodel.report import Cost
from explorer.figures.points import worth_text
from explorer.units import format_bytes, format_count, format_joules, format_seconds

PIN_CAP = 4
_SETTINGS: tuple[tuple[str, Callable[[Selection], object]], ...] = (
    ("network", lambda pin: pin.session.model),
    ("device", lambda pin: pin.session.device),
    ("batch", lambda pin: pin.setup.effective_batch),
    ("micro-batch", lambda pin: pin.setup.micro_batch),
    ("normalisation", lambda pin: pin.setup.norm or "as in the network"),
    ("optimizer", lambda pin: pin.setup.optimizer),
    ("precision", lambda pin: pin.setup.precision),
    ("weight update", lambda pin: pin.setup.update_timing),
    ("recompute", lambda pin: pin.setup.recompute),
)
_NUMBERS: tuple[tuple[str, Callable[[Cost], float], Callable[[float], str]], ...] = (
    ("peak live memory", lambda cost: cost.memory["peak_live_bytes"], format_bytes),
    ("above inference", lambda cost: cost.memory["training_extra_bytes"], format_bytes),
    ("placed arena", lambda cost: cost.memory["arena_bytes"], format_bytes),
    ("time of a step", lambda cost: cost.step_time_s, format_seconds),
    ("energy of a step", lambda cost: cost.step_energy_j, format_joules),
    ("time of a session", lambda cost: cost.session["time_s"], format_seconds),
    ("energy of a session", lambda cost: cost.session["energy_j"], format_joules),
    ("trained parameters", lambda cost: cost.trained_parameters, format_count),
)
_EMPTY = (
    '<div class="explorer-html explorer-empty">Nothing is pinned. Select a design and press '
    "<b>Pin</b>; up to four stand here side by side, also of other networks and devices.</div>"
)


def compare_html(pins: Sequence[tuple[Selection, Cost]]) -> str:
    """A column a pinned design; an invitation when there is none."""
    if not pins:
        return _EMPTY
    heads = "".join(f'<th scope="col">{escape(pin.label)}</th>' for pin, _ in pins)
    rows = [_words(name, [str(value_of(pin)) for pin, _ in pins]) for name, value_of in _SETTINGS]
    rows.append(_words("fits", [_verdict(cost) for _, cost in pins]))
    rows.append(_words("worth", [_worth(pin) for pin, _ in pins]))
    rows += [
        _numbers(name, [float(value_of(cost)) for _, cost in pins], text_of)
        for name, value_of, text_of in _NUMBERS
    ]
    return (
        '<div class="explorer-html explorer-compare"><table>'
        f"<tr><th></th>{heads}</tr>{''.join(rows)}</table>"
        '<div class="note">Costs are modelled; bold: differs from the first.</div></div>'
    )


def _words(name: str, texts: Sequence[str]) -> str:
    cells = "".join(
        f"<td{' class=differs' if text != texts[0] else ''}>{escape(text)}</td>" for text in texts
    )
    return f"<tr><th scope='row'>{name}</th>{cells}</tr>"


def _numbers(name: str, values: Sequence[float], text_of: Callable[[float], str]) -> str:
    first, cells = values[0], ""
    for value in values:
        differs = value != first and value == value
        ratio = f" <small>x{value / first:.2f}</small>" if differs and first > 0 else ""
        cells += f"<td{' class=differs' if differs else ''}>{text_of(value)}{ratio}</td>"
    return f"<tr><th scope='row'>{name}</th>{cells}</tr>"


def _verdict(cost: Cost) -> str:
    over = [fit for fit in cost.fits if not fit.fits]
    if not over:
        return "fits"
    return "; ".join(
        f"{fit.level}: {format_bytes(fit.needed_bytes - fit.usable_bytes)} over" for fit in over
    )


def _worth(pin: Selection) -> str:
    """Scores are only comparable under one name, so the name stands beside the value."""
    table, row = pin.table, pin.row
    words = f"{worth_text(float(table.score[row]), table.score_name)} ({table.score_name})"
    measured = measured_text(table, row)
    name = METRIC_NAMES[table.worth.metric]
    return f"{words}; {measured} (measured {name})" if measured else words
