"""The bars: one drives a search, one selects a point and exports it, one measures."""

from collections.abc import Sequence
from html import escape
from typing import Any

import ipywidgets as widgets

from explorer import catalog
from explorer.app import fields
from explorer.app.numbers import WholeNumber
from explorer.app.state import Phase, Run
from explorer.app.words import line
from explorer.units import format_seconds

OUTDATED = "idle: the last search was of another question"
_MOST_TRIALS = 100_000
_MOST_EPISODES = 1000


class SearchBar:
    """Buttons, numbers and the progress of a search."""

    def __init__(self) -> None:
        self.start = _button("Search", line("search"), "primary", "66px")
        self.pause = _button("Pause", line("pause"), width="78px")
        self.stop = _button("Stop", line("stop"), width="52px")
        self.trials = _number("Trials", line("trials"), 400, 20, _MOST_TRIALS, "116px")
        self.seed = _number("Seed", line("seed"), 0, 0, 2**31 - 1, "84px")
        samplers = catalog.names("sampler") or ["nsga2"]
        first = "nsga2" if "nsga2" in samplers else samplers[0]
        self.sampler = fields.explained(
            widgets.Dropdown(
                description="Sampler",
                tooltip=line("sampler"),
                options=samplers,
                value=first,
                layout=widgets.Layout(width="150px"),
                style={"description_width": "60px"},
            )
        )
        self.progress = widgets.IntProgress(
            layout=widgets.Layout(width="100%", height="6px", margin="0"), min=0, max=1
        )
        self.status = widgets.HTML(layout=widgets.Layout(margin="0"))
        self.status.add_class("explorer-text")
        self.run = widgets.VBox([self.progress, self.status])
        self.run.add_class("explorer-run")
        self.box = widgets.HBox(
            [
                self.start,
                self.pause,
                self.stop,
                self.trials,
                self.sampler,
                self.seed,
                self.run,
            ]
        )
        self.box.add_class("explorer-row")

    def show(self, run: Run, optimum_share: float | None, *, is_outdated: bool) -> None:
        """Make buttons, bar and words say what the run is, or that the last one is outdated."""
        self.start.disabled = run.is_active
        self.pause.disabled = run.phase not in (Phase.RUNNING, Phase.PAUSED)
        self.pause.description = "Resume" if run.phase is Phase.PAUSED else "Pause"
        self.stop.disabled = run.phase not in (Phase.RUNNING, Phase.PAUSED)
        self.progress.max = max(run.total, 1)
        self.progress.value = run.done
        words = OUTDATED if is_outdated else run_words(run, optimum_share)
        self.status.value = f'<span title="{escape(line("run"))}">{words}</span>'


def run_words(run: Run, optimum_share: float | None = None) -> str:
    """`running 120/400, 210 trials/s, 1.33 s left, front 37, hypervolume 0.713 (no gain for 40)`.

    Where the share of the additive proxy's optimum is known it follows, and the rate gives way.
    """
    if run.phase is Phase.IDLE:
        return "idle: known policies only"
    is_cut = run.phase is Phase.DONE and run.done < run.total
    phase = "stopped" if is_cut else run.phase
    words = [f"<b>{phase}</b> {run.done}/{run.total}"]
    if run.done and not optimum_share:
        words.append(f"{run.trials_per_s:.0f} trials/s")
    if run.phase is Phase.RUNNING:
        left = f"{format_seconds(run.left_s)} left"
        words.append(left if run.done else "starting from good designs")
    if run.front_count:
        words += [f"front {run.front_count}", f"hypervolume {run.hypervolume:.3g}"]
        flat = run.done - run.gained_at
        words[-1] += f" (no gain for {flat})" if flat else ""
    if optimum_share is not None:
        words.append(f"{optimum_share:.1%} of the additive-proxy optimum (not about accuracy)")
    return ", ".join(words)


class PointBar:
    """Selecting a point without the mouse, and exporting it."""

    def __init__(self) -> None:
        self.is_listing = False
        self.back = _button("◀", line("back"), width="34px")
        self.ahead = _button("▶", line("ahead"), width="34px")
        self.points = fields.explained(
            widgets.Dropdown(
                description="Point",
                tooltip=line("points"),
                style={"description_width": "38px"},
            )
        )
        self.points.add_class("explorer-points")
        self.pin = _button("Pin", line("pin"), width="48px")
        self.fits_only = fields.explained(
            widgets.Checkbox(
                description="only what fits",
                tooltip=line("fits_only"),
                indent=False,
                layout=widgets.Layout(width="112px", margin="0 0 0 6px"),
            )
        )
        self.path = fields.explained(
            widgets.Text(
                value="exports/policy.json",
                description="File",
                tooltip=line("path"),
                layout=widgets.Layout(width="166px"),
                style={"description_width": "28px"},
            )
        )
        self.export = _button("Export policy", line("export"), width="112px")
        self.saved = widgets.HTML()
        self.saved.add_class("explorer-text")
        self.box = widgets.HBox(
            [
                self.back,
                self.points,
                self.ahead,
                self.pin,
                self.fits_only,
                self.path,
                self.export,
                self.saved,
            ]
        )
        self.box.add_class("explorer-row")

    def offer(self, rows: Sequence[tuple[str, str]], selected_id: str) -> None:
        """List texts and ids, and show what is selected; `is_listing` meanwhile."""
        self.is_listing = True
        if tuple(self.points.options) != tuple(rows):
            self.points.options = rows
        self.points.value = selected_id
        self.is_listing = False


class MeasureBar:
    """Starting and cancelling real fine-tuning, and what it says."""

    def __init__(self) -> None:
        self.measure = _button("Measure", line("measure"), width="78px")
        self.picks = _button(
            "Measure picks",
            line("picks"),
            width="120px",
        )
        self.episodes = _number(
            "Episodes",
            line("episodes"),
            5,
            1,
            _MOST_EPISODES,
            "112px",
            "64px",
        )
        self.cancel = _button("Cancel", line("cancel"), width="68px")
        self.status = widgets.HTML(layout=widgets.Layout(margin="0"))
        self.status.add_class("explorer-text")
        self.box = widgets.HBox([self.measure, self.picks, self.episodes, self.cancel, self.status])
        self.box.add_class("explorer-row")
        self.show((), is_active=False)

    def show(self, lines: Sequence[str], *, is_active: bool) -> None:
        """Make buttons and lines say what is measured."""
        self.measure.disabled = is_active
        self.cancel.disabled = not is_active
        self.status.value = "".join(f"<div>{escape(line)}</div>" for line in lines)


def close_tree(widget: Any) -> None:
    """Close a widget and all within, leaves first."""
    for child in getattr(widget, "children", ()):
        close_tree(child)
    widget.close()


def _number(
    description: str,
    tooltip: str,
    value: int,
    low: int,
    high: int,
    width: str,
    words_width: str = "36px",
) -> Any:
    return WholeNumber(
        description,
        value,
        low,
        high,
        tooltip=tooltip,
        layout=widgets.Layout(width=width),
        style={"description_width": words_width},
    )


def _button(text: str, tooltip: str, style: str = "", width: str = "76px") -> Any:
    return widgets.Button(
        description=text, tooltip=tooltip, button_style=style, layout=widgets.Layout(width=width)
    )
