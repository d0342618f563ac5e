"""Files: export, validate; and the notebook."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from explorer.cli.shared import (
    AsJson,
    app,
    check_apart,
    console,
    note,
    out_option,
)
from explorer.device import read_text
from explorer.document import PolicyDocument, load_policy
from explorer.errors import SpecError
from explorer.export import (
    load_front,
    pick,
    pick_reason,
    policy_of_candidate,
    schema_kind,
)
from explorer.exporting.c_header import c_header
from explorer.exporting.onnx_graph import onnx_graph
from explorer.exporting.torch_script import torch_script
from explorer.paths import is_checkout, shipped, write_whole
from explorer.search.picks import PICKS
from explorer.search.sources import score_table
from explorer.session import Session
from explorer.tiny_training import Exported, config_of

TINY_TRAINING = "tiny-training"
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
FORMATS = ("policy", TINY_TRAINING, "torch", "c-header", "onnx")


@app.command()
def export(
    source: Annotated[
        Path, typer.Argument(metavar="FRONT", help="a front of `search --out`, or a policy")
    ],
    out: Annotated[Path, out_option()],
    which: Annotated[
        str,
        typer.Option(
            "--pick",
            help=f"{', '.join(PICKS)}, or an index in candidates; "
            "max-accuracy is the highest score, as of macro F1 where that ranks the task",
        ),
    ] = "knee",
    form: Annotated[str, typer.Option("--format", help=", ".join(FORMATS))] = FORMATS[0],
    model: Annotated[
        str | None, typer.Option(help="the network as searched, when it had options")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="of a c-header, when the policy's is not of the catalogue")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """One candidate of a front as a policy document, or as another tool reads it.

    `tiny-training` is the YAML of mit-han-lab/tiny-training; channels it cannot name go to a
    JSON beside it. `torch` is a script that trains the network on its own, `c-header` the
    policy and where each buffer lies, for firmware, `onnx` the network with its weights and a
    list of what trains (needs the onnx package).
    """
    if form not in FORMATS:
        raise SpecError.of("format", form, ", ".join(FORMATS))
    beside = out.with_suffix(".channels.json")
    for written in (out, beside):
        check_apart(written, source, model, device)
    policy = _policy_in(source, which, model)
    text = policy.to_json()
    if form in ("torch", "c-header"):
        text = _code(policy, form, model, device)
    if form == TINY_TRAINING:
        exported = _tiny_training(policy, model)
        text = exported.config.to_yaml()
        if exported.channels:
            write_whole(beside, json.dumps(exported.channels, indent=2) + "\n")
        for loss in exported.notes:
            note(loss)
    write_whole(out, _onnx(policy, model) if form == "onnx" else text)
    if as_json:
        print(policy.to_json(), end="")
    else:
        console.print(f"{policy.family} with {len(policy.layers)} trained layers: {out}")


def _policy_in(source: Path, which: str, model: str | None) -> PolicyDocument:
    """The policy of a document, or the picked candidate of a front."""
    if schema_kind(source, read_text(source)) == "policy":
        return load_policy(source)
    document = load_front(source)
    candidate = pick(document, which)
    asked = Session(model=model or document.model.name, norm=candidate.setup.norm, policy="none")
    graphs = (asked.graph, asked.with_norm(None).graph)
    tables = (score_table(graph, document.task or asked.task_name) for graph in graphs)
    scores = next((table for table in tables if table is not None), None)
    policy = policy_of_candidate(document, candidate, asked.graph, scores)
    print(f"{which}: {pick_reason(document, which)}", file=sys.stderr)
    return policy


def _tiny_training(document: PolicyDocument, model: str | None) -> Exported:
    name = model or document.model.name
    graph = Session(model=name, norm=document.setup.norm, policy="none").graph
    return config_of(document.policy(graph), graph)


def _code(document: PolicyDocument, form: str, model: str | None, device: str | None) -> str:
    """A torch script, or a C header; the arena of a header is one for the device as it is now."""
    name = model or document.model.name
    asked = Session(model=name, norm=document.setup.norm, policy="none")
    if form == "torch":
        return torch_script(document, asked.graph)
    on = device or (document.device and document.device.name)
    if not on:
        raise SpecError("device: the policy names none; give --device")
    return c_header(document, asked.graph, asked.with_device(on).profile)


def _onnx(document: PolicyDocument, model: str | None) -> bytes:
    from explorer.accuracy.torch_bridge import model_module

    name = model or document.model.name
    graph = Session(model=name, norm=document.setup.norm, policy="none").graph
    return onnx_graph(document, model_module(graph))


@app.command(context_settings=PASSED_ON)
def lab(context: typer.Context) -> NoReturn:
    """JupyterLab on the explorer notebook, on loopback with its token; takes its options."""
    as_root = ["--allow-root"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
    _serve("jupyterlab", _notebook(), "--ip=127.0.0.1", *as_root, *context.args)


@app.command(context_settings=PASSED_ON)
def page(context: typer.Context) -> NoReturn:
    """The explorer as a page of its own, without code: Voila on the notebook; takes its options.

    On loopback with a token, as `lab`: whoever opens the page has a kernel, which ends ten
    minutes after the page was left. `--token=` has none.
    """
    if importlib.util.find_spec("voila") is None:
        raise SpecError("voila: not installed; pip install 'ondevice-explorer[page]' brings it")
    notebook, folder = _notebook(), shipped("notebooks")
    os.chdir(folder.parent if is_checkout() else folder)  # where Voila finds its settings
    _serve("voila", notebook, "--Voila.ip=127.0.0.1", "--Voila.auto_token=True", *context.args)


def _serve(module: str, notebook: Path, *options: str) -> NoReturn:
    """Become a server of the notebook."""
    os.execv(sys.executable, [sys.executable, "-m", module, str(notebook), *options])


def _notebook() -> Path:
    """The explorer notebook; an installed package puts a copy into the working folder."""
    found = shipped("notebooks") / "01_explorer.ipynb"
    if is_checkout():
        return found
    own = Path("explorer.ipynb").resolve()
    if not own.exists():
        write_whole(own, found.read_bytes())
    return own
