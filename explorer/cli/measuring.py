"""Measuring: fisher, measure, calibrate. Torch is imported when a command runs."""

import json
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explorer.accuracy.metrics import ACCURACY, METRIC_NAMES
from explorer.accuracy.protocols import FIXED, VARYING
from explorer.accuracy.records import AccuracyCurve, Ledger, MeasuredRun, Metric, UnkeptError
from explorer.cli.shared import (
    AsJson,
    MetricWord,
    MicroBatch,
    Model,
    Norm,
    Policy,
    app,
    check_apart,
    note,
    out_option,
    print_rows,
    show,
    working,
)
from explorer.design import TrainingSetup, UpdatePolicy
from explorer.errors import CalibrationError, SpecError, check_whole
from explorer.family import policy_setup
from explorer.graph import ModelGraph
from explorer.paths import check_writable
from explorer.search.loop import LARGEST_SEED
from explorer.search.measurer import Measurer
from explorer.search.sources import beside_shipped, calibration_beside, score_path
from explorer.session import Session
from explorer.units import format_seconds

if TYPE_CHECKING:
    from explorer.accuracy.tasks import Task
    from explorer.accuracy.torch_bridge import GraphModule

TaskArgument = Annotated[
    str,
    typer.Argument(
        help="a task by name, a folder of images, signals (.npz, folder of CSV), or code that "
        "returns them: my_task.py:load"
    ),
]
Seed = Annotated[int, typer.Option(help="the same seed gives the same episodes")]
Weights = Annotated[
    Path | None, typer.Option(help="weights of `explorer pretrain`; the network's own if absent")
]
Ways = Annotated[int | None, typer.Option(help="classes of an episode")]
Shots = Annotated[int | None, typer.Option(help="support images of a class")]
Sampler = Annotated[str, typer.Option(help=f"{FIXED}, or {VARYING}: drawn, up to what is given")]
Where = Annotated[str, typer.Option("--device", help="where it runs here: cpu or cuda")]


@app.command()
def fisher(
    model: Model,
    task: TaskArgument,
    episodes: Annotated[int, typer.Option(help="episodes the scores are means over")] = 20,
    seed: Seed = 0,
    ways: Ways = None,
    shots: Shots = None,
    sampler: Sampler = FIXED,
    out: Annotated[Path | None, out_option("an .npz; where others find it if absent")] = None,
    weights: Weights = None,
    device: Where = "cpu",
    as_json: AsJson = False,
) -> None:
    """Channel scores of a network on a task, from one backward pass an episode."""
    from explorer.accuracy.course import task_protocol
    from explorer.accuracy.fisher import task_scores
    from explorer.accuracy.tasks import task_for
    from explorer.accuracy.torch_bridge import unseen_task

    check_whole("episodes", episodes, 1)
    check_whole("seed", seed, 0, LARGEST_SEED)
    is_usual = weights is None and ways is None and shots is None and sampler == FIXED
    if not is_usual and out is None:
        raise SpecError.of("out", out, "a file, when weights, ways, shots or a sampler are given")
    session = Session(model=model, task=task, policy="none")
    path = out or score_path(session.graph, task)
    check_writable(path)
    check_apart(path, weights, task, model)
    module = _network(session.graph, weights)
    data = task_for(task, session.graph.input_shape)
    data = data if module is None else unseen_task(data, module)
    table = task_scores(
        session.graph,
        task,
        episodes=episodes,
        seed=seed,
        protocol=task_protocol(data, sampler, ways=ways, shots=shots),
        module=module,
        device=device,
    )
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
    ways: Ways = None,
    shots: Shots = None,
    queries: Annotated[int | None, typer.Option(help="query images of a class")] = None,
    steps: Annotated[int | None, typer.Option(help="weight updates")] = None,
    full_steps: Annotated[
        int | None, typer.Option(help="of these, so many train everything; signals only")
    ] = None,
    position: Annotated[
        str | None, typer.Option(help="begin, rear or sandwich: where the policy's own steps are")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="this learning rate, and none is tuned; signals only")
    ] = None,
    sampler: Sampler = FIXED,
    ledger: Annotated[
        Path | None, out_option("append the run to this ledger, unless it has it")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="samples of a weight update; signals only")
    ] = None,
    micro_batch: MicroBatch = None,
    norm: Norm = None,
    optimizer: Annotated[
        str | None, typer.Option(help="sgd, sgd-momentum or adam; signals only")
    ] = None,
    tuning: Annotated[int, typer.Option(help="episodes that the rate is tuned on")] = 4,
    weights: Weights = None,
    device: Where = "cpu",
    board: Annotated[str, typer.Option(help="device of budgets and modelled seconds")] = "gap9",
    curve: Annotated[bool, typer.Option(help="also the accuracy after some of the steps")] = False,
    metric: MetricWord = None,
    as_json: AsJson = False,
) -> None:
    """Really fine-tune a policy on episodes of a task, and report its accuracy and metric.

    On signals an episode is a repeat on another split, with the batch and optimizer asked for;
    the held-out part of the source domain then says what was forgotten.
    """
    from explorer.accuracy.course import task_protocol
    from explorer.accuracy.finetune import accuracy_curve
    from explorer.accuracy.finetune import measure as fine_tuned
    from explorer.accuracy.fisher import task_scores
    from explorer.accuracy.tasks import task_for
    from explorer.accuracy.torch_bridge import unseen_task

    check_whole("episodes", episodes, 1)
    check_whole("tuning", tuning, 1)
    check_whole("seed", seed, 0, LARGEST_SEED)
    if ledger is not None:
        check_apart(ledger, weights, task, model, policy)
    if curve and full_steps:
        raise SpecError.of("full_steps", full_steps, "0 with --curve, whose steps take one time")
    session = Session(model=model, task=task, device=board, norm=norm, metric=metric)
    session = session.with_policy(policy)
    module, chosen = _network(session.graph, weights), session.chosen_policy
    data = task_for(task, session.graph.input_shape)
    data = data if module is None else unseen_task(data, module)
    protocol = task_protocol(
        data,
        sampler,
        ways=ways,
        shots=shots,
        query_count=queries,
        steps=steps,
        full_steps=full_steps,
        position=position,
        learning_rate=lr,
    )
    if module is not None:
        scores = task_scores(session.graph, task, protocol=protocol, module=module, device=device)
        chosen = session.chosen_with(scores)
    how: dict[str, Any] = {
        "episodes": episodes,
        "seed": seed,
        "protocol": protocol,
        "setup": _lesson_setup(session, data, batch, micro_batch, optimizer),
        "tuning_episodes": tuning,
        "module": module,
        "device": device,
    }
    measurer, unkept, points = None, None, []
    if ledger is not None:
        measurer = Measurer(graph=session.graph, task=task, ledger=Ledger(ledger), **how)
        _tell(measurer, chosen, curve)
    with working("fine-tuning", as_json) as (told, stopped):
        how |= {"on_episode": told, "cancelled": stopped}
        try:
            if curve:
                reached = accuracy_curve(session.graph, task, chosen, **how)
                points = _points(session, reached)
                run = reached.run if measurer is None else measurer.keep(chosen, reached.run)
            elif measurer is None:
                run = fine_tuned(session.graph, task, chosen, **how)
            else:
                run = measurer.measured(chosen, told, stopped)
        except UnkeptError as error:
            run, unkept = error.run, error
    if as_json:
        extra = {"curve": points} if curve else {}
        print(json.dumps(run.model_dump(mode="json") | extra, indent=2, ensure_ascii=False))
    else:
        rows = _ranking_row(run, session.metric_column)
        names = ("accuracy_before", "accuracy", "standard_error", "learning_rate", "wall_time_s")
        rows += [{"": name, "measured": getattr(run, name)} for name in names]
        rows += [
            {"": f"{domain}{name}, before and after", "measured": _change(metric)}
            for domain, metrics in (("", run.metrics), ("source ", run.source))
            for name, metric in metrics.items()
        ]
        rows.append({"": "protocol", "measured": run.protocol.words})
        print_rows(rows, f"{model} on {task}, {policy}, {episodes} episodes, seed {seed}")
        if curve:
            rows = [row | {"time_s": format_seconds(row["time_s"])} for row in points]
            print_rows(rows, f"accuracy measured, time modelled on {board}")
    if unkept is not None:
        raise unkept


@app.command()
def calibrate(
    model: Model,
    task: TaskArgument,
    ledger: Annotated[
        list[Path] | None, typer.Option(help="count these runs beside the shipped ones; repeatable")
    ] = None,
    norm: Norm = None,
    metric: MetricWord = None,
    as_json: AsJson = False,
) -> None:
    """How well the task's metric can be predicted from ledgers, beside what must be beaten.

    Runs count of the network in one normalisation. The rest of the program predicts from the
    shipped ledgers alone.
    """
    session = Session(model=model, task=task, policy="none", norm=norm, metric=metric)
    graph, column = session.graph, session.metric_column
    if missing := [str(path) for path in ledger or () if not path.is_file()]:
        raise SpecError(f"ledger: no file {missing[0]}")
    ledgers = [Ledger(path) for path in ledger or ()]
    for sentence in (why for one in ledgers for why in beside_shipped(graph, task, one).left_out):
        note(sentence)
    try:
        evidence = calibration_beside(graph, task, ledgers, column).evidence
    except CalibrationError as error:
        raise CalibrationError(
            f"{graph.name} ({graph.norm}) on {task}: {error}; measure --ledger adds some, and "
            "--ledger here counts them"
        ) from None
    row = {
        "norm": graph.norm,
        "metric": column,
        **asdict(evidence),
        "reason_against": evidence.reason_against,
    }
    show([row] if as_json else [{"": k, "value": v} for k, v in row.items()], as_json)


def _network(graph: ModelGraph, weights: Path | None) -> "GraphModule | None":
    """The network with other weights than its own, where a file is given."""
    if weights is None:
        return None
    from explorer.accuracy.torch_bridge import loaded_module

    return loaded_module(graph, weights)


def _lesson_setup(
    session: Session,
    task: "Task",
    batch: int | None,
    micro_batch: int | None,
    optimizer: str | None,
) -> TrainingSetup | None:
    """What a task of signals is measured under: what the policy brings, and what was asked for."""
    from explorer.accuracy.lessons import LESSON_SETUP
    from explorer.accuracy.tasks import SignalTask

    asked = (batch, micro_batch, optimizer)
    if not isinstance(task, SignalTask):
        if asked != (None, None, None):
            allowed = "nothing: episodes of images have a setup of their own"
            raise SpecError.of("batch, micro-batch, optimizer", asked, allowed)
        return None
    brings = session.policy.endswith(".json") or policy_setup(session.policy)
    usual = session.designs.setup if brings else LESSON_SETUP
    if batch is None:
        batch = usual.effective_batch
        micro_batch = usual.micro_batch if micro_batch is None else micro_batch
    return TrainingSetup.of_batch(
        batch,
        micro_batch,
        optimizer=optimizer or usual.optimizer,
        update_timing=LESSON_SETUP.update_timing,
    )


def _tell(measurer: Measurer, policy: UpdatePolicy, curve: bool) -> None:
    """Lines of the ledger that cannot be read, and whether it has the run that is asked for."""
    if problem := measurer.ledger.read().problem:
        note(problem)
    if measurer.known(policy) is not None:
        again = "measured again for its curve only" if curve else "not measured again"
        note(f"{measurer.ledger.path} has this run; {again}")


def _ranking_row(run: MeasuredRun, column: str) -> list[dict[str, Any]]:
    """What ranks runs on the task, where that is not accuracy, which has rows of its own."""
    figure = None if column == ACCURACY else run.figure(column)
    words = f"{METRIC_NAMES[column]}, ranks runs here"
    return [] if figure is None else [{"": words, "measured": _change(figure)}]


def _change(metric: Metric) -> str:
    """`0.612 -> 0.741 ± 0.020`."""
    error = "" if metric.standard_error is None else f" ± {metric.standard_error:.3f}"
    return f"{metric.before:.3f} -> {metric.after:.3f}{error}"


def _points(session: Session, curve: AccuracyCurve) -> list[dict[str, Any]]:
    """One row a step of a curve."""
    columns = (curve.steps, session.seconds_of(curve), curve.accuracy, curve.error)
    return [
        {
            "step": step,
            "time_s": float(time_s),
            "accuracy": float(mean),
            "standard_error": float(error) if isfinite(error) else None,
        }
        for step, time_s, mean, error in zip(*columns, strict=True)
    ]
