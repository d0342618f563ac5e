"""The terminal on documents: whether what reads them later will take them."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from explorer import catalog
from explorer.accuracy.records import Ledger
from explorer.backward_config import read_config
from explorer.cli.shared import WRONG_USE_EXIT, AsJson, app, show
from explorer.costmodel.tables import layer_table
from explorer.device import DeviceProfile, read_text
from explorer.document import Named, PolicyDocument, parse_document
from explorer.errors import ExplorerError, SpecError, UnknownNameError
from explorer.export import FrontDocument, policy_of_candidate, schema_kind
from explorer.graph import ModelGraph, normalised
from explorer.network import load_network
from explorer.search.sources import measured_form, model_graph

Check = Callable[[Path, str, str | None], object]


@app.command()
def validate(
    files: Annotated[
        list[Path], typer.Argument(help="policies, fronts, networks, devices, schemes, ledgers")
    ],
    model: Annotated[
        str | None, typer.Option(help="the network that policies and fronts must be for")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check documents; the first problem of each is one sentence, and the exit code 2.

    Layers are compared with the network, which is known by --model, or by name and digest.
    """
    rows = [_row(path, model) for path in files]
    show(rows, as_json)
    if problems := [str(row["problem"]) for row in rows if not row["valid"]]:
        for problem in problems:
            print(problem, file=sys.stderr)
        raise typer.Exit(WRONG_USE_EXIT)


def _row(path: Path, model: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {"file": str(path), "kind": "", "valid": False, "problem": ""}
    try:
        text = "" if path.suffix == ".jsonl" else read_text(path)
        row["kind"] = schema_kind(path, text)
        CHECKS[row["kind"]](path, text, model)
        row["valid"] = True
    except ExplorerError as error:
        row["problem"] = str(error)
    return row


def _check_policy(path: Path, text: str, model: str | None) -> None:
    document = parse_document(PolicyDocument, text, str(path))
    with _at(path):
        graph = _network(document.model, model)
        document.policy(normalised(graph, document.setup.norm))


def _check_front(path: Path, text: str, model: str | None) -> None:
    document = parse_document(FrontDocument, text, str(path))
    for index, candidate in enumerate(document.candidates):
        with _at(path, f"candidates.{index}: "):
            graph = _network(candidate.model or document.model, model)
            own = normalised(graph, candidate.setup.norm)
            policy_of_candidate(document, candidate, own, None).policy(own)


def _check_ledger(path: Path, _text: str, _model: str | None) -> None:
    if not path.is_file():
        raise SpecError(f"{path}: cannot be read: no such file")
    content = Ledger(path).read()
    if content.problem:
        raise SpecError(content.problem)
    for number, run in enumerate(content, 1):
        graph = measured_form(run.model.name, run.model.digest)
        if graph is not None and not run.suits(graph):
            raise SpecError(f"{path}: run {number}: {graph.name} cannot have its design")


CHECKS: dict[str, Check] = {
    "policy": _check_policy,
    "front": _check_front,
    "network": lambda path, _text, _model: layer_table(load_network(path)),
    "device": lambda path, text, _model: DeviceProfile.from_toml(text, str(path)),
    "tiny-training": lambda path, text, _model: read_config(text, str(path)),
    "ledger": _check_ledger,
}


def _network(named: Named, model: str | None) -> ModelGraph:
    """The network a document is for; SpecError where nobody said which and it is not known."""
    if model is not None:
        return model_graph(model)
    graph = measured_form(named.name, named.digest)
    if graph is None:
        is_known = named.name in catalog.names("model")
        now = f"{named.name} ({model_graph(named.name).digest}) or " if is_known else ""
        came = f"{named.name} ({named.digest}), which is not known"
        raise SpecError(f"model: got {came}, allowed: {now}the network it is for, as --model")
    return graph


@contextmanager
def _at(path: Path, where: str = "") -> Iterator[None]:
    try:
        yield
    except (SpecError, UnknownNameError) as error:
        raise SpecError(f"{path}: {where}{error}") from None
