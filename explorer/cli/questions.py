"""Questions: cost, advise, compare, search."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

from explorer.cli.shared import (
    Accounting,
    AsJson,
    Batch,
    Cell,
    Device,
    FlashReserve,
    MicroBatch,
    Model,
    Norm,
    Optimizer,
    Policy,
    Precision,
    Recompute,
    Reserve,
    Task,
    Update,
    app,
    console,
    print_rows,
    stopping,
    write,
)
from explorer.costmodel.adaptation import SAMPLES
from explorer.errors import SpecError
from explorer.search.candidates import MEMORY_OBJECTIVES, CandidateTable, ParetoFront
from explorer.search.control import SearchControl
from explorer.search.exact import ExactFront, exact_share
from explorer.session import Session
from explorer.units import format_bytes, format_joules, format_seconds

MISFIT_EXIT = 3
SETUP_OPTIONS = (
    "batch",
    "micro_batch",
    "norm",
    "optimizer",
    "update_timing",
    "recompute",
    "precision",
)


@app.command()
def cost(
    context: typer.Context,
    model: Model,
    device: Device,
    policy: Policy = "full",
    batch: Batch = 1,
    micro_batch: MicroBatch = None,
    norm: Norm = None,
    optimizer: Optimizer = "sgd",
    update_timing: Update = "fused",
    recompute: Recompute = "none",
    precision: Precision = None,
    accounting: Accounting = "device",
    task: Task = None,
    reserve: Reserve = 0,
    flash_reserve: FlashReserve = 0,
    steps: Annotated[
        int | None, typer.Option(help="weight updates of a session; else those of 40 passes")
    ] = None,
    samples: Annotated[int, typer.Option(help="samples kept for a session")] = SAMPLES,
    battery: Cell = None,
    against: Annotated[str | None, typer.Option(help="another policy to compare with")] = None,
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
        update_timing=update_timing,
        recompute=recompute,
        precision=precision,
        policy=policy,
        accounting=accounting,
        reserve_bytes=reserve,
        flash_reserve_bytes=flash_reserve,
        steps=steps,
        samples=samples,
        battery=battery,
    )
    session = _with_policy_setup(context, session)
    answer = session.cost()
    compared = None if against is None else session.against(session.with_policy(against))
    if as_json:
        extra = {} if compared is None else {"against": asdict(compared)}
        print(json.dumps(answer.to_dict(layers=layers) | extra, indent=2))
    else:
        title = f"{answer.model} on {answer.device}, {answer.policy}, {answer.setup['precision']}"
        print_rows([{"": label, "value": text} for label, text in answer.summary()], title)
        entry = answer.provenance["step.time_s"]
        low, high = format_seconds(entry.low or 0.0), format_seconds(entry.high or 0.0)
        console.print(
            f"time and energy are {entry.kind}: {low} to {high} a step (90 %)", style="dim"
        )
        if layers:
            print_rows(answer.to_dict(layers=True)["layers"], "layers")
        if compared is not None:
            console.print(
                f"{compared.time_ratio:.3g} times as long as {compared.policy}; "
                f"faster with probability {compared.p_faster:.2f}, "
                f"less energy with {compared.p_less_energy:.2f}"
            )
        for warning in answer.warnings:
            console.print(warning, style="yellow")
    if fail_if_misfit and not answer.fits_all:
        raise typer.Exit(MISFIT_EXIT)


def _with_policy_setup(context: typer.Context, session: Session) -> Session:
    """The setup a policy brings along, where the command line does not say otherwise."""
    brought = session.with_policy(session.policy)
    given = {
        name: getattr(session, name)
        for name in SETUP_OPTIONS
        if str(context.get_parameter_source(name)).endswith("COMMANDLINE")
    }
    if "batch" in given:
        given.setdefault("micro_batch", None)
    return replace(brought, **given)


@app.command()
def advise(
    context: typer.Context,
    model: Model,
    device: Device,
    policy: Policy = "full",
    batch: Batch = 1,
    micro_batch: MicroBatch = None,
    norm: Norm = None,
    optimizer: Optimizer = "sgd",
    update_timing: Update = "fused",
    recompute: Recompute = "none",
    precision: Precision = None,
    reserve: Reserve = 0,
    flash_reserve: FlashReserve = 0,
    as_json: AsJson = False,
) -> None:
    """Largest micro-batch, smallest device, and changes that save memory, the cheapest first."""
    session = Session(
        model=model,
        device=device,
        batch=batch,
        micro_batch=micro_batch,
        norm=norm,
        optimizer=optimizer,
        update_timing=update_timing,
        recompute=recompute,
        precision=precision,
        policy=policy,
        reserve_bytes=reserve,
        flash_reserve_bytes=flash_reserve,
    )
    session = _with_policy_setup(context, session)
    advice = session.advise()
    if as_json:
        print(json.dumps(advice.to_dict(), indent=2))
        return
    over = [fit.level for fit in advice.fits if not fit.fits]
    verdict = f"does not fit {', '.join(over)}" if over else "fits"
    console.print(f"{model} with {policy} on {device}: {verdict}")
    for sentence in advice.sentences:
        console.print(sentence, markup=False)
    print_rows([{"change": change.sentence} for change in advice.changes])


@app.command()
def compare(
    model: Model,
    device: Device,
    task: Task = None,
    batch: Batch = 1,
    micro_batch: MicroBatch = None,
    norm: Norm = None,
    optimizer: Optimizer = "sgd",
    update_timing: Update = "fused",
    recompute: Recompute = "none",
    precision: Precision = None,
    reserve: Reserve = 0,
    flash_reserve: FlashReserve = 0,
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
        update_timing=update_timing,
        recompute=recompute,
        precision=precision,
        policy="none",
        reserve_bytes=reserve,
        flash_reserve_bytes=flash_reserve,
    )
    table = session.problem.place(session.compare())
    if as_json:
        rows = json.loads(table.to_frame().to_json(orient="records"))
        for row, spec in zip(rows, table.labels, strict=True):
            row["score_name"] = table.score_name
            row["warnings"] = session.warnings(spec)
        print(json.dumps(rows, indent=2))
    else:
        print_table(table, ", ".join(filter(None, (f"{model} on {device}", session.task_name))))
        for spec in table.labels:
            for warning in session.warnings(spec):
                console.print(f"{spec}: {warning}", style="yellow")


@app.command()
def search(
    model: Model,
    device: Device,
    task: Task = None,
    trials: Annotated[int, typer.Option(help="trials of the study in total")] = 400,
    sampler: Annotated[str, typer.Option(help="an Optuna sampler by name")] = "nsga2",
    seed: Annotated[int, typer.Option(help="the same seed gives the same trials")] = 0,
    memory_limit: Annotated[int | None, typer.Option(help="peak RAM in bytes")] = None,
    memory_objective: Annotated[
        str, typer.Option(help="memory to make small: " + ", ".join(MEMORY_OBJECTIVES))
    ] = "peak",
    space: Annotated[str, typer.Option(help="guided or layers")] = "guided",
    study: Annotated[str | None, typer.Option(help="keep the study under a name")] = None,
    storage: Annotated[str | None, typer.Option(help="an Optuna storage URL")] = None,
    join: Annotated[bool, typer.Option(help="work on a study others work on too")] = False,
    exact: Annotated[
        bool, typer.Option(help="also solve the proxy's optimum and compare, some 20 s")
    ] = False,
    batch: Batch = 1,
    micro_batch: MicroBatch = None,
    norm: Norm = None,
    optimizer: Optimizer = "sgd",
    update_timing: Update = "fused",
    recompute: Recompute = "none",
    precision: Precision = None,
    reserve: Reserve = 0,
    flash_reserve: FlashReserve = 0,
    out: Annotated[Path | None, typer.Option(help="write the front document here")] = None,
    as_json: AsJson = False,
) -> None:
    """Search what to train: accuracy or proxy, memory and energy at once."""
    if study is not None and not study.strip():
        raise SpecError.of("study", study, "a name")
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
        update_timing=update_timing,
        recompute=recompute,
        precision=precision,
        policy="none",
        reserve_bytes=reserve,
        flash_reserve_bytes=flash_reserve,
        memory_limit_bytes=memory_limit,
        memory_objective=memory_objective,
    )
    control = SearchControl()
    with (
        stopping(control.stop),
        Progress(console=Console(stderr=True), transient=True, disable=as_json) as progress,
    ):
        optimum = _optimum(session, progress, control) if exact else None
        bar = progress.add_task("search", total=trials)
        front = session.search(
            trials,
            sampler,
            seed,
            space=space,
            study=study,
            storage=storage,
            on_batch=lambda done, *_: progress.update(bar, completed=done),
            control=control,
        )
    if optimum is not None:
        front = replace(front, exact_hypervolume_ratio=exact_share(front, optimum))
    if front.trial_count < trials:
        again = "; the same command goes on" if study else ""
        Console(stderr=True).print(f"stopped after {front.trial_count} of {trials} trials{again}")
    if out is None and not as_json:
        print_front(front)
        return
    text = session.front_document(front).to_json()
    if out is not None:
        write(out, text)
    if as_json:
        print(text, end="")
    else:
        print_front(front)
        console.print(f"{len(front.table)} candidates written to {out}")


def _optimum(session: Session, progress: Progress, control: SearchControl) -> ExactFront:
    """The exact front, with a bar."""
    bar = progress.add_task("optimum", total=None)
    return session.exact_front(
        on_optimum=lambda done, total, *_: progress.update(bar, completed=done, total=total),
        control=control,
    )


def print_table(table: CandidateTable, title: str) -> None:
    """Candidates as rows, every score with its kind."""
    rows = []
    for row in range(len(table)):
        label = table.labels[row] or table.designs.families[row]
        rows.append(
            {
                "policy": label,
                table.score_name: f"{table.score[row]:.3f} ({table.score_kind[row].word})",
                "accuracy (measured, fp32)": _measured(table, row),
                "peak RAM": format_bytes(float(table.peak_live_bytes[row])),
                "above inference": format_bytes(float(table.training_extra_bytes[row])),
                "step": format_seconds(float(table.step_time_s[row])),
                "energy": format_joules(float(table.step_energy_j[row])),
                "fits": "yes" if table.feasible[row] else "no",
            }
        )
    print_rows(rows, f"{title} (memory, time and energy modelled)")


def print_front(front: ParetoFront) -> None:
    """The front, its share of the optimum, and what the closest needs when nothing fits."""
    table = front.table.take(front.rows)
    print_table(table, f"front of {len(table)}")
    if not table.feasible.any():
        least = format_bytes(float(table.peak_live_bytes.min()))
        console.print(f"nothing fits: the closest needs {least} of RAM", style="red")
    if front.exact_hypervolume_ratio is not None:
        share = f"{front.exact_hypervolume_ratio:.1%}"
        console.print(f"{share} of the additive-proxy optimum (not about accuracy)")


def _measured(table: CandidateTable, row: int) -> str:
    accuracy, error = table.worth.measured[row], table.worth.measured_error[row]
    return f"{accuracy:.1%} ± {error:.1%}" if np.isfinite(accuracy) else ""
