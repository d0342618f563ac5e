"""The selected design layer by layer, and its memory part by part, as HTML.

Everything that is not a number of ours goes through `html.escape`.
"""

import itertools
from collections.abc import Sequence
from html import escape

import numpy as np

from explorer.costmodel.report import Cost, Fit
from explorer.figures import theme
from explorer.figures.layers import LayersData, layers_data
from explorer.figures.memory import MemoryData, memory_data
from explorer.units import BoolArray, format_bytes, format_count

_COLUMNS = (("layer", 38), ("trained", 11), ("", 9), ("MACs", 8), ("", 12), ("kept", 7), ("", 15))
_INK = "var(--jp-ui-font-color1)"
_HEADS = "".join(f'<th style="width:{width}%">{name}</th>' for name, width in _COLUMNS)


def details_html(cost: Cost) -> str:
    """What trains, and where the memory of a step goes."""
    return (
        '<div class="explorer-html explorer-details">'
        f"<div>{_layers(layers_data(cost.layers), cost.trained_parameters)}</div>"
        f"<div>{_memory(memory_data(cost.memory), cost.fits[0])}</div>"
        "</div>"
    )


def _memory(data: MemoryData, fit: Fit) -> str:
    bars = [(part.word, part.size_bytes, part.color) for part in data.parts]
    limit = f"{escape(fit.level)}, {format_bytes(fit.usable_bytes)}"
    peak = (
        (f"peak live, in {limit}", _INK)
        if fit.fits
        else (f"peak live, over {limit}", theme.VERMILLION)
    )
    bars.append((peak[0], data.peak_bytes, peak[1]))
    rows = "".join(
        f"<tr><td>{word}</td><td style='width:60%'>{_track([(size / data.scale_bytes, color)])}"
        f'</td><td class="number">{format_bytes(size)}</td></tr>'
        for word, size, color in bars
    )
    title = f"Memory of one micro-batch ({data.kind.word}; parts are not all alive at once)"
    return f"<h4>{title}</h4><table>{rows}</table>"


def _layers(data: LayersData, parameter_count: float) -> str:
    groups = _groups(data.trained_ratio > 0)
    macs = np.array([data.total_macs[rows].sum() for rows in groups])
    saved = np.array([data.saved_bytes[rows].sum() for rows in groups])
    tops = (max(float(macs.max(initial=0.0)), 1.0), max(float(saved.max(initial=0.0)), 1.0))
    rows = "".join(_layer_row(data, group, *tops) for group in groups)
    trained = int(np.count_nonzero(data.trained_ratio))
    key = "".join(
        f'<span class="key" style="background:{theme.MAC_COLORS[name]}"></span>{word}'
        for name, word in data.mac_words.items()
    )
    return (
        f"<h4>What trains: {trained} of {len(data.names)} layers' weights; with biases and norms "
        f"{format_count(parameter_count)} parameters ({data.kind.word})</h4>"
        f'<div class="keys">{key}</div>'
        f'<div class="scroll"><table><tr>{_HEADS}</tr>{rows}</table></div>'
    )


def _groups(trained: BoolArray) -> list[slice]:
    """Trained layers one by one, frozen neighbours together."""
    bounds = [0]
    bounds += [row for row in range(1, len(trained)) if trained[row] or trained[row - 1]]
    bounds.append(len(trained))
    return [slice(low, high) for low, high in itertools.pairwise(bounds) if high > low]


def _layer_row(data: LayersData, rows: slice, top_macs: float, top_saved: float) -> str:
    names, ops = data.names[rows], ", ".join(dict.fromkeys(data.ops[rows]))
    share = float(data.trained_ratio[rows].max())
    name = names[0] if len(names) == 1 else f"{len(names)} frozen: {names[0]} to {names[-1]}"
    macs = [(data.macs[key][rows].sum() / top_macs, theme.MAC_COLORS[key]) for key in data.macs]
    saved = float(data.saved_bytes[rows].sum())
    return (
        f'<tr class="{"trained" if share else "frozen"}">'
        f'<td class="layer" title="{escape(name)} ({escape(ops)})">{escape(name)}</td>'
        f'<td>{_track([(share, theme.GREEN)])}</td><td class="number">{share:.0%}</td>'
        f'<td>{_track(macs)}</td><td class="number">{format_count(data.total_macs[rows].sum())}'
        f"</td><td>{_track([(saved / top_saved, theme.ORANGE)])}</td>"
        f'<td class="number">{format_bytes(saved)}</td></tr>'
    )


def _track(parts: Sequence[tuple[float, str]]) -> str:
    bars = "".join(
        f'<i style="width:{100 * ratio:.1f}%;background:{color}"></i>' for ratio, color in parts
    )
    return f'<div class="track">{bars}</div>'
