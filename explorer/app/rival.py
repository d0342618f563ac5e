"""What the selection is held against, and which number of the device decides between them."""

from collections.abc import Sequence
from html import escape

import numpy as np

from explorer.app.view import Selection, View, candidate_label
from explorer.costmodel.sensitivity import Contender, Decider, DeviceNumber, decider
from explorer.costmodel.uncertainty import Against
from explorer.graph import normalised
from explorer.search.candidates import CandidateTable
from explorer.search.sources import model_graph
from explorer.units import FloatArray, IntArray, format_bytes, format_count

_SAME = 1e-9
_NOTICED_RATIO = 1.01
_OF = "of a sample (modelled)"


def rival_of(view: View, chosen: Selection, pins: Sequence[Selection]) -> Selection | None:
    """The newest pin that is another design, else the nearest member of the front."""
    others = [pin for pin in pins if pin.table is not chosen.table or pin.row != chosen.row]
    if others:
        return others[-1]
    session, table = view.session, view.known
    if view.found is not None and not view.is_found_stale:
        session, table = view.found.session, view.found.table
    row = _nearest(table, chosen)
    if row is None:
        return None
    return Selection(session=session, label=candidate_label(table, row), table=table, row=row)


def compared_html(
    view: View, chosen: Selection, rival: Selection | None, against: Against | None
) -> str:
    """A sentence against the choice and one against the rival; one where these are one design."""
    found = None if rival is None else decider(_contender(chosen), _contender(rival))
    choice = "" if against is None else _choice_words(against)
    words = []
    if against is not None and (found is None or rival is None or not _is_choice(view, rival)):
        words.append(f"against {choice}, {against.time_ratio:.2g} times the time {_OF}")
        choice = ""
    if found is not None and rival is not None:
        words.append(decider_words(found, choice or _rival_words(rival, chosen)))
    notes = "".join(f'<div class="note">{escape(one)}</div>' for one in words)
    return f'<div class="explorer-html explorer-answer">{notes}</div>' if notes else ""


def decider_words(found: Decider, rival: str) -> str:
    """Against whom, which number, its interval and kind, and whether the order can change."""
    number, quantity = found.number, found.quantity
    low, high = sorted((found.low_ratio, found.high_ratio))
    name, precision = _name(number)
    words = f"against {rival}, {found.now_ratio:.2f} times the {quantity} {_OF}"
    if high / low < _NOTICED_RATIO:
        return f"{words}, and no number of {number.device} moves that by 1 % in its interval"
    words += (
        f"; what would change that most is the {name} of {number.device}{precision}, "
        f"{value_text(number, number.value)} ({number.kind.word}, 90 %: "
        f"{value_text(number, number.low)} to {value_text(number, number.high)}): "
        f"over that it runs from {low:.2f} to {high:.2f}"
    )
    if found.turns_at is None:
        return f"{words}, and the order stays"
    side = "below" if found.turns_at < number.value else "above"
    better = "less" if found.now_ratio > 1 else "more"
    turn = value_text(number, found.turns_at)
    return f"{words}, and at {turn} and {side} the selection takes {better}"


def value_text(number: DeviceNumber, value: float) -> str:
    """A value in the unit that the number's name ends in."""
    name = number.path.rpartition(".")[2]
    if name.endswith("bytes_per_s"):
        return f"{format_bytes(value)}/s"
    if name.endswith("_hz"):
        return f"{format_count(value)}Hz"
    if name.endswith("_w"):
        return f"{1e3 * value:.3g} mW"
    if name.endswith("_j_per_mac"):
        return f"{1e12 * value:.3g} pJ"
    return f"{value:.3g}" if value < 1000 else format_count(value)


def _choice_words(against: Against) -> str:
    """How sure it is that the selection is faster than the choice."""
    return (
        f"your choice {against.policy}: faster with probability {_chance(against.p_faster)}, "
        f"less energy with {_chance(against.p_less_energy)}"
    )


def _chance(share: float) -> str:
    """A share of draws; their number cannot tell the ends from certainty."""
    return "under 0.01" if share < 0.01 else "over 0.99" if share > 0.99 else f"{share:.2f}"


def _rival_words(rival: Selection, chosen: Selection) -> str:
    """Its name, with the network and the device where these are others."""
    theirs, ours = rival.session, chosen.session
    of = f" of {theirs.model}" if theirs.model != ours.model else ""
    on = f" on {theirs.device}" if theirs.device != ours.device else ""
    return f"{rival.label}{of}{on}"


def _is_choice(view: View, rival: Selection) -> bool:
    is_same = rival.table.designs[rival.row] == view.chosen.designs[0]
    return is_same and rival.session.profile == view.session.profile


def _name(number: DeviceNumber) -> tuple[str, str]:
    """`depthwise MACs per cycle`, and its precision in brackets where it has one."""
    parts = number.path.split(".")
    words = parts[-1].replace("_", " ").replace("macs", "MACs").replace("mac", "MAC")
    where = f"{parts[1]} " if parts[0] == "memory" else ""
    return f"{where}{words}", f" in {parts[1]}" if parts[0] == "kernels" else ""


def _contender(one: Selection) -> Contender:
    session = one.session
    return Contender(
        graph=normalised(model_graph(session.model), one.setup.norm),
        device=session.profile,
        designs=one.table.designs.take(np.array([one.row])),
    )


def _nearest(table: CandidateTable, chosen: Selection) -> int | None:
    """The member of the front that is most like the selection and not the same design."""
    rows = np.flatnonzero(table.on_front)
    if not len(rows):
        return None
    places, mine = _places(table, rows), _places(chosen.table, np.array([chosen.row]))
    spans = np.ptp(places, axis=0)
    distance = np.linalg.norm((places - mine) / np.where(spans > 0, spans, 1.0), axis=1)
    distance[~(distance > _SAME)] = np.inf
    nearest = int(np.argmin(distance))
    return int(rows[nearest]) if np.isfinite(distance[nearest]) else None


def _places(table: CandidateTable, rows: IntArray) -> FloatArray:
    """Worth and the logarithms of memory, which may be none, and energy [P, 3]."""
    memory, energy = np.log1p(table.memory_bytes[rows]), np.log(table.step_energy_j[rows])
    return np.column_stack([np.nan_to_num(table.score[rows]), memory, energy])
