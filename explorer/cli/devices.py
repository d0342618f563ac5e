"""The terminal on boards of one's own: a profile to fill, and one fitted to timings."""

import difflib
import json
from pathlib import Path
from typing import Annotated

import typer

from explorer import catalog
from explorer.cli.shared import AsJson, app, check_apart, console, out_option, print_rows
from explorer.device_text import new_profile, profile_toml
from explorer.errors import SpecError
from explorer.fitting import DeviceFit, fit_device
from explorer.paths import check_writable, write_whole

device_app = typer.Typer(no_args_is_help=True, help="A board of your own: new, fit.")
app.add_typer(device_app, name="device")


@device_app.command()
def new(
    name: Annotated[str, typer.Argument(help="what to call the board")],
    like: Annotated[
        str | None,
        typer.Option(help="a device to start from; else a shipped one with a name like this"),
    ] = None,
    out: Annotated[Path | None, out_option("write it here; NAME.toml if not given")] = None,
    as_json: AsJson = False,
) -> None:
    """A commented TOML to fill; until then every number is another board's, and assumed."""
    like = like or _nearest(name)
    text = profile_toml(new_profile(name, like))
    path = out or Path(f"{name}.toml")
    if path.exists():
        raise SpecError(f"{path}: is already there; --out takes another path")
    write_whole(path, text)
    if as_json:
        print(json.dumps({"file": str(path), "name": name, "like": like}, indent=2))
    else:
        console.print(f"{path}: to be filled; every number is still that of {like}")


@device_app.command()
def fit(
    measurements: Annotated[Path, typer.Argument(help="a CSV of timings")],
    base: Annotated[str, typer.Option(help="the device to start from, by name or TOML")],
    out: Annotated[Path | None, out_option("write it here; beside the CSV if not given")] = None,
    as_json: AsJson = False,
) -> None:
    """A profile with what a CSV of your own timings tells, and the rest of another's.

    Columns: model, phase (inference or step), time_s of the whole batch, and if they are wanted
    policy, batch, micro_batch, norm, optimizer, precision, power_w or energy_j.
    """
    path = out or measurements.parent / f"{measurements.stem}.toml"
    check_apart(path, measurements, base)
    check_writable(path)
    fitted = fit_device(measurements, base, path.stem)
    write_whole(path, profile_toml(fitted.profile))
    if as_json:
        print(json.dumps({"file": str(path)} | fitted.to_dict(), indent=2))
    else:
        _print(fitted)
        console.print(f"{path}: {len(fitted.numbers)} numbers of {base} fitted")


def _print(fitted: DeviceFit) -> None:
    """Numbers, how well they predict what they were not fitted to, and what was left alone."""
    print_rows(
        {
            "fitted": number.path,
            "base": number.reference,
            "value": number.value,
            "spread": f"{number.plus_minus_ratio:.1%}",
            "kind": number.kind,
        }
        for number in fitted.numbers
    )
    print_rows(
        {
            "held out": f"{one.precision} {one.quantity}, {one.left_out} at a time",
            "rows": one.row_count,
            "error": f"{one.error_ratio:.1%}",
            "of the base": f"{one.base_error_ratio:.1%}",
        }
        for one in fitted.held_out
    )
    for note in fitted.notes:
        console.print(note, style="dim")


def _nearest(name: str) -> str:
    known = catalog.names("device")
    near = difflib.get_close_matches(name, known, n=1)
    if not near:
        raise SpecError(
            f"like: no shipped device has a name like {name!r}; say which one to start from, "
            f"as --like {known[0]}; allowed: {', '.join(known)}, or a path to a TOML"
        )
    return near[0]
