"""What visitors of a shared page get where others write files: downloads.

A file that the page itself must read again, such as a board of theirs, is kept by its name alone in
a folder that goes with their kernel; no path that they type is written to.
"""

import atexit
import base64
import os
import shutil
import tempfile
from functools import cache
from html import escape
from pathlib import Path

from explorer.app.kernel import is_for_visitors


def place_for(path: Path) -> Path:
    """Where a file is written that a person named: there, but for visitors in their folder."""
    return _visit() / path.name if is_for_visitors(os.environ) else path


def download_html(name: str, text: str) -> str:
    """A link that saves a text as a file, with its size."""
    content = text.encode()
    data = base64.b64encode(content).decode("ascii")
    return (
        f'<a download="{escape(name)}" href="data:application/octet-stream;base64,{data}">'
        f"Download {escape(name)}</a> ({len(content):,} bytes)"
    )


@cache
def _visit() -> Path:
    folder = tempfile.mkdtemp(prefix="explorer-visit-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
