"""Files: export, validate; and the notebook."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from explorer.cli.shared import WRONG_USE_EXIT, AsJson, app, console, show, write
from explorer.device import DeviceProfile, read_text
from explorer.document import PolicyDocument, parse_document
from explorer.errors import ExplorerError, SpecError
from explorer.export import (
    PICKS,
    FrontDocument,
    load_front,
    pick,
    policy_of_candidate,
    schema_kind,
)
from explorer.session import Session


@app.command()
def export(
    front: Annotated[Path, typer.Argument(help="a front document of `search --out`")],
    out: Annotated[Path, typer.Option(help="write the policy document here")],
    which: Annotated[
        str, typer.Option("--pick", help=f"{', '.join(PICKS)}, or an index in candidates")
    ] = "knee",
    model: Annotated[
        str | None, typer.Option(help="the network as searched, when it had options")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """One candidate of a front as a policy document."""
    document = load_front(front)
    candidate = pick(document, which)
    asked = Session(
        model=model or document.model.name,
        task=document.task,
        norm=candidate.setup.norm,
        policy="none",
    )
    policy = policy_of_candidate(document, candidate, asked.graph, asked.scores)
    write(out, policy.to_json())
    if as_json:
        print(policy.to_json(), end="")
    else:
        console.print(f"{policy.family} with {len(policy.layers)} trained layers: {out}")


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="policy, device or front documents")],
    as_json: AsJson = False,
) -> None:
    """Check documents; the first problem of each is one sentence, and the exit code 2."""
    rows = [_validate(path) for path in files]
    show(rows, as_json)
    if not all(row["valid"] for row in rows):
        for row in rows:
            if not row["valid"]:
                print(row["problem"], file=sys.stderr)
        raise typer.Exit(WRONG_USE_EXIT)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(context: typer.Context) -> NoReturn:
    """JupyterLab on the explorer notebook, on loopback with its token; takes its options."""
    notebook = Path(__file__).resolve().parents[2] / "notebooks" / "01_explorer.ipynb"
    if not notebook.is_file():
        raise SpecError(f"{notebook.name}: not here; run explorer lab from a checkout")
    as_root = ["--allow-root"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
    command = [sys.executable, "-m", "jupyterlab", str(notebook), "--ip=127.0.0.1", *as_root]
    os.execv(sys.executable, [*command, *context.args])


def _validate(path: Path) -> dict[str, Any]:
    readers: dict[str, Callable[[str], object]] = {
        "policy": lambda text: parse_document(PolicyDocument, text, str(path)),
        "front": lambda text: parse_document(FrontDocument, text, str(path)),
        "device": lambda text: DeviceProfile.from_toml(text, str(path)),
    }
    row: dict[str, Any] = {"file": str(path), "kind": "", "valid": False, "problem": ""}
    try:
        text = read_text(path)
        row["kind"] = schema_kind(path, text)
        readers[row["kind"]](text)
        row["valid"] = True
    except ExplorerError as error:
        row["problem"] = str(error)
    return row
