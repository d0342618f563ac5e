"""The fields that controls are made of, each with one line that says what it is for."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import PurePath
from typing import Any

import ipywidgets as widgets

from explorer.app.numbers import WholeNumber
from explorer.family import Option

_GRID = "repeat(auto-fill, minmax(128px, 1fr))"
_UNSET = "not set"
_PATH_LENGTH = 18  # what the narrowest field shows of a path
_CUT = "…"


def grid() -> Any:
    """Fields beside each other, in as many columns as there is room for."""
    box = widgets.GridBox(layout=widgets.Layout(grid_template_columns=_GRID, width="100%"))
    box.add_class("explorer-grid")
    return box


def dropdown(description: str, options: Iterable[object], words: str) -> Any:
    """One of a few; the first is shown until another is asked for."""
    return _field(widgets.Dropdown(description=description, options=list(options), tooltip=words))


def number(description: str, low: int, most: int, words: str) -> Any:
    """A whole number within bounds."""
    return _field(WholeNumber(description, low, low, most, tooltip=words))


def slider(description: str, low: int, most: int, words: str) -> Any:
    """A whole number within bounds that one pulls at."""
    return _field(
        widgets.IntSlider(description=description, value=low, min=low, max=most, tooltip=words)
    )


def text(name: str, words: str, value: str = "", placeholder: str = _UNSET) -> Any:
    """A word that is taken when the person is done with it."""
    return _field(
        widgets.Text(
            description=name,
            value=value,
            placeholder=placeholder,
            continuous_update=False,
            tooltip=words,
        )
    )


def option_field(name: str, option: Option, value: str, known: list[str]) -> Any:
    """A list where the words are few, otherwise text; a name in capitals stands for any name."""
    if name.isupper():
        return text(f"{name}=value, ...", option.help, value)
    words = {"description": name, "value": value, "tooltip": option.help}
    if option.choices is not None:
        choices = list(dict.fromkeys((*option.choices, value)))
        return _field(widgets.Dropdown(options=choices, **words))
    return _field(
        widgets.Combobox(
            options=list(dict.fromkeys(filter(None, (option.default, *known)))),
            placeholder=_UNSET,
            continuous_update=False,
            **words,
        )
    )


def shown(path: str) -> tuple[str, str]:
    """An option as text and value: a name, or of a path its file after what there is room for."""
    name = PurePath(path).name
    if name == path or len(path) <= _PATH_LENGTH:
        return path, path
    head = path[: max(_PATH_LENGTH - len(name) - 2, 0)]
    return f"{head}{_CUT}/{name}", path


def offer(field: Any, options: Sequence[object], value: object) -> None:
    """Replace the options of a dropdown where they differ, and show one of them."""
    if tuple(field.options) != tuple(options):
        field.options = options
    field.value = value


def button(text: str, words: str, width: str = "auto") -> Any:
    """A button; the words say what it does."""
    return widgets.Button(
        description=text, tooltip=words, layout=widgets.Layout(width=width, max_width="100%")
    )


def explained(field: Any) -> Any:
    """Show the tooltip of a field, whatever it becomes, where the pointer rests on its label.

    The views of lists and texts show none of a field that has a description. A path that is cut
    in the list is whole there.
    """
    name, field.description_allow_html = field.description, True

    def explain(_: object = None) -> None:
        words = field.tooltip or ""
        words += f". Shown: {field.value}" if _CUT in (getattr(field, "label", "") or "") else ""
        field.description = f'<span title="{escape(words)}">{escape(name)}</span>'

    field.observe(explain, names=["tooltip", "value"])
    explain()
    return field


def _field(field: Any) -> Any:
    field.add_class("explorer-field")
    return explained(field)
