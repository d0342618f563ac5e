"""The controls: built once, read as a whole, adapted to what a session allows.

What people rarely change stands in a second grid that a button opens; the button says
how many of those are set.

Of the device and of the setup the controls show what is in force, and remember which of it a
person chose: `read` tells these choices as Settings, `show` puts what is in force there, and
`adapt_policies` offers what follows from the choice (the options of a policy).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from html import escape
from typing import Any, TypeVar

import ipywidgets as widgets

from explorer import catalog
from explorer.accuracy.metrics import METRIC_NAMES, METRICS
from explorer.accuracy.tasks import suits
from explorer.app import fields
from explorer.app.own_parts import OwnParts
from explorer.app.state import Settings
from explorer.app.words import PAST, entry_line, line, sourced
from explorer.design import OPTIMIZERS, RECOMPUTES, UPDATE_TIMINGS
from explorer.family import FamilyInfo, Option
from explorer.graph import NORMS
from explorer.network import is_network_path
from explorer.question import USUAL, is_file
from explorer.search.quantities import MEMORY_OBJECTIVES
from explorer.search.sources import model_graph, model_options, model_task
from explorer.session import Session
from explorer.units import KIB

T = TypeVar("T")
_MOST_SAMPLES = 128
_MOST_RESERVE_KIB = 1 << 22
SETUP = ("batch", "micro_batch", "precision", "optimizer", "update_timing", "recompute", "norm")


class Controls:
    """Every input of the app. `on_change` is called after a person changed a setting."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._writing = False
        self._own: set[str] = set()  # of the device and the setup, what a person chose
        self.option_fields: dict[str, Any] = {}
        self._options: Mapping[str, Option] = {}
        self._own_tasks: list[str] = []  # that were asked about here
        self.model_fields: dict[str, Any] = {}
        self.model = _dropdown("model", "Model", map(fields.shown, catalog.names("model")))
        self.device = _dropdown("device", "Device", map(fields.shown, catalog.names("device")))
        self.task = _dropdown("task", "Task", [""])
        self.batch = fields.slider("Batch", 1, _MOST_SAMPLES, line("batch"))
        self.micro_batch = fields.number("Micro-batch", 0, _MOST_SAMPLES, line("micro_batch"))
        self.reserve = fields.number("App reserve (KiB)", 0, _MOST_RESERVE_KIB, line("reserve"))
        norms = [("as in the network", ""), *((norm, norm) for norm in NORMS)]
        self.norm = _dropdown("norm", "Normalisation", norms)
        self.optimizer = _dropdown("optimizer", "Optimizer", OPTIMIZERS)
        self.update_timing = _dropdown("update_timing", "Weight update", UPDATE_TIMINGS)
        self.recompute = _dropdown("recompute", "Recompute", RECOMPUTES)
        self.memory_objective = _dropdown("memory_objective", "Memory axis", MEMORY_OBJECTIVES)
        self.worth_axis = _dropdown("worth_axis", "Worth axis", [""])
        self.precision = _dropdown("precision", "Precision", [""])
        self.policy = _dropdown("policy", "Update policy", ["none"])
        self.more = widgets.ToggleButton(tooltip=line("more"))
        self.more.add_class("explorer-more")
        self.forget = fields.button("As published", line("forget"))
        self.forget.add_class("explorer-more")
        self.forget.on_click(lambda _: self._forget())
        self.own_button = widgets.ToggleButton(
            description="Own board, network, task",
            tooltip=line("own"),
        )
        self.own_button.add_class("explorer-more").add_class("explorer-wide")
        self.own_parts = OwnParts(
            lambda: str(self.device.value),
            lambda: model_graph(self.read().model).input_shape,
            self.choose,
        )
        self.undo, self.redo = fields.button("Undo", ""), fields.button("Redo", "")
        self.past = widgets.HBox([self.undo, self.redo])
        self.past.add_class("explorer-past")
        self.grid, self.rare_grid = fields.grid(), fields.grid()
        self.words = widgets.HTML()
        self.words.add_class("explorer-text")
        self.box = widgets.VBox([self.grid, self.rare_grid, self.words])
        self.box.add_class("explorer-question")
        for name in ("device", *SETUP):
            getattr(self, name).observe(partial(self._chosen, name), names="value")
        self.model.observe(self._model_chosen, names="value")
        axes = (self.memory_objective, self.worth_axis)
        for field in (self.task, self.policy, *axes, self.reserve):
            field.observe(self._changed, names="value")
        for button in (self.more, self.own_button):
            button.observe(lambda _: self._show_rare(), names="value")

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
            *self.model_fields.values(),
            self.memory_objective,
            self.worth_axis,
            self.update_timing,
            self.recompute,
            self.norm,
            self.reserve,
        )

    def read(self) -> Settings:
        """What a person chose; options left at their default are not named."""
        chosen = self._own | ({"batch"} if "micro_batch" in self._own else set())  # it is part of
        own = {name: getattr(self, name).value for name in ("device", *SETUP) if name in chosen}
        given = [f"{name}={one.value}" for name, one in self.model_fields.items() if one.value]
        return Settings(
            model=f"{self.model.value}:{','.join(given)}" if given else self.model.value,
            task=self.task.value or None,
            memory_objective=self.memory_objective.value,
            metric=self.worth_axis.value or None,
            reserve_bytes=self.reserve.value * KIB,
            policy=self.policy.value,
            options=tuple(
                field.value if name.isupper() else f"{name}={field.value}"
                for name, field in self.option_fields.items()
                if field.value and field.value != self._options[name].default
            ),
            **dict.fromkeys(("device", *SETUP)) | own,
        )

    def write(self, settings: Settings, session: Session) -> None:
        """Take over other choices, and show the session they make.

        The policy and its options are for `adapt_policies`.
        """
        chosen = ((name, getattr(settings, name)) for name in ("device", *SETUP))
        self._own = {name for name, value in chosen if value is not None}
        self.show(session)

    def show(self, session: Session) -> None:
        """Show what is in force; what is not allowed there is not chosen any more."""
        own_setup = session.own_setup
        self._own -= {name for name in SETUP if name not in own_setup}
        profile, model = session.profile, session.model
        own_precision = (f"{profile.default_precision} (the device's)", "")
        precisions = [own_precision, *((name, name) for name in profile.kernels)]
        with self.writing():
            name = model if is_network_path(model) else model.partition(":")[0]
            _offer_one(self.model, name)
            self._show_model_options(model)
            _offer_one(self.device, session.device)
            if session.task and catalog.is_own_task(session.task):
                self._own_tasks = _with(session.task, self._own_tasks)
            fields.offer(self.task, _tasks(session, self._own_tasks), session.task or "")
            self.batch.value = session.batch
            self.micro_batch.value = session.setup.micro_batch
            fields.offer(self.precision, precisions, session.precision or "")
            self.optimizer.value = session.optimizer
            self.norm.value = session.norm or ""
            self.update_timing.value = session.update_timing
            self.recompute.value = session.recompute
            self.memory_objective.value = session.memory_objective
            fields.offer(self.worth_axis, _worths(session), session.metric or "")
            self.reserve.value = session.reserve_bytes // KIB
            self._mark(session)
            self._show_rare()

    def show_past(self, undo_count: int, redo_count: int) -> None:
        """Say how many questions there are to go back to, and how many were undone."""
        self.undo.disabled, self.redo.disabled = not undo_count, not redo_count
        back = f"the question before: {undo_count} to go back to"
        again = f"the question undone: {redo_count} to come back to"
        self.undo.tooltip, self.redo.tooltip = sourced(back, PAST), sourced(again, PAST)

    def choose(self, name: str, path: str) -> None:
        """Ask about a model, a device or a task of one's own, as if it was chosen of the list."""
        field = getattr(self, name)
        with self.writing():
            fields.offer(field, _with(fields.shown(path), list(field.options)), field.value)
        field.value = path

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
        chosen, given = split_policy(spec)
        known = {family.name: family for family in families}
        names = [
            fields.shown(name) if family.applicable else (f"{name} (does not apply)", name)
            for name, family in known.items()
        ]
        options = dict(known[chosen].options)
        with self.writing():
            is_new = fresh or self.policy.value != chosen or not self.grid.children
            fields.offer(self.policy, names, chosen)
            self.policy.tooltip = line("policy", f". {chosen}: {known[chosen].summary}")
            if is_new or options != self._options:
                hints = [own for name, own in map(split_policy, known_specs) if name == chosen]
                self._show_options(options, given, hints)
            for name, field in self.option_fields.items():
                field.tooltip = entry_line(options[name].help, "policy", chosen)
            for name, value in given.items():
                if name in self.option_fields:
                    self.option_fields[name].value = value

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Changes made inside are the app's own and not reported."""
        before, self._writing = self._writing, True
        try:
            yield
        finally:
            self._writing = before

    def _mark(self, session: Session) -> None:
        """Say of each field of the setup whether it was chosen or brought by the policy."""
        brought = session.brought_setup
        for name in SETUP:
            field, words = getattr(self, name), ""
            if name in brought:
                field.add_class("explorer-brought")
                words = f". Brought by {session.policy.partition(':')[0]}; change it to choose"
            else:
                field.remove_class("explorer-brought")
                words = ". You chose it" if name in self._own else ""
            field.tooltip = line(name, words)
        self.device.tooltip = line("device", f". {session.profile.summary}")

    def _show_model_options(self, model: str) -> None:
        """A field for each option of a parametrised network, and what it allows."""
        name, options = model.partition(":")[0], model_options(model)
        lines = {
            option: entry_line(f"{option} of the network: {words}", "model", name)
            for option, (_, words) in options.items()
        }
        given = {} if is_network_path(model) else catalog.split_spec(model)[1]
        if list(options) != list(self.model_fields):
            for field in self.model_fields.values():
                field.close()
            self.model_fields = {
                name: fields.text(name, lines[name], placeholder=default)
                for name, (default, _) in options.items()
            }
            for field in self.model_fields.values():
                field.observe(self._changed, names="value")
            self._lay_out()
        for name, field in self.model_fields.items():
            field.value, field.placeholder = given.get(name, ""), options[name][0]
            field.tooltip = lines[name]
        said = (f"<b>{name}</b>: {escape(words)}" for name, (_, words) in options.items())
        self.words.value = "; ".join(said)

    def _show_options(
        self, options: Mapping[str, Option], given: Mapping[str, str], hints: list[dict[str, str]]
    ) -> None:
        old = list(self.option_fields.values())
        self.option_fields, self._options = {}, options
        for name, option in options.items():
            known = [hint[name] for hint in hints if name in hint]
            first = option.default or (known[0] if known else "")
            field = fields.option_field(name, option, given.get(name, first), known)
            field.observe(self._changed, names="value")
            self.option_fields[name] = field
        self._lay_out()
        for field in old:
            field.close()

    def _lay_out(self) -> None:
        rare = {
            name: field
            for name, field in self.option_fields.items()
            if not (field.value or name.isupper())
        }
        shown = (field for name, field in self.option_fields.items() if name not in rare)
        self.grid.children = (*self._fields, *shown, self.more, self.past)
        buttons = (self.forget, self.own_button)
        self.rare_grid.children = (*self._rare_fields, *rare.values(), *buttons)
        self._show_rare()

    def _show_rare(self) -> None:
        """Open or close the second grid; the button counts what is set in it."""
        rare = [
            name
            for name in ("update_timing", "recompute", "norm")
            if name in self._own and getattr(self, name).value != USUAL.get(name)
        ]
        options = self.rare_grid.children[len(self._rare_fields) : -2]
        written = (*self.model_fields.values(), *options, self.reserve)
        count = len(rare) + sum(bool(field.value) for field in written)
        count += self.memory_objective.value != Session.memory_objective
        count += bool(self.worth_axis.value)
        words = "Fewer" if self.more.value else "More"
        self.more.description = f"{words} ({count} set)" if count else f"{words} settings"
        for part in (self.rare_grid, self.words):
            part.layout.display = "" if self.more.value else "none"
        is_open = self.more.value and self.own_button.value
        self.own_parts.box.layout.display = "" if is_open else "none"

    def _chosen(self, name: str, change: Any) -> None:
        if self._writing:
            return
        if change["new"]:
            self._own.add(name)
        else:
            self._own.discard(name)
        self._changed(change)

    def _forget(self) -> None:
        self._own -= set(SETUP)
        self._changed(None)

    def _model_chosen(self, change: Any) -> None:
        if not self._writing:
            with self.writing():
                for field in self.model_fields.values():
                    field.value = ""
        self._changed(change)

    def _changed(self, _: object) -> None:
        if not self._writing:
            self._show_rare()
            self._on_change()


def split_policy(spec: str) -> tuple[str, dict[str, str]]:
    """Family and options of a spec; a path to a document is a family without options."""
    return (spec, {}) if is_file(spec) else catalog.split_spec(spec)


def _with(current: T, names: list[T]) -> list[T]:
    return names if current in names else [current, *names]


def _offer_one(field: Any, name: str) -> None:
    """Show one of a list, which has it from then on."""
    fields.offer(field, _with(fields.shown(name), list(field.options)), name)


def _tasks(session: Session, own_tasks: list[str]) -> list[tuple[str, str]]:
    """The network's own, and those it can read."""
    shape, own = session.graph.input_shape, model_task(session.model)
    every = [*own_tasks, *catalog.names("task")]
    names = [name for name in every if name != own and suits(name, shape)]
    names = _with(session.task, names) if session.task else names
    return [(f"{own} (the model's)" if own else "none", ""), *map(fields.shown, names)]


def _worths(session: Session) -> list[tuple[str, str]]:
    """The score, and each metric that is measured on the task."""
    named = ((f"{METRIC_NAMES[METRICS[word]]}, measured", word) for word in session.metrics)
    return [("score", ""), *named]


def _dropdown(name: str, description: str, options: Iterable[object]) -> Any:
    return fields.dropdown(description, options, line(name))
