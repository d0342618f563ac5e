"""Measuring: fisher, measure, calibrate. Torch is imported when a command runs."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from explorer.accuracy.records import FIXED, VARYING, Ledger
from explorer.cli.shared import AsJson, Model, Policy, app, print_rows, show
from explorer.errors import CalibrationError, SpecError, check_whole
from explorer.search.loop import LARGEST_SEED
from explorer.search.sources import score_path
from explorer.session import Session

TaskArgument = Annotated[str, typer.Argument(help="a task by name, or a folder of images")]
Seed = Annotated[int, typer.Option(help="the same seed gives the same episodes")]


@app.command()
def fisher(
    model: Model,
    task: TaskArgument,
    episodes: Annotated[int, typer.Option(help="episodes the scores are means over")] = 20,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="an .npz; data_cache/fisher if absent")] = None,
    as_json: AsJson = False,
) -> None:
    """Channel scores of a network on a task, from one backward pass an episode."""
    from explorer.accuracy.fisher import task_scores

    check_whole("episodes", episodes, 1)
    check_whole("seed", seed, 0, LARGEST_SEED)
    session = Session(model=model, task=task, policy="none")
    path = out or score_path(session.graph, task)
    _check_writable(path)
    table = task_scores(session.graph, task, episodes=episodes, seed=seed)
    table.save(path)
    potential = table.layer_fisher()
    rows = [
        {"layer": name, "fisher": float(value), "share": float(value / potential.sum())}
        for name, value in zip(table.layer_names, potential, strict=True)
    ]
    if as_json:
        print(json.dumps({"file": str(path), "meta": table.meta, "layers": rows}, indent=2))
    else:
        print_rows(rows, f"Fisher potential, measured on {episodes} episodes: {path}")


@app.command()
def measure(
    model: Model,
    task: TaskArgument,
    policy: Policy = "full",
    episodes: Annotated[int, typer.Option(help="paired episodes to fine-tune on")] = 10,
    seed: Seed = 0,
    ways: Annotated[int | None, typer.Option(help="classes of an episode")] = None,
    shots: Annotated[int | None, typer.Option(help="support images of a class")] = None,
    queries: Annotated[int | None, typer.Option(help="query images of a class")] = None,
    sampler: Annotated[
        str, typer.Option(help=f"{FIXED}, or {VARYING}: drawn, up to what is given")
    ] = FIXED,
    ledger: Annotated[Path | None, typer.Option(help="append the run to this ledger")] = None,
    as_json: AsJson = False,
) -> None:
    """Really fine-tune a policy on episodes of a task, and report its accuracy."""
    from explorer.accuracy.finetune import measure as run_measure
    from explorer.accuracy.finetune import task_protocol
    from explorer.accuracy.tasks import task_for

    check_whole("episodes", episodes, 1)
    check_whole("seed", seed, 0, LARGEST_SEED)
    if ledger is not None:
        _check_writable(ledger)
    session = Session(model=model, task=task).with_policy(policy)
    protocol = task_protocol(
        task_for(task, session.graph.input_shape),
        sampler,
        ways=ways,
        shots=shots,
        query_count=queries,
    )
    with Progress(console=Console(stderr=True), transient=True, disable=as_json) as progress:
        bar = progress.add_task("fine-tuning", total=episodes)
        run = run_measure(
            session.graph,
            task,
            session.chosen_policy,
            episodes=episodes,
            seed=seed,
            protocol=protocol,
            on_episode=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    if ledger is not None:
        Ledger(ledger).append(run)
    if as_json:
        print(run.to_json(), end="")
    else:
        names = ("accuracy_before", "accuracy", "standard_error", "learning_rate", "wall_time_s")
        rows = [{"": name, "measured": getattr(run, name)} for name in names]
        rules = run.protocol
        most = "up to " if rules.sampler == VARYING else ""
        size = f"{most}{rules.ways}-way {rules.shots}-shot, {rules.query_count} queries"
        rows.append({"": "protocol", "measured": size})
        print_rows(rows, f"{model} on {task}, {policy}, {episodes} episodes, seed {seed}")


@app.command()
def calibrate(model: Model, task: TaskArgument, as_json: AsJson = False) -> None:
    """How well accuracy can be predicted from the ledger, beside what must be beaten."""
    session = Session(model=model, task=task, policy="none")
    evidence = session.evidence
    if evidence is None:
        raise CalibrationError(
            f"{session.graph.name} on {task}: too few measured runs; add some with measure --ledger"
        )
    row = asdict(evidence) | {"reason_against": evidence.reason_against}
    show([row] if as_json else [{"": k, "value": v} for k, v in row.items()], as_json)


def _check_writable(path: Path) -> None:
    """Before the work, not after: SpecError when a result could not be kept there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(f"{path}: cannot be written: {error.strerror}") from None
    target = path if path.exists() else path.parent
    if path.is_dir() or not os.access(target, os.W_OK):
        raise SpecError(f"{path}: cannot be written: not a writable file")
