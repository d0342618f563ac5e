"""The terminal: `explorer` and `odx`. Every command has `--json`.

Exit codes: 0 done, 2 wrong use or a bad document (one line on stderr, no traceback),
3 does not fit (only with `--fail-if-misfit`).
"""

import json
import os
import sys
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from typer.exceptions import TyperException

from explorer import catalog
from explorer.costmodel.conventions import ACCOUNTINGS
from explorer.device import DeviceProfile, load_device
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
from explorer.search.candidates import CandidateTable
from explorer.session import Session
from explorer.units import format_bytes, format_joules, format_seconds

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="What to train on a device, and what it costs.",
)
console = Console()

LISTS = {
    "models": "model",
    "devices": "device",
    "policies": "policy",
    "tasks": "task",
    "samplers": "sampler",
}
MISFIT_EXIT = 3
WRONG_USE_EXIT = 2

Model = Annotated[str, typer.Argument(help="a model's name, with options as name:key=value")]
Device = Annotated[str, typer.Argument(help="a device's name, or a path to a TOML")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]
Task = Annotated[str | None, typer.Option(help="a task; the model's own if not given")]
Policy = Annotated[str, typer.Option(help="NAME[:key=value,...] or a policy JSON")]
Batch = Annotated[int, typer.Option(help="samples of one weight update")]
MicroBatch = Annotated[int | None, typer.Option(help="samples in memory at once")]
Norm = Annotated[str | None, typer.Option(help="bn, gn, frozen-bn or none")]
Optimizer = Annotated[str, typer.Option(help="sgd, sgd-momentum or adam")]
Precision = Annotated[str | None, typer.Option(help="fp32, fp16 or int8; the device's default")]
Accounting = Annotated[str, typer.Option(help=", ".join(ACCOUNTINGS))]
Reserve = Annotated[int, typer.Option(help="bytes of RAM the application keeps")]


@app.command("list")
def list_entries(
    kind: Annotated[str, typer.Argument(help=", ".join(LISTS))], as_json: AsJson = False
) -> None:
    """Names of models, devices, policies, tasks or samplers."""
    if kind not in LISTS:
        raise SpecError.of("kind", kind, ", ".join(LISTS))
    rows = [{"name": name, "summary": _summary(kind, name)} for name in catalog.names(LISTS[kind])]
    _show(rows, as_json)


@app.command()
def cost(
    model: Model,
    device: Device,
    policy: Policy = "full",
    batch: Batch = 1,
    micro_batch: MicroBatch = None,
    norm: Norm = None,
    optimizer: Optimizer = "sgd",
    precision: Precision = None,
    accounting: Accounting = "device",
    task: Task = None,
    reserve: Reserve = 0,
    layers: Annotated[bool, typer.Option(help="also one row per layer")] = False,
    fail_if_misfit: Annotated[bool, typer.Option(help="exit 3 when it does not fit")] = False,
    as_json: AsJson = False,
) -> None:
    """What one training step of a policy costs on a device."""
    session = Session(
        model=model,
        device=device,
        task=task,
        batch=batch,
        micro_batch=micro_batch,
        norm=norm,
        optimizer=optimizer,
        precision=precision,
        policy=policy,
        accounting=accounting,
        reserve_bytes=reserve,
    )
    answer = session.cost()
    if as_json:
        print(answer.to_json(layers=layers))
    else:
        title = f"{answer.model} on {answer.device}, {answer.policy}, {answer.setup['precision']}"
        _print_rows([{"": label, "value": text} for label, text in answer.summary()], title)
        entry = answer.provenance["step.time_s"]
        low, high = format_seconds(entry.low or 0.0), format_seconds(entry.high or 0.0)
        console.print(f"time and energy are {entry.kind}: {low} to {high} a step", style="dim")
        if layers:
            _print_rows(answer.to_dict(layers=True)["layers"], "layers")
        for warning in answer.warnings:
            console.print(warning, style="yellow")
    if fail_if_misfit and not answer.fits_all:
        raise typer.Exit(MISFIT_EXIT)


@app.command()
def compare(
    model: Model,
    device: Device,
    task: Task = None,
    batch: Batch = 1,
    micro_batch: MicroBatch = None,
    norm: Norm = None,
    optimizer: Optimizer = "sgd",
    precision: Precision = None,
    reserve: Reserve = 0,
    as_json: AsJson = False,
) -> None:
    """Every known policy that applies, one row each."""
    session = Session(
        model=model,
        device=device,
        task=task,
        batch=batch,
        micro_batch=micro_batch,
        norm=norm,
        optimizer=optimizer,
        precision=precision,
        policy="none",
        reserve_bytes=reserve,
    )
    table = session.compare()
    if as_json:
        rows = json.loads(table.to_frame().to_json(orient="records"))
        for row in rows:
            row["score_name"] = table.score_name
        print(json.dumps(rows, indent=2))
    else:
        _print_table(table, f"{model} on {device}, {session.task_name}")


@app.command()
def search(
    model: Model,
    device: Device,
    task: Task = None,
    trials: Annotated[int, typer.Option(help="trials of the study in total")] = 400,
    sampler: Annotated[str, typer.Option(help="an Optuna sampler by name")] = "nsga2",
    seed: Annotated[int, typer.Option(help="the same seed gives the same trials")] = 0,
    memory_limit: Annotated[int | None, typer.Option(help="peak RAM in bytes")] = None,
    space: Annotated[str, typer.Option(help="guided or layers")] = "guided",
    study: Annotated[str | None, typer.Option(help="keep the study under a name")] = None,
    storage: Annotated[str | None, typer.Option(help="an Optuna storage URL")] = None,
    join: Annotated[bool, typer.Option(help="work on a study others work on too")] = False,
    batch: Batch = 1,
    micro_batch: MicroBatch = None,
    norm: Norm = None,
    optimizer: Optimizer = "sgd",
    precision: Precision = None,
    reserve: Reserve = 0,
    out: Annotated[Path | None, typer.Option(help="write the front document here")] = None,
    as_json: AsJson = False,
) -> None:
    """Search what to train: accuracy or proxy, peak RAM and energy at once."""
    if join and study is None:
        raise SpecError.of("join", True, "only with --study")
    session = Session(
        model=model,
        device=device,
        task=task,
        batch=batch,
        micro_batch=micro_batch,
        norm=norm,
        optimizer=optimizer,
        precision=precision,
        policy="none",
        reserve_bytes=reserve,
        memory_limit_bytes=memory_limit,
    )
    with Progress(console=Console(stderr=True), transient=True, disable=as_json) as progress:
        bar = progress.add_task("search", total=trials)
        front = session.search(
            trials,
            sampler,
            seed,
            space=space,
            study=study,
            storage=storage,
            on_batch=lambda done, *_: progress.update(bar, completed=done),
        )
    if out is None and not as_json:
        _print_front(front.table.take(front.rows))
        return
    text = session.front_document(front).to_json()
    if out is not None:
        _write(out, text)
    if as_json:
        print(text, end="")
    else:
        _print_front(front.table.take(front.rows))
        console.print(f"{len(front.table)} candidates written to {out}")


@app.command()
def export(
    front: Annotated[Path, typer.Argument(help="a front document of `search --out`")],
    out: Annotated[Path, typer.Option(help="write the policy document here")],
    which: Annotated[
        str, typer.Option("--pick", help=f"{', '.join(PICKS)}, or an index in candidates")
    ] = "knee",
    as_json: AsJson = False,
) -> None:
    """One candidate of a front as a policy document."""
    document = load_front(front)
    candidate = pick(document, which)
    asked = Session(
        model=document.model.name, task=document.task, norm=candidate.setup.norm, policy="none"
    )
    policy = policy_of_candidate(document, candidate, asked.graph, asked.scores)
    _write(out, policy.to_json())
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
    _show(rows, as_json)
    if not all(row["valid"] for row in rows):
        for row in rows:
            if not row["valid"]:
                print(row["problem"], file=sys.stderr)
        raise typer.Exit(WRONG_USE_EXIT)


@app.command()
def lab(
    arguments: Annotated[
        list[str] | None, typer.Argument(help="further arguments of jupyter lab")
    ] = None,
) -> NoReturn:
    """JupyterLab on the explorer notebook."""
    notebook = Path(__file__).resolve().parent.parent / "notebooks" / "01_explorer.ipynb"
    command = [sys.executable, "-m", "jupyterlab", str(notebook), *(arguments or [])]
    os.execv(sys.executable, command)


def main() -> None:
    """Console script: wrong use is one line on stderr and exit code 2."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command line; returns the exit code."""
    try:
        code = app(arguments, standalone_mode=False)
    except ExplorerError as error:
        return _complain(str(error))
    except TyperException as error:
        return _complain(error.format_message() + _what_came(error, arguments))
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted; a named study goes on when it is started again")
    return code if isinstance(code, int) else 0


def _what_came(error: TyperException, arguments: list[str]) -> str:
    """The value an option was given, which the parser's own sentence leaves out."""
    names = getattr(getattr(error, "param", None), "opts", ())
    for name, value in pairwise(arguments):
        if name in names:
            return f"; got {value!r}"
    return ""


def _complain(sentence: str) -> int:
    print(f"explorer: {' '.join(sentence.split())}", file=sys.stderr)
    return WRONG_USE_EXIT


def _summary(kind: str, name: str) -> str:
    if kind == "devices":
        return load_device(name).summary
    return str(catalog.load(LISTS[kind], name).SUMMARY)


def _validate(path: Path) -> dict[str, Any]:
    readers: dict[str, Callable[[str], object]] = {
        "policy": lambda text: parse_document(PolicyDocument, text, str(path)),
        "front": lambda text: parse_document(FrontDocument, text, str(path)),
        "device": lambda text: DeviceProfile.from_toml(text, str(path)),
    }
    row: dict[str, Any] = {"file": str(path), "kind": "", "valid": False, "problem": ""}
    try:
        text = path.read_text("utf-8")
        row["kind"] = schema_kind(path, text)
        readers[row["kind"]](text)
        row["valid"] = True
    except OSError as error:
        row["problem"] = f"{path}: cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        row["problem"] = f"{path}: not UTF-8 text"
    except ExplorerError as error:
        row["problem"] = str(error)
    return row


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be written: {error.strerror}") from None


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        _print_rows(rows)


def _print_table(table: CandidateTable, title: str) -> None:
    rows = []
    for row in range(len(table)):
        label = table.labels[row] or table.designs.families[row]
        rows.append(
            {
                "policy": label,
                table.score_name: f"{table.score[row]:.3f} ({table.score_kind[row].word})",
                "peak RAM": format_bytes(float(table.peak_live_bytes[row])),
                "above inference": format_bytes(float(table.training_extra_bytes[row])),
                "step": format_seconds(float(table.step_time_s[row])),
                "energy": format_joules(float(table.step_energy_j[row])),
                "fits": "yes" if table.feasible[row] else "no",
            }
        )
    _print_rows(rows, f"{title} (memory, time and energy modelled)")


def _print_front(table: CandidateTable) -> None:
    _print_table(table, f"front of {len(table)}")
    if not table.feasible.any():
        over = float(table.violations.max(axis=1).min())
        console.print(f"nothing fits: the closest is over by {over:.1%} of the level", style="red")


def _print_rows(rows: Iterable[dict[str, Any]], title: str | None = None) -> None:
    rows = list(rows)
    table = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ():
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    console.print(table)
