"""The selected design as HTML: what it costs, where it fits, what trains, layer by layer.

Everything that is not a number of ours goes through `html.escape`.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np

from explorer.costmodel.report import Cost, Estimate, Fit
from explorer.figures import theme
from explorer.figures.layers import LayersData, layers_data
from explorer.figures.memory import MemoryData, memory_data
from explorer.units import BoolArray, format_bytes, format_count, format_joules, format_seconds

STYLE = """
<style>
.explorer-app {padding: 2px 4px 8px 0; max-width: 1720px;}
.explorer-app .explorer-grid {grid-gap: 4px 10px; overflow: visible;}
.explorer-app .explorer-field {flex-direction: column; align-items: stretch; height: auto;
  width: auto; margin: 0; min-width: 0;}
.explorer-app .explorer-field > .widget-label {width: auto; text-align: left; font-size: 11px;
  line-height: 15px; height: 15px; color: var(--jp-ui-font-color2);}
.explorer-app .explorer-field > select, .explorer-app .explorer-field > input {
  width: 100%; box-sizing: border-box; flex: 0 0 26px; height: 26px; font-size: 12px;}
.explorer-app .explorer-field.widget-hslider {display: grid; align-content: start;
  grid-template-columns: 1fr 34px;}
.explorer-app .explorer-field.widget-hslider > .widget-label {grid-column: 1 / 3;}
.explorer-app .explorer-field.widget-hslider > .slider-container {margin: 5px 4px 0 8px;}
.explorer-app .explorer-field.widget-hslider > .widget-readout {min-width: 0; margin: 0;
  text-align: right; font-size: 12px;}
.explorer-app .explorer-row {align-items: center; flex-wrap: wrap; overflow: visible;}
.explorer-app .explorer-row.explorer-top {align-items: flex-start; flex-wrap: nowrap;}
.explorer-text, .explorer-text .widget-html-content {line-height: 1.4; font-size: 12px;}
.explorer-error {color: #A33B00; font-size: 12px; font-weight: 600;}
.explorer-details {display: grid; gap: 4px 28px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr));
  font-size: 11.5px; line-height: 17px;}
.explorer-details h4 {margin: 4px 0 3px; font-size: 12px; font-weight: 600;}
.explorer-details table {border-collapse: collapse; width: 100%; font-size: 11.5px;
  line-height: 16px; table-layout: auto;}
.explorer-details table.numbers {width: auto;}
.explorer-details td, .explorer-details th {padding: 1px 6px 1px 0; text-align: left;
  border: 0; white-space: nowrap; font-weight: normal; color: var(--jp-ui-font-color1);
  background: transparent;}
.explorer-details th {color: var(--jp-ui-font-color2); position: sticky; top: 0;
  background: var(--jp-layout-color0);}
.explorer-details .scroll table {table-layout: fixed; min-width: 380px;}
.explorer-details td.layer {overflow: hidden; text-overflow: ellipsis;}
.explorer-details td.number {text-align: right; font-variant-numeric: tabular-nums;}
.explorer-details .scroll {max-height: 268px; overflow-y: auto;}
.explorer-details .track {display: flex; height: 9px; width: 100%; overflow: hidden;
  background: var(--jp-layout-color2);}
.explorer-details .track i {display: block; height: 9px;}
.explorer-details .fits {color: #00664B; font-weight: 600;}
.explorer-details .misfit {color: #A33B00; font-weight: 600;}
.explorer-details .note {color: var(--jp-ui-font-color2); font-size: 11.5px;}
.explorer-details .frozen td {opacity: 0.55;}
.explorer-details small {font-weight: normal; font-size: 10.5px;}
.explorer-details .key {display: inline-block; width: 9px; height: 9px; margin: 0 3px 0 10px;}
</style>
"""

_COLUMNS = (("layer", 36), ("trained", 11), ("", 9), ("MACs", 9), ("", 12), ("kept", 8), ("", 15))
_HEADS = "".join(f'<th style="width:{width}%">{name}</th>' for name, width in _COLUMNS)


def details_html(cost: Cost, label: str, worth_words: str) -> str:
    """The whole panel for one design."""
    memory = memory_data(cost.memory)
    layers = layers_data(cost.layers)
    return (
        '<div class="explorer-details">'
        f"<div>{_summary(cost, label, worth_words)}{_fits(cost)}"
        f"{_memory(memory)}{_allocators(cost.memory)}</div>"
        f"<div>{_layers(layers)}</div>"
        "</div>"
    )


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


def _summary(cost: Cost, label: str, worth_words: str) -> str:
    rows = [
        ("peak live memory", format_bytes(cost.memory["peak_live_bytes"]), "memory"),
        ("of it above inference", format_bytes(cost.memory["training_extra_bytes"]), "memory"),
        ("placed arena", format_bytes(cost.memory["arena_bytes"]), "memory"),
        ("time of a step", format_seconds(cost.step_time_s), "step.time_s"),
        ("energy of a step", format_joules(cost.step_energy_j), "step.energy_j"),
        ("trained parameters", format_count(cost.trained_parameters), "macs"),
    ]
    texts = {"step.time_s": format_seconds, "step.energy_j": format_joules}
    cells = "".join(
        f'<tr><td>{name}</td><td class="number">{value}</td>'
        f"<td>{_how_known(cost.provenance[path], texts.get(path))}</td></tr>"
        for name, value, path in rows
    )
    warnings = "".join(f'<div class="note">{escape(text)}</div>' for text in cost.warnings)
    return (
        f"<h4>{escape(label)}</h4>{warnings}<div>{escape(worth_words)}</div>"
        f"<div>{_mac_words(cost.macs)} ({escape(cost.provenance['macs'].kind)})</div>"
        f'<table class="numbers">{cells}</table>'
    )


def _how_known(estimate: Estimate, text_of: Callable[[float], str] | None = None) -> str:
    """The kind, with the interval where there is one; who says so appears on hover."""
    words = estimate.kind
    if text_of and estimate.low is not None and estimate.high is not None:
        words += f", {text_of(estimate.low)} to {text_of(estimate.high)}"
    return f'<span title="{escape(estimate.source)}">{escape(words)}</span>'


def _mac_words(macs: Mapping[str, float]) -> str:
    backward = macs["input_grad"] + macs["weight_grad"]
    return (
        f"MACs of a sample: {format_count(macs['forward'])} forward, "
        f"{format_count(backward)} backward"
    )


def _fits(cost: Cost) -> str:
    rows = "".join(
        f'<div class="{"fits" if fit.fits else "misfit"}">{escape(fit_line(fit))} '
        f"<small>({_fit_kinds(cost, fit)})</small></div>"
        for fit in cost.fits
    )
    return f"<h4>Does it fit?</h4>{rows}"


def _fit_kinds(cost: Cost, fit: Fit) -> str:
    usable = cost.provenance.get(f"fits.{fit.level}.usable_bytes")
    return f"need {_how_known(cost.provenance['memory'])}" + (
        f", limit {_how_known(usable)}" if usable else ""
    )


def _memory(data: MemoryData) -> str:
    bars = [(part.word, part.size_bytes, part.color) for part in data.parts]
    bars.append(("peak live", data.peak_bytes, theme.INK))
    rows = "".join(
        f"<tr><td>{word}</td><td style='width:60%'>{_track([(size / data.scale_bytes, color)])}"
        f'</td><td class="number">{format_bytes(size)}</td></tr>'
        for word, size, color in bars
    )
    title = f"Memory of one micro-batch ({data.kind.word}; parts are not all alive at once)"
    return f"<h4>{title}</h4><table>{rows}</table>"


def _allocators(memory: Mapping[str, float]) -> str:
    """What knowing every lifetime is worth; nothing under an accounting without an arena."""
    ahead, in_order = memory["arena_bytes"], memory["runtime_arena_bytes"]
    if not np.isfinite(ahead):
        return ""
    return (
        f'<div class="note">placed ahead {format_bytes(ahead)}; a run-time allocator in order '
        f"of need: {format_bytes(in_order)}, {in_order / ahead - 1:+.0%}</div>"
    )


def _layers(data: LayersData) -> str:
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
        f"<h4>What trains: {trained} of {len(data.names)} layers "
        f"({data.kind.word}) <small>{key}</small></h4>"
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
