"""Fetching: networks and data sets of other projects into the user's cache."""

import sys
from typing import Annotated, Any

import typer

from explorer.accuracy.downloads import REMOTES, Remote, fetch, remote
from explorer.cli.shared import AsJson, app, console, show
from explorer.paths import user_cache
from explorer.units import format_bytes


@app.command("fetch")
def fetch_files(
    names: Annotated[list[str] | None, typer.Argument(help="networks or tasks")] = None,
    as_json: AsJson = False,
) -> None:
    """Download networks and data sets by name; without a name, list what there is."""
    wanted = [remote(name) for name in names or ()]
    for known in wanted:
        fetch(known.name, progressbar=sys.stderr.isatty() and not as_json)
    show([_row(known, as_json) for known in wanted or REMOTES], as_json)
    if not as_json:
        console.print(f"cache: {user_cache()}", style="dim")


def _row(known: Remote, as_json: bool) -> dict[str, Any]:
    size, files = known.size_bytes, [file.path for file in known.files]
    row: dict[str, Any] = {
        "name": known.name,
        "kind": known.kind,
    }
    if as_json:
        return row | {
            "present": known.present,
            "size_bytes": size,
            "pinned_by": known.pinned_by,
            "licence": known.licence,
            "repository": known.repository,
            "commit": known.commit,
            "files": [str(path) for path in files] if known.present else [],
        }
    return row | {
        "in the cache": "yes" if known.present else "no",
        "size": "unknown" if size is None else format_bytes(float(size)),
        "pinned by": known.pinned_by,
        "licence": known.licence,
    }
