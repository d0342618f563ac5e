"""The terminal on training engines: which of them run a policy as it is."""

from explorer.cli.shared import (
    AsJson,
    Batch,
    Device,
    MicroBatch,
    Model,
    Norm,
    Optimizer,
    Policy,
    Precision,
    app,
    show,
)
from explorer.session import Session


@app.command()
def engines(
    model: Model,
    device: Device,
    policy: Policy = "full",
    batch: Batch = None,
    micro_batch: MicroBatch = None,
    norm: Norm = None,
    optimizer: Optimizer = None,
    precision: Precision = None,
    as_json: AsJson = False,
) -> None:
    """Which training engines run a policy as it is, and the first reason against the others."""
    session = Session(
        model=model,
        device=device,
        policy=policy,
        batch=batch,
        micro_batch=micro_batch,
        norm=norm,
        optimizer=optimizer,
        precision=precision,
    )
    rows = [
        {"engine": verdict.engine, "runs": verdict.runs, "reason": verdict.reason}
        for verdict in session.engines()
    ]
    show(rows, as_json)
