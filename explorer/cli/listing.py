"""What there is: models, devices, policies, tasks, samplers, engines."""

from typing import Annotated

import typer

from explorer import catalog
from explorer.accuracy.metrics import METRICS
from explorer.accuracy.tasks import task_metrics
from explorer.cli.shared import AsJson, app, show
from explorer.device import load_device
from explorer.engine import load_engine
from explorer.errors import SpecError
from explorer.session import Session

LISTS = {
    "models": "model",
    "devices": "device",
    "policies": "policy",
    "tasks": "task",
    "samplers": "sampler",
    "engines": "engine",
}


@app.command("list")
def list_entries(
    kind: Annotated[str, typer.Argument(help=", ".join(LISTS))], as_json: AsJson = False
) -> None:
    """Names of models, devices, policies, tasks, samplers or engines."""
    if kind not in LISTS:
        raise SpecError.of("kind", kind, ", ".join(LISTS))
    rows = [
        {"name": name, **_fields(kind, name), "summary": _summary(kind, name)}
        for name in catalog.names(LISTS[kind])
    ]
    show(rows, as_json)


def _fields(kind: str, name: str) -> dict[str, str]:
    """What a model reads and the device it is usually asked about; what ranks runs on a task."""
    if kind == "tasks":
        return {"metric": METRICS[task_metrics(name)[0]]}
    if kind != "models":
        return {}
    entry = catalog.load("model", name)
    return {
        "modality": getattr(entry, "MODALITY", "vision"),
        "device": getattr(entry, "DEVICE", Session.device),
    }


def _summary(kind: str, name: str) -> str:
    if kind == "devices":
        return load_device(name).summary
    if kind == "engines":
        return load_engine(name).summary
    return str(catalog.load(LISTS[kind], name).SUMMARY)
