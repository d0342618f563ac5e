"""What every command shares: the application, its option types, and how things are shown."""

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from explorer.accuracy.metrics import METRICS
from explorer.accuracy.progress import Cancelled
from explorer.accuracy.progress import Progress as OnDone
from explorer.costmodel.conventions import ACCOUNTINGS
from explorer.errors import SpecError
from explorer.own_code import code_file
from explorer.paths import check_writable

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="What to train on a device, and what it costs.",
)
PIPE_COLUMNS = 160  # where no terminal says how wide it is
# Names are anyone's text.
console = Console(markup=False, emoji=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)

WRONG_USE_EXIT = 2
STOPPED_EXIT = 130  # what a shell says of a program that Ctrl-C ended


def _writable(path: Path | None) -> Path | None:
    """Refuse a file that could not be written, before the work."""
    if path is not None:
        check_writable(path)
    return path


def out_option(meaning: str = "write it here") -> Any:
    """An option for a file that a command writes."""
    return typer.Option(help=meaning, callback=_writable)


Model = Annotated[
    str, typer.Argument(help="a model's name[:key=value], or a path to a network JSON")
]
Device = Annotated[str, typer.Argument(help="a device's name, or a path to a TOML")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]
Task = Annotated[
    str | None,
    typer.Option(
        help="a task, images, signals, or code (my_task.py:load); the model's own if not given"
    ),
]
Policy = Annotated[
    str, typer.Option(help="NAME[:key=value,...], a policy JSON, or a tiny-training YAML")
]
# what is not given is as a policy is published, else as usual
Batch = Annotated[int | None, typer.Option(help="samples of one weight update; usually 1")]
MicroBatch = Annotated[int | None, typer.Option(help="samples in memory at once; usually all")]
Norm = Annotated[str | None, typer.Option(help="bn, gn, frozen-bn or none; usually the model's")]
Optimizer = Annotated[str | None, typer.Option(help="sgd, sgd-momentum or adam; usually sgd")]
Update = Annotated[
    str | None,
    typer.Option("--update", help="fused (each gradient at once) or deferred; usually fused"),
]
Recompute = Annotated[
    str | None, typer.Option(help="none, or blocks: run them again in backward; usually none")
]
Precision = Annotated[str | None, typer.Option(help="fp32, fp16 or int8; the device's default")]
MetricWord = Annotated[
    str | None,
    typer.Option("--metric", help=f"{', '.join(METRICS)}: ranks what is measured; the task's own"),
]
Accounting = Annotated[str, typer.Option(help=", ".join(ACCOUNTINGS))]
Cell = Annotated[
    str | None, typer.Option(help="a cell such as 320mAh@3.7V: sessions of one charge")
]
Reserve = Annotated[int, typer.Option(help="bytes of RAM the application keeps")]
FlashReserve = Annotated[int, typer.Option(help="bytes of flash the application keeps")]


def show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Rows as JSON or as a table."""
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        print_rows(rows)


@contextmanager
def stopping(stop: Callable[[], object]) -> Iterator[None]:
    """The first Ctrl-C asks for a stop, so that what was done is kept; a second one ends it."""

    def ask(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        stop()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def bars(as_json: bool) -> Progress:
    """Bars on stderr, where a person sees them; else nothing, so that a line of it is one."""
    shown = Console(stderr=True)
    return Progress(console=shown, transient=True, disable=as_json or not shown.is_terminal)


@contextmanager
def working(title: str, as_json: bool) -> Iterator[tuple[OnDone, Cancelled]]:
    """A bar for long work, and what Ctrl-C tells it: `on_done(done, total)` and `cancelled()`."""
    stop = threading.Event()
    with stopping(stop.set), bars(as_json) as progress:
        bar = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total), stop.is_set


def note(sentence: str) -> None:
    """Something a reader should know, beside the answer."""
    print(f"note: {sentence}", file=sys.stderr)


def check_apart(out: Path, *read: str | Path | None) -> None:
    """SpecError when a command would write over what it reads, or over the code that it runs."""
    files = (code_file(str(one)) or Path(one) for one in read if one is not None)
    if any(file.resolve() == out.resolve() for file in files):
        raise SpecError.of("out", str(out), "another file than one that is read")


def print_rows(rows: Iterable[dict[str, Any]], title: str | None = None) -> None:
    """Rows with equal keys as a table."""
    rows = list(rows)
    table = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ():
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    console.print(table)
