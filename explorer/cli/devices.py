"""The terminal on boards of one's own: a profile to fill, and one fitted to timings."""

import difflib
import json
from pathlib import Path
from typing import Annotated

import typer

from explorer import catalog
from explorer.cli.shared import AsJson, app, console, write
from explorer.device_text import new_profile, profile_toml
from explorer.errors import SpecError

device_app = typer.Typer(no_args_is_help=True, help="A board of your own: new, fit.")
app.add_typer(device_app, name="device")


@device_app.command()
def new(
    name: Annotated[str, typer.Argument(help="what to call the board")],
    like: Annotated[
        str | None,
        typer.Option(help="a device to start from; else the shipped one of the nearest name"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="write it here; NAME.toml if not given")] = None,
    as_json: AsJson = False,
) -> None:
    """A commented TOML to fill; until then every number is another board's, and assumed."""
    like = like or _nearest(name)
    text = profile_toml(new_profile(name, like))
    path = out or Path(f"{name}.toml")
    if path.exists():
        raise SpecError(f"{path}: is already there; --out takes another path")
    write(path, text)
    if as_json:
        print(json.dumps({"file": str(path), "name": name, "like": like}, indent=2))
    else:
        console.print(f"{path}: to be filled; every number is still that of {like}")


def _nearest(name: str) -> str:
    known = catalog.names("device")
    near = difflib.get_close_matches(name, known, n=1)
    if not near:
        raise SpecError(f"--like: no shipped device is named like {name!r}: {', '.join(known)}")
    return near[0]
