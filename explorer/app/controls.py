"""The controls: built once, read as a whole, adapted to what a session allows.

What people rarely change stands in a second grid that a button opens; the button says
how many of those are set.

Widgets hold no state of ours: `read` turns them into Settings; `adapt_device`
and `adapt_policies` offer what follows from the choice (the precisions of a
device, the options of a policy).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets

from explorer import catalog
from explorer.app.state import Settings
from explorer.design import OPTIMIZERS, RECOMPUTES, UPDATE_TIMINGS
from explorer.device import load_device
from explorer.family import FamilyInfo, Option
from explorer.graph import NORMS
from explorer.search.quantities import MEMORY_OBJECTIVES
from explorer.session import Session
from explorer.units import KIB

_MOST_SAMPLES = 128
_MOST_RESERVE_KIB = 1 << 22
_OWN_TASK = "the model's"
_GRID = "repeat(auto-fill, minmax(128px, 1fr))"
_UNSET = "not set"
_WHY_UPDATE = "fused: each weight is updated as soon as its gradient is there; deferred: at the end"
_WHY_RECOMPUTE = "none: keep what backward needs; blocks: run blocks again in backward"
_WHY_MEMORY = "what the panels and a search compare: the peak, or what training adds to inference"
_WHY_RESERVE = "RAM that belongs to the application and is taken off what is usable"
_WHY_NORM = "another normalisation than the network's own"


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
        self.batch = _field(widgets.IntSlider, "Batch", session.batch or 1, 1, _MOST_SAMPLES)
        self.micro_batch = _field(
            widgets.BoundedIntText,
            "Micro-batch (0: all)",
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
            _WHY_RESERVE,
        )
        norms = [("as in the network", ""), *((norm, norm) for norm in NORMS)]
        self.norm = _dropdown("Normalisation", norms, session.norm or "", _WHY_NORM)
        self.optimizer = _dropdown("Optimizer", OPTIMIZERS, session.optimizer)
        self.update_timing = _dropdown(
            "Weight update", UPDATE_TIMINGS, session.update_timing, _WHY_UPDATE
        )
        self.recompute = _dropdown("Recompute", RECOMPUTES, session.recompute, _WHY_RECOMPUTE)
        self.memory_objective = _dropdown(
            "Memory axis", MEMORY_OBJECTIVES, session.memory_objective, _WHY_MEMORY
        )
        precisions = _precisions(session.device)
        self.precision = _dropdown("Precision", precisions, session.precision or "")
        name, _ = _split(session.policy)
        self.policy = _dropdown("Update policy", [name], name)
        self.more = widgets.ToggleButton(tooltip="Settings that are rarely changed")
        self.more.add_class("explorer-more")
        self.undo, self.redo = (
            widgets.Button(description=word, tooltip=why, disabled=True)
            for word, why in (("Undo", "The question before"), ("Redo", "The question undone"))
        )
        self.past = widgets.HBox([self.undo, self.redo])
        self.past.add_class("explorer-past")
        self.grid, self.rare_grid = _grid(), _grid()
        self.box = widgets.VBox([self.grid, self.rare_grid])
        for field in (*self._fields, *self._rare_fields):
            field.observe(self._changed, names="value")
        self.more.observe(lambda _: self._show_rare(), names="value")
        self._show_rare()

    @property
    def _fields(self) -> tuple[Any, ...]:
        return (
            self.model,
            self.device,
            self.task,
            self.batch,
            self.micro_batch,
            self.precision,
            self.optimizer,
            self.policy,
        )

    @property
    def _rare_fields(self) -> tuple[Any, ...]:
        return (
            self.memory_objective,
            self.update_timing,
            self.recompute,
            self.norm,
            self.reserve,
        )

    @property
    def option_fields(self) -> Mapping[str, Any]:
        """The fields of the family's options, by name."""
        return self._option_fields

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

    def write(self, settings: Settings) -> None:
        """Show other settings but for the policy and its options, which `adapt_policies` shows."""
        values = {
            self.model: settings.model,
            self.device: settings.device,
            self.task: settings.task or "",
            self.batch: settings.batch,
            self.micro_batch: settings.micro_batch or 0,
            self.norm: settings.norm or "",
            self.optimizer: settings.optimizer,
            self.update_timing: settings.update_timing,
            self.recompute: settings.recompute,
            self.memory_objective: settings.memory_objective,
            self.reserve: settings.reserve_bytes // KIB,
        }
        with self.writing():
            for field, value in values.items():
                field.value = value
            _offer(self.precision, _precisions(settings.device))
            self.precision.value = settings.precision or ""

    def adapt_device(self, device: str) -> None:
        """Offer the precisions of a device."""
        with self.writing():
            _offer(self.precision, _precisions(device))

    def show_setup(self, session: Session) -> None:
        """Show the setup that a policy brought along."""
        with self.writing():
            self.batch.value = session.batch
            self.micro_batch.value = session.micro_batch or 0
            self.norm.value = session.norm or ""
            self.optimizer.value = session.optimizer
            self.update_timing.value = session.update_timing

    def adapt_policies(
        self,
        families: Iterable[FamilyInfo],
        spec: str,
        known_specs: Iterable[str] = (),
        *,
        fresh: bool = False,
    ) -> None:
        """Offer the families and show one with its options.

        Options that `spec` does not name keep their field when the family stays, unless all is
        to be `fresh`, and otherwise get their default or the value of the first known spec.
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
            is_new = fresh or self.policy.value != chosen or not self.grid.children
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
        rare = {
            name: field
            for name, field in self._option_fields.items()
            if not (field.value or name.isupper())
        }
        shown = (field for name, field in self._option_fields.items() if name not in rare)
        self.grid.children = (*self._fields, *shown, self.more, self.past)
        self.rare_grid.children = (*self._rare_fields, *rare.values())
        self._show_rare()
        for field in old:
            field.close()

    def _show_rare(self) -> None:
        """Open or close the second grid; the button counts what is set in it."""
        usual = (
            Session.memory_objective,
            Session.update_timing,
            Session.recompute,
            Session.norm or "",
            Session.reserve_bytes,
        )
        options = self.rare_grid.children[len(usual) :]
        count = sum(
            field.value != value for field, value in zip(self._rare_fields, usual, strict=True)
        ) + sum(bool(field.value) for field in options)
        words = "Fewer" if self.more.value else "More"
        self.more.description = f"{words} ({count} set)" if count else f"{words} settings"
        self.rare_grid.layout.display = "" if self.more.value else "none"

    def _changed(self, _: object) -> None:
        self._show_rare()
        if not self._writing:
            self._on_change()


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


def _grid() -> Any:
    grid = widgets.GridBox(layout=widgets.Layout(grid_template_columns=_GRID, width="100%"))
    grid.add_class("explorer-grid")
    return grid


def _dropdown(
    description: str, options: Iterable[object], value: object, tooltip: str | None = None
) -> Any:
    field = widgets.Dropdown(
        description=description, options=list(options), value=value, tooltip=tooltip
    )
    field.add_class("explorer-field")
    return field


def _field(
    kind: Any, description: str, value: int, low: int, most: int, tooltip: str | None = None
) -> Any:
    field = kind(description=description, value=value, min=low, max=most, tooltip=tooltip)
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
            placeholder=_UNSET,
            continuous_update=False,
            **words,
        )
    else:
        field = widgets.Combobox(
            description=name,
            options=list(dict.fromkeys(filter(None, (option.default, *known)))),
            placeholder=_UNSET,
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
