"""The terminal on weights: meta-train a network, or train it on its source of signals."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explorer.accuracy.records import standard_error
from explorer.cli.measuring import TaskArgument, Ways, Where
from explorer.cli.shared import AsJson, Model, app, check_apart, out_option, print_rows, working
from explorer.errors import SpecError, check_whole
from explorer.phases import SCHEDULES
from explorer.phases import schedule as schedule_named
from explorer.search.loop import LARGEST_SEED
from explorer.session import Session

if TYPE_CHECKING:
    from explorer.accuracy.tasks import SignalTask
    from explorer.accuracy.torch_bridge import GraphModule


@app.command()
def pretrain(
    model: Model,
    task: TaskArgument,
    out: Annotated[Path, out_option("write the weights here, as safetensors")],
    episodes: Annotated[int, typer.Option(help="training episodes; of signals, steps")] = 300,
    ways: Ways = None,
    shots: Annotated[int, typer.Option(help="support images of a class")] = 5,
    queries: Annotated[int, typer.Option(help="query images of a class")] = 10,
    lr: Annotated[float, typer.Option(help="Adam's first rate; it falls along a cosine")] = 3e-4,
    seed: Annotated[int, typer.Option(help="splits the classes and draws the episodes")] = 0,
    scratch: Annotated[bool, typer.Option(help="from initial weights, not the own ones")] = False,
    learn_temperature: Annotated[bool, typer.Option(help="of the head, while training")] = False,
    schedule: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(SCHEDULES)}: mu-Training's phases, distilled; signals only"),
    ] = None,
    device: Where = "cpu",
    resume: Annotated[bool, typer.Option(help="go on from the checkpoint beside OUT")] = False,
    as_json: AsJson = False,
) -> None:
    """Meta-train a network on half of a task's classes, for `measure --weights` on the others.

    Ctrl-C keeps a checkpoint beside OUT. On signals: train it on the task's source domain.
    """
    from explorer.accuracy import pretrain as offline
    from explorer.accuracy.tasks import SignalTask, task_for
    from explorer.accuracy.torch_bridge import model_module, placed, save_weights, unseen_task

    check_whole("seed", seed, 0, LARGEST_SEED)
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    check_apart(out, task, model)
    if checkpoint.exists() and not resume:
        raise SpecError(f"{checkpoint}: already there; add --resume to go on, or delete it")
    graph = Session(model=model, task=task, policy="none").graph
    data = task_for(task, graph.input_shape)
    before = offline.seeded_module(graph, seed) if scratch else model_module(graph)
    before = placed(before, device)
    if isinstance(data, SignalTask):
        phases = {} if schedule is None else _phases(model, task, schedule)
        _pretrain_on_signals(
            before, data, out, steps=episodes, lr=lr, seed=seed, phases=phases, as_json=as_json
        )
        return
    if schedule is not None:
        raise SpecError.of("schedule", schedule, "none: images are trained on in episodes")
    rules = offline.recipe(
        before,
        data,
        episodes=episodes,
        ways=ways,
        shots=shots,
        query_count=queries,
        learning_rate=lr,
        seed=seed,
        learn_temperature=learn_temperature,
    )
    with working("meta-training", as_json) as (told, stopped):
        trained = offline.pretrain(
            before,
            data,
            rules,
            device=device,
            checkpoint=checkpoint,
            resume=resume,
            on_episode=told,
            cancelled=stopped,
        )
    save_weights(trained, out)
    checkpoint.unlink(missing_ok=True)
    unseen = unseen_task(data, trained)
    rows = []
    for name, module in (("before", before), ("after", trained)):
        accuracies = offline.prototype_accuracies(module, unseen, seed=seed)
        error = standard_error(accuracies)
        rows.append({"": name, "accuracy": float(accuracies.mean()), "standard_error": error})
    if as_json:
        record = None if trained.pretraining is None else trained.pretraining.model_dump()
        print(json.dumps({"file": str(out), "pretraining": record, "held_out": rows}, indent=2))
    else:
        unseen_count = len(rules.held_out_classes)
        print_rows(rows, f"prototypes of {unseen_count} held-out classes, measured: {out}")


def _phases(model: str, task: str, name: str) -> dict[str, Any]:
    """A schedule, and the policies that its phases name."""
    procedure = schedule_named(name)
    session = Session(model=model, task=task, policy="none")
    policies = {
        phase.policy: session.with_policy(phase.policy).chosen_policy for phase in procedure.phases
    }
    return {"procedure": procedure, "policies": policies}


def _pretrain_on_signals(
    module: "GraphModule",
    task: "SignalTask",
    out: Path,
    *,
    steps: int,
    lr: float,
    seed: int,
    phases: Mapping[str, Any],
    as_json: bool,
) -> None:
    """Train on the source domain, keep the weights, and say how its held-out part fares."""
    from explorer.accuracy.source import train_source
    from explorer.accuracy.torch_bridge import save_weights

    with working("training on the source", as_json) as (told, stopped):
        trained = train_source(
            module,
            task,
            steps=steps,
            learning_rate=lr,
            seed=seed,
            **phases,
            on_step=told,
            cancelled=stopped,
        )
    save_weights(trained.module, out)
    rows = [
        {"": name, **outcome.metrics}
        for name, outcome in (("before", trained.before), ("after", trained.after))
    ]
    if as_json:
        print(json.dumps({"file": str(out), "source_held_out": rows}, indent=2))
    else:
        print_rows(rows, f"{trained.held_out_count} held-out signals of the source: {out}")
