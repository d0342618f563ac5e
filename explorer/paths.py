"""Where files that are not code lie: what ships with the project, and the user's own data."""

import os
from pathlib import Path

DATA_VARIABLE = "EXPLORER_DATA"


def data_cache() -> Path:
    """The shipped `data_cache`: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "data_cache"
    return inside if inside.is_dir() else package.parent / "data_cache"


def explorer_data() -> Path | None:
    """The folder of converted data sets that EXPLORER_DATA names, if it is set."""
    value = os.environ.get(DATA_VARIABLE)
    return Path(value).expanduser() if value else None
