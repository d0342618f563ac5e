"""Where files that are not code lie: what ships, what was fetched, and the user's own data."""

import hashlib
import os
from pathlib import Path

from explorer.errors import SpecError

DATA_VARIABLE = "EXPLORER_DATA"
CACHE_VARIABLE = "EXPLORER_CACHE"
CACHE_NAME = "ondevice-explorer"


def data_cache() -> Path:
    """The shipped `data_cache`: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "data_cache"
    return inside if inside.is_dir() else package.parent / "data_cache"


def explorer_data() -> Path | None:
    """The folder of converted data sets that EXPLORER_DATA names, if it is set."""
    value = os.environ.get(DATA_VARIABLE)
    return Path(value).expanduser() if value else None


def user_cache() -> Path:
    """Where `explorer fetch` keeps files: EXPLORER_CACHE, or the system's cache folder."""
    import platformdirs

    value = os.environ.get(CACHE_VARIABLE)
    return Path(value).expanduser() if value else platformdirs.user_cache_path(CACHE_NAME)


def kept_name(model: str, task: str) -> str:
    """Stem of the files of a network on a task; a folder's path becomes its name and a digest."""
    path = Path(task)
    if task == path.name:
        return f"{model}-{task}"
    place = path.expanduser().resolve()
    return f"{model}-{place.name}-{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"


def check_writable(path: Path) -> None:
    """Before the work, not after: SpecError when a result could not be kept there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(f"{path}: cannot be written: {error.strerror}") from None
    target = path if path.exists() else path.parent
    if path.is_dir() or not os.access(target, os.W_OK):
        raise SpecError(f"{path}: cannot be written: not a writable file")
