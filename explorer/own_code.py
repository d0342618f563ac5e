"""Code of a user's own by its spelling: `file.py:name` or `package.module:name`.

A spelling is only read until `running` is entered, so a document that names code runs nothing.
"""

import importlib
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from explorer.errors import SpecError

FILE = ".py"
ALLOWED = "file.py:name or package.module:name"
_alone = threading.RLock()  # where modules are found and where prints go is the process's


def is_code(text: str) -> bool:
    """Whether a text is meant to name code; a file without a name in it is meant so, too."""
    place, _, name = text.rpartition(":")
    is_module = all(part.isidentifier() for part in place.split("."))
    return text.endswith(FILE) or place.endswith(FILE) or (is_module and name.isidentifier())


def code_file(text: str) -> Path | None:
    """The file of a spelling; None for that of a module, and for what names no code."""
    place, _, _ = text.rpartition(":")
    return Path(place).expanduser() if place.endswith(FILE) else None


def whole_spelling(text: str) -> str:
    """The same with the whole path of its file."""
    file = code_file(text)
    return text if file is None else f"{file.resolve()}:{text.rpartition(':')[2]}"


def check_code(field: str, text: str) -> None:
    """SpecError on another spelling, and where there is no such file; nothing is run."""
    if not is_code(text) or not text.rpartition(":")[2].isidentifier():
        raise SpecError.of(field, text, ALLOWED)
    file = code_file(text)
    if file is not None and not file.is_file():
        raise SpecError(f"{field}: no file {file}")


@contextmanager
def running(field: str, text: str) -> Iterator[Any]:
    """Run the code, and have what the name stands for; SpecError when it is not there.

    A file is run anew each time, and so is what it imports from beside it, which can be imported
    while this is open (of a module: from the working folder). What it prints goes to stderr,
    beside our answers.
    Whatever it raises is its own and passes.
    """
    check_code(field, text)
    place, _, name = text.rpartition(":")
    file = code_file(text)
    folder = "" if file is None else str(file.resolve().parent)
    with _alone:
        before = set(sys.modules)
        sys.path.insert(0, folder)
        try:
            with redirect_stdout(sys.stderr):
                code = _module(field, place) if file is None else _run(field, file.resolve())
                if not hasattr(code, name):
                    raise SpecError(f"{field}: no {name} in {place}")
                yield getattr(code, name)
        finally:
            with suppress(ValueError):
                sys.path.remove(folder)
            if folder:
                _forget(sys.modules.keys() - before, Path(folder))


def _forget(names: Iterable[str], folder: Path) -> None:
    """Modules of a user's own folder; another folder may have others of the same names."""
    for name in names:
        file = Path(getattr(sys.modules[name], "__file__", None) or "/")
        if file.is_relative_to(folder) and "site-packages" not in file.parts:
            del sys.modules[name]


def _module(field: str, place: str) -> ModuleType:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise SpecError(f"{field}: {error}") from None


def _run(field: str, file: Path) -> ModuleType:
    """The module of a file; of a name that hides no other module."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise SpecError(f"{field}: {file} cannot be read: {error.strerror}") from None
    code = ModuleType(f"own_code_{file.stem}")
    code.__file__ = str(file)
    sys.modules[code.__name__] = code
    exec(compile(text, str(file), "exec"), code.__dict__)
    return code
