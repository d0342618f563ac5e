"""The catalogue: a folder is a registry, a file is an entry.

Built-in entries and those of other packages (entry-point group
`explorer.<kind>`) are found by the same lines. A module `mbv2_w0p35` is the
entry `mbv2-w0.35`: `_` stands for `-`, and `p` between digits for a point.
The catalogue knows no type of ours; loaders do the checking.
"""

import importlib
import pkgutil
import re
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from types import ModuleType

from explorer.errors import SpecError, UnknownNameError
from explorer.own_code import is_code, whole_spelling

_FOLDERS = {
    "model": "explorer.zoo",
    "policy": "explorer.policies",
    "sampler": "explorer.search.samplers",
    "task": "explorer.accuracy.tasks",
}
_DATA_FOLDERS = {"device": "explorer.devices", "engine": "explorer.engines"}


def entry_name(module_name: str) -> str:
    """`mbv2_w0p35` -> `mbv2-w0.35`."""
    return re.sub(r"(?<=\d)p(?=\d)", ".", module_name).replace("_", "-")


def names(kind: str) -> list[str]:
    """Names of every entry of a kind: model, policy, sampler, task, device or engine."""
    return sorted(_locate(kind))


def load(kind: str, name: str) -> ModuleType:
    """The module of an entry; UnknownNameError offers the nearest names."""
    return importlib.import_module(_find(kind, name))


def read(kind: str, name: str) -> str:
    """The text of a data entry, which is a TOML file (a device or an engine)."""
    folder = resources.files(_DATA_FOLDERS[kind])
    return folder.joinpath(f"{_find(kind, name)}.toml").read_text("utf-8")


def task_path(name: str) -> Path | None:
    """Where data of a user's own lies: any path, folder or .npz; None for a name and for code."""
    if not name or name in _locate("task"):
        return None
    path = Path(name).expanduser()
    if is_code(name) and not path.is_dir():
        return None
    return path if path.name != name or path.is_dir() or path.suffix == ".npz" else None


def is_own_task(name: str) -> bool:
    """Whether a task is a user's own: data by a path, or code that makes it."""
    return task_path(name) is not None or (is_code(name) and name not in _locate("task"))


def task_key(name: str) -> str:
    """What a task is kept under: one of a user's own by its whole path, however it is spelled."""
    if not is_own_task(name):
        return name
    path = task_path(name)
    return whole_spelling(name) if path is None else str(path.resolve())


def split_spec(spec: str) -> tuple[str, dict[str, str]]:
    """`name:key=value,key=value` -> name and its options; SpecError on a bad option."""
    name, _, rest = spec.partition(":")
    options: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.rpartition("=")
        if not equals or not key or not value:
            raise SpecError.of(f"option of {name}", part, "key=value, separated by commas")
        if key in options:
            raise SpecError.of(f"option of {name}", part, f"{key} only once")
        options[key] = value
    return name, options


def _find(kind: str, name: str) -> str:
    found = _locate(kind)
    if name not in found:
        raise UnknownNameError.of(kind, name, found)
    return found[name]


@cache
def _locate(kind: str) -> dict[str, str]:
    if kind in _DATA_FOLDERS:
        files = resources.files(_DATA_FOLDERS[kind]).iterdir()
        stems = [file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")]
        return {stem: stem for stem in stems}
    package = importlib.import_module(_FOLDERS[kind])
    found = {
        entry_name(info.name): f"{package.__name__}.{info.name}"
        for info in pkgutil.iter_modules(package.__path__)
        if not info.name.startswith("_")
    }
    outsiders = metadata.entry_points(group=f"explorer.{kind}")
    return found | {point.name: point.value for point in outsiders}
