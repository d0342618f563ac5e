"""The controls: built once, read as a whole, adapted to what a session allows.

Widgets hold no state of ours: `read` turns them into Settings; `adapt_device`
and `adapt_policies` offer what follows from the choice (the precisions of a
device, the options of a policy).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets

from explorer import catalog
from explorer.app.state import Phase, Run, Settings
from explorer.design import OPTIMIZERS, RECOMPUTES, UPDATE_TIMINGS
from explorer.device import load_device
from explorer.family import FamilyInfo, Option
from explorer.graph import NORMS
from explorer.search.candidates import MEMORY_OBJECTIVES
from explorer.session import Session
from explorer.units import KIB

_MOST_SAMPLES = 128
_MOST_RESERVE_KIB = 1 << 22
_MOST_TRIALS = 100_000
_OWN_TASK = "the model's"
_GRID = "repeat(auto-fill, minmax(118px, 1fr))"


class Controls:
    """Every input of the app. `on_change` is called after a person changed a setting."""

    def __init__(self, session: Session, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._writing = False
        self._option_fields: dict[str, Any] = {}
        self._options: Mapping[str, Option] = {}
        self.model = _dropdown("Model", _listed("model", session.model), session.model)
        self.device = _dropdown("Device", _listed("device", session.device), session.device)
        known = _listed("task", session.task) if session.task else catalog.names("task")
        tasks = [(_OWN_TASK, ""), *((name, name) for name in known)]
        self.task = _dropdown("Task", tasks, session.task or "")
        self.batch = _field(widgets.IntSlider, "Batch", session.batch, 1, _MOST_SAMPLES)
        self.micro_batch = _field(
            widgets.BoundedIntText,
            "Micro-batch (0: whole)",
            session.micro_batch or 0,
            0,
            _MOST_SAMPLES,
        )
        self.reserve = _field(
            widgets.BoundedIntText,
            "App reserve (KiB)",
            session.reserve_bytes // KIB,
            0,
            _MOST_RESERVE_KIB,
        )
        norms = [("as in the network", ""), *((norm, norm) for norm in NORMS)]
        self.norm = _dropdown("Normalisation", norms, session.norm or "")
        self.optimizer = _dropdown("Optimizer", OPTIMIZERS, session.optimizer)
        self.update_timing = _dropdown("Weight update", UPDATE_TIMINGS, session.update_timing)
        self.recompute = _dropdown("Recompute", RECOMPUTES, session.recompute)
        self.memory_objective = _dropdown(
            "Memory axis", MEMORY_OBJECTIVES, session.memory_objective
        )
        precisions = _precisions(session.device)
        self.precision = _dropdown("Precision", precisions, session.precision or "")
        name, _ = _split(session.policy)
        self.policy = _dropdown("Update policy", [name], name)
        self.grid = widgets.GridBox(
            layout=widgets.Layout(grid_template_columns=_GRID, width="100%")
        )
        self.grid.add_class("explorer-grid")
        for field in self._fields:
            field.observe(self._changed, names="value")

    @property
    def _fields(self) -> tuple[Any, ...]:
        return (
            self.model,
            self.device,
            self.task,
            self.batch,
            self.micro_batch,
            self.norm,
            self.optimizer,
            self.update_timing,
            self.recompute,
            self.precision,
            self.memory_objective,
            self.reserve,
            self.policy,
        )

    def read(self) -> Settings:
        """What the controls say now; options left at their default are not named."""
        return Settings(
            model=self.model.value,
            device=self.device.value,
            task=self.task.value or None,
            batch=self.batch.value,
            micro_batch=self.micro_batch.value or None,
            norm=self.norm.value or None,
            optimizer=self.optimizer.value,
            update_timing=self.update_timing.value,
            recompute=self.recompute.value,
            precision=self.precision.value or None,
            memory_objective=self.memory_objective.value,
            reserve_bytes=self.reserve.value * KIB,
            policy=self.policy.value,
            options=tuple(
                field.value if name.isupper() else f"{name}={field.value}"
                for name, field in self._option_fields.items()
                if field.value and field.value != self._options[name].default
            ),
        )

    def adapt_device(self, device: str) -> None:
        """Offer the precisions of a device."""
        with self.writing():
            _offer(self.precision, _precisions(device))

    def adapt_policies(
        self, families: Iterable[FamilyInfo], spec: str, known_specs: Iterable[str]
    ) -> None:
        """Offer the families and show one with its options.

        Options that `spec` does not name keep their field when the family stays, and
        otherwise get their default or the value of the first known spec.
        """
        chosen, given = _split(spec)
        known = {family.name: family for family in families}
        names = [
            (name if family.applicable else f"{name} (does not apply)", name)
            for name, family in known.items()
        ]
        options = dict(known[chosen].options)
        with self.writing():
            _offer(self.policy, names)
            is_new = self.policy.value != chosen or not self.grid.children
            self.policy.value = chosen
            self.policy.tooltip = known[chosen].summary
            if is_new or options != self._options:
                hints = [own for name, own in map(_split, known_specs) if name == chosen]
                self._show_options(options, given, hints)
            for name, value in given.items():
                if name in self._option_fields:
                    self._option_fields[name].value = value

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Changes made inside are the app's own and not reported."""
        self._writing = True
        try:
            yield
        finally:
            self._writing = False

    def _show_options(
        self, options: Mapping[str, Option], given: Mapping[str, str], hints: list[dict[str, str]]
    ) -> None:
        old = list(self._option_fields.values())
        self._option_fields, self._options = {}, options
        for name, option in options.items():
            known = [hint[name] for hint in hints if name in hint]
            first = option.default or (known[0] if known else "")
            field = _option_field(name, option, given.get(name, first), known)
            field.observe(self._changed, names="value")
            self._option_fields[name] = field
        self.grid.children = (*self._fields, *self._option_fields.values())
        for field in old:
            field.close()

    def _changed(self, _: object) -> None:
        if not self._writing:
            self._on_change()


class SearchBar:
    """Buttons, numbers and the progress of a search."""

    def __init__(self) -> None:
        self.start = _button("Search", "Search designs with Optuna", "primary")
        self.pause = _button("Pause", "Pause after this batch, or go on")
        self.stop = _button("Stop", "Stop after this batch")
        self.trials = _number("Trials", 400, 20, _MOST_TRIALS)
        self.seed = _number("Seed", 0, 0, 2**31 - 1)
        samplers = catalog.names("sampler") or ["nsga2"]
        first = "nsga2" if "nsga2" in samplers else samplers[0]
        self.sampler = widgets.Dropdown(
            description="Sampler",
            options=samplers,
            value=first,
            layout=widgets.Layout(width="158px"),
            style={"description_width": "55px"},
        )
        self.progress = widgets.IntProgress(
            layout=widgets.Layout(width="112px", margin="2px 10px 2px 2px"), min=0, max=1
        )
        self.status = widgets.HTML()
        self.status.add_class("explorer-text")
        self.box = widgets.HBox(
            [
                self.start,
                self.pause,
                self.stop,
                self.trials,
                self.sampler,
                self.seed,
                widgets.HBox(
                    [self.progress, self.status], layout=widgets.Layout(align_items="center")
                ),
            ]
        )
        self.box.add_class("explorer-row")

    def show(self, run: Run) -> None:
        """Make buttons, bar and words say what the run is."""
        self.start.disabled = run.is_active
        self.pause.disabled = run.phase not in (Phase.RUNNING, Phase.PAUSED)
        self.pause.description = "Resume" if run.phase is Phase.PAUSED else "Pause"
        self.stop.disabled = run.phase not in (Phase.RUNNING, Phase.PAUSED)
        self.progress.max = max(run.total, 1)
        self.progress.value = run.done
        self.status.value = run_words(run)


def run_words(run: Run) -> str:
    """`running 120/400, 210 trials/s, front 37, hypervolume 0.713 (no gain for 40)`."""
    if run.phase is Phase.IDLE:
        return "idle: known policies only"
    words = [f"<b>{run.phase}</b> {run.done}/{run.total}"]
    if run.done:
        words += [
            f"{run.trials_per_s:.0f} trials/s",
            f"front {run.front_count}",
            f"hypervolume {run.hypervolume:.3g}",
        ]
        flat = run.done - run.gained_at
        words[-1] += f" (no gain for {flat})" if flat else ""
    return ", ".join(words)


class PointBar:
    """Selecting a point without the mouse, and exporting it."""

    def __init__(self) -> None:
        self.back = _button("◀", "Previous point", width="34px")
        self.ahead = _button("▶", "Next point", width="34px")
        self.points = widgets.Dropdown(
            description="Point",
            layout=widgets.Layout(width="304px"),
            style={"description_width": "38px"},
        )
        self.fits_only = widgets.Checkbox(
            description="only what fits",
            indent=False,
            layout=widgets.Layout(width="115px", margin="0 0 0 8px"),
        )
        self.path = widgets.Text(
            value="exports/policy.json",
            description="File",
            layout=widgets.Layout(width="166px"),
            style={"description_width": "28px"},
        )
        self.export = _button("Export policy", "Write the selected design as JSON", width="112px")
        self.saved = widgets.HTML()
        self.saved.add_class("explorer-text")
        self.box = widgets.HBox(
            [
                self.back,
                self.points,
                self.ahead,
                self.fits_only,
                self.path,
                self.export,
                self.saved,
            ]
        )
        self.box.add_class("explorer-row")


def _listed(kind: str, current: str) -> list[str]:
    names = catalog.names(kind)
    return names if current in names else [current, *names]


def _split(spec: str) -> tuple[str, dict[str, str]]:
    """Family and options of a spec; a path to a document is a family without options."""
    return (spec, {}) if spec.endswith(".json") else catalog.split_spec(spec)


def _precisions(device: str) -> list[tuple[str, str]]:
    profile = load_device(device)
    own = f"the device's ({profile.default_precision})"
    return [(own, ""), *((name, name) for name in profile.kernels)]


def _dropdown(description: str, options: Iterable[object], value: object) -> Any:
    field = widgets.Dropdown(description=description, options=list(options), value=value)
    field.add_class("explorer-field")
    return field


def _field(kind: Any, description: str, value: int, low: int, most: int) -> Any:
    field = kind(description=description, value=value, min=low, max=most)
    field.add_class("explorer-field")
    return field


def _option_field(name: str, option: Option, value: str, known: list[str]) -> Any:
    """A list where the words are few, otherwise text; a name in capitals stands for any name."""
    words = {"value": value, "tooltip": option.help}
    if option.choices is not None:
        choices = list(dict.fromkeys((*option.choices, value)))
        field = widgets.Dropdown(description=name, options=choices, **words)
    elif name.isupper():
        field = widgets.Text(
            description=f"{name}=value, ...",
            placeholder=option.help,
            continuous_update=False,
            **words,
        )
    else:
        field = widgets.Combobox(
            description=name,
            options=list(dict.fromkeys((option.default, *known))),
            placeholder=option.help,
            continuous_update=False,
            **words,
        )
    field.add_class("explorer-field")
    return field


def _offer(field: Any, options: Sequence[tuple[str, object]]) -> None:
    """Replace the options of a dropdown; the value stays when it is still among them."""
    if tuple(field.options) == tuple(options):
        return
    value = field.value
    field.options = options
    allowed = [name for _, name in options]
    field.value = value if value in allowed else allowed[0]


def _number(description: str, value: int, low: int, high: int) -> Any:
    return widgets.BoundedIntText(
        description=description,
        value=value,
        min=low,
        max=high,
        layout=widgets.Layout(width="112px"),
        style={"description_width": "38px"},
    )


def _button(text: str, tooltip: str, style: str = "", width: str = "76px") -> Any:
    return widgets.Button(
        description=text, tooltip=tooltip, button_style=style, layout=widgets.Layout(width=width)
    )
