"""Questions: cost, advise, compare, search."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from explorer.accuracy.progress import CancelledError
from explorer.cli.shared import (
    Accounting,
    AsJson,
    Batch,
    Cell,
    Device,
    FlashReserve,
    MetricWord,
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
    bars,
    console,
    note,
    out_option,
    print_rows,
    stopping,
)
from explorer.cli.tables import print_front, print_table, question_words, refined
from explorer.costmodel.adaptation import SAMPLES
from explorer.costmodel.detail import setup_dict
from explorer.errors import SpecError, check_whole
from explorer.paths import write_whole
from explorer.refining import Measure
from explorer.search.control import SearchControl
from explorer.search.exact import ExactFront, exact_share
from explorer.search.measured import Measuring
from explorer.search.named import StudyPlace, exists
from explorer.search.openings import GENES
from explorer.search.quantities import DEFAULT_OBJECTIVES, MEMORY_OBJECTIVES, WORDS
from explorer.search.sources import left_out, own_ledger
from explorer.session import Session
from explorer.units import format_seconds

MISFIT_EXIT = 3


@app.command()
def cost(
    model: Model,
    device: Device,
    policy: Policy = "full",
    batch: Batch = None,
    micro_batch: MicroBatch = None,
    norm: Norm = None,
    optimizer: Optimizer = None,
    update_timing: Update = None,
    recompute: Recompute = None,
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
        if session.setup_note:
            console.print(session.setup_note)
        for warning in answer.warnings:
            console.print(warning, style="yellow")
    if fail_if_misfit and not answer.fits_all:
        raise typer.Exit(MISFIT_EXIT)


@app.command()
def advise(
    model: Model,
    device: Device,
    policy: Policy = "full",
    batch: Batch = None,
    micro_batch: MicroBatch = None,
    norm: Norm = None,
    optimizer: Optimizer = None,
    update_timing: Update = None,
    recompute: Recompute = None,
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
    batch: Batch = None,
    micro_batch: MicroBatch = None,
    norm: Norm = None,
    optimizer: Optimizer = None,
    update_timing: Update = None,
    recompute: Recompute = None,
    precision: Precision = None,
    reserve: Reserve = 0,
    flash_reserve: FlashReserve = 0,
    metric: MetricWord = None,
    as_json: AsJson = False,
) -> None:
    """Every known policy that applies, one row each, under the setup it is published with."""
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
        metric=metric,
    )
    table = session.problem.place(session.compare())
    for sentence in left_out(session.graph, session.task_name):
        note(sentence)
    if as_json:
        rows = json.loads(table.to_frame().to_json(orient="records"))
        setups = table.designs.row_setups
        for row, spec, setup in zip(rows, table.labels, setups, strict=True):
            row["score_name"] = table.score_name
            row["metric"] = table.worth.metric
            row["setup"] = setup_dict(session.problem.network(setup), setup)
            row["setup_note"] = replace(session, policy=spec).setup_note
            row["warnings"] = session.warnings(spec)
        print(json.dumps(rows, indent=2))
    else:
        names = filter(None, (f"{model} on {device}", session.task_name, question_words(session)))
        title = ", ".join(names)
        print_table(table, title, setup_fields=())
        for spec in table.labels:
            if brought := replace(session, policy=spec).setup_note:
                console.print(f"{spec}: {brought}")
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
    objectives: Annotated[
        str, typer.Option(help="what to make good at once, of " + ", ".join(WORDS))
    ] = ",".join(DEFAULT_OBJECTIVES),
    limit: Annotated[
        list[str] | None,
        typer.Option(help="QUANTITY=VALUE, as energy=5mJ or trained-parameters=20k; repeatable"),
    ] = None,
    space: Annotated[str, typer.Option(help="guided or layers")] = "guided",
    genes: Annotated[
        str, typer.Option(help="also search " + ",".join(GENES) + "; norm=gn/bn names some")
    ] = "",
    study: Annotated[str | None, typer.Option(help="keep the study under a name")] = None,
    storage: Annotated[str | None, typer.Option(help="an Optuna storage URL")] = None,
    join: Annotated[bool, typer.Option(help="only work on a study that exists already")] = False,
    exact: Annotated[
        bool, typer.Option(help="also solve the proxy's optimum and compare, some 20 s")
    ] = False,
    measured: Annotated[
        bool, typer.Option(help="really fine-tune every trial on the task: the metric is measured")
    ] = False,
    measure: Annotated[
        int, typer.Option(help="then really fine-tune so many of the front, and search on")
    ] = 0,
    episodes: Annotated[int | None, typer.Option(help="of each of these; as in the ledger")] = None,
    ledger: Annotated[Path | None, out_option("keep these runs here; else your own")] = None,
    batch: Batch = None,
    micro_batch: MicroBatch = None,
    norm: Norm = None,
    optimizer: Optimizer = None,
    update_timing: Update = None,
    recompute: Recompute = None,
    precision: Precision = None,
    reserve: Reserve = 0,
    flash_reserve: FlashReserve = 0,
    metric: MetricWord = None,
    out: Annotated[Path | None, out_option("write the front document here")] = None,
    as_json: AsJson = False,
) -> None:
    """Search what to train: several objectives at once, within the device and limits.

    Objectives are two to five of: score (the metric where it may be predicted, else the proxy
    score), memory, energy, time, macs (of a sample's step), trained-parameters. accuracy (the
    task's metric, also where that is macro F1) or proxy in place of score insists on one; peak
    or above-inference in place of memory too. retention, what the source domain loses, is
    measured or refused: give --measured. A limit is the most of a cost and the least of a score,
    in B, KiB, MiB, GiB, s, ms, J, mJ, k, M, %.
    """
    if study is not None and not study.strip():
        raise SpecError.of("study", study, "a name")
    if join and study is None:
        raise SpecError.of("join", True, "only with --study")
    if join and study is not None and not exists(StudyPlace(name=study, storage=storage)):
        raise SpecError.of("study", study, "one that others began, to join it")
    check_whole("measure", measure, 0)
    if measured and measure:
        raise SpecError.of("measure", measure, "0 with --measured, which measures every trial")
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
        metric=metric,
        objectives=tuple(word.strip() for word in objectives.split(",")),
        limits=tuple(limit or ()),
        genes=tuple(word.strip() for word in genes.split(",") if word.strip()),
    )
    for sentence in left_out(session.graph, session.task_name):
        note(sentence)
    control = SearchControl()
    with stopping(control.stop), bars(as_json) as progress:
        reason = session.reason_against_exact if exact else ""
        optimum = _optimum(session, progress, control) if exact and not reason else None
        bar = progress.add_task("search", total=trials)
        front = session.search(
            trials,
            sampler,
            seed,
            space=space,
            study=study,
            storage=storage,
            measuring=_measuring(session, episodes, ledger) if measured else None,
            on_batch=lambda done, *_: progress.update(bar, completed=done),
            control=control,
        )
        if optimum is not None:
            front = replace(front, exact_hypervolume_ratio=exact_share(front, optimum))
        if measure and front.trial_count >= trials:
            how = Measure(episodes=episodes, ledger=ledger)
            front = refined(session, front, measure, how, space, progress, control)
    if reason:
        front = replace(front, notes=(*front.notes, f"no share of an exact front: {reason}"))
    front = replace(front, table=session.problem.settle(front.table))  # as the document has it
    text = session.front_document(front).to_json() if out is not None or as_json else ""
    if as_json:
        print(text, end="")
    else:
        print_front(front)
    if out is not None:  # last: a full disk does not take what was found
        write_whole(out, text)
        if not as_json:
            console.print(f"{len(front.table)} candidates written to {out}")
    if front.trial_count < trials:
        again = "; the same command goes on" if study else ""
        raise CancelledError(f"stopped after {front.trial_count} of {trials} trials{again}")
    if control.is_stopped:
        raise CancelledError("stopped while measuring; the same command goes on")


def _measuring(session: Session, episodes: int | None, ledger: Path | None) -> Measuring:
    """How a search measures every trial; the user's own ledger keeps runs if none is named."""
    path = own_ledger(session.graph, session.task_name).path if ledger is None else ledger
    return Measuring(ledger=path) if episodes is None else Measuring(ledger=path, episodes=episodes)


def _optimum(session: Session, progress: Progress, control: SearchControl) -> ExactFront | None:
    """The exact front, with a bar; None when stopped, as a share of less would be too high."""
    bar = progress.add_task("optimum", total=None)
    found = session.exact_front(
        on_optimum=lambda done, total, *_: progress.update(bar, completed=done, total=total),
        control=control,
    )
    return None if control.is_stopped else found
