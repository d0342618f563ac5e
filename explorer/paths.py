"""Where files that are not code lie: what ships, what was fetched, and the user's own data."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from explorer.errors import SpecError

DATA_VARIABLE = "EXPLORER_DATA"
CACHE_VARIABLE = "EXPLORER_CACHE"
CACHE_NAME = "ondevice-explorer"


def shipped(folder: str) -> Path:
    """A folder that ships: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / folder
    return inside if inside.is_dir() else package.parent / folder


def data_cache() -> Path:
    """The shipped `data_cache`."""
    return shipped("data_cache")


def is_checkout() -> bool:
    """Whether this package runs from its repository."""
    return not (Path(__file__).resolve().parent / "data_cache").is_dir()


def explorer_data() -> Path | None:
    """The folder of converted data sets that EXPLORER_DATA names, if it is set."""
    value = os.environ.get(DATA_VARIABLE)
    return Path(value).expanduser() if value else None


def user_cache() -> Path:
    """Where `explorer fetch` keeps files: EXPLORER_CACHE, or the system's cache folder."""
    import platformdirs

    value = os.environ.get(CACHE_VARIABLE)
    return Path(value).expanduser() if value else platformdirs.user_cache_path(CACHE_NAME)


def file_state(path: Path) -> tuple[int, ...]:
    """What changes with a file: its time and size; empty where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size


def check_writable(path: Path) -> None:
    """Before the work, not after: SpecError when a result could not be kept there."""
    with _in_one_sentence(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() or (path.exists() and not os.access(path, os.W_OK)):
            raise SpecError(f"{path}: cannot be written: not a writable file")
        if path.is_file() or not path.exists():
            beside = _beside(path)
            beside.touch()
            beside.unlink()


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file at once: a kill, Ctrl-C or a full disk leaves what was there before.

    It is written beside and put in its place; what is no plain file, such as a terminal, is
    written to as it is. SpecError in one sentence when that fails.
    """
    data = content.encode() if isinstance(content, str) else content
    with _in_one_sentence(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        replace_whole(path, data)


def replace_whole(path: Path, data: bytes) -> None:
    """The same for a plain file in a folder that is there; OSError when that fails."""
    beside = _beside(path)
    try:
        beside.write_bytes(data)
        beside.replace(path.resolve())
    finally:
        beside.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """A file of this process alone, next to where a path leads."""
    place = path.resolve()
    return place.with_name(f"{place.name}.{os.getpid()}.part")


@contextmanager
def _in_one_sentence(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpecError(f"{path}: cannot be written: {error.strerror}") from None
