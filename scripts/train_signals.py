"""Train a network on the source domain of a task of signals; weights and card to data_cache.

    EXPLORER_DATA=... python scripts/train_signals.py mi-bminet --steps 100
    EXPLORER_DATA=... python scripts/train_signals.py mi-bminet --steps 100 --norm bn
    EXPLORER_DATA=... python scripts/train_signals.py tdssm --schedule rear --out ...

With `--schedule` so large a part of the steps as in mu-Training's procedures trains the middle
alone, with self-distillation unless `--phase-policy` says otherwise. Any network of the
catalogue whose input the task has; its own task if none is named. The card holds the figures on
the held-out part of the source and on the target before any fine-tuning, beside chance and
linear baselines trained on the same signals.
"""

import argparse
import platform
import time
from pathlib import Path

import numpy as np
import sklearn
import torch
from linear_baseline import Figures, logistic, spatial_patterns

from explorer import Session
from explorer.accuracy.lessons import LESSON_SETUP, make_lesson
from explorer.accuracy.pretrain import seeded_module
from explorer.accuracy.source import LEARNING_RATE, SOURCE_BATCH, SOURCE_STEPS, train_source
from explorer.accuracy.tasks import SignalTask, task_for
from explorer.accuracy.torch_bridge import GraphModule, save_weights, state_digest
from explorer.paths import data_cache
from explorer.phases import DISTILLED, SCHEDULES, Procedure, schedule
from explorer.search.sources import model_graph

SAID_EVERY = 50
CARD = """# {name}

{parameters} parameters, norm {norm}, trained by us on the source domain of `{task}`.
Graph digest `{graph}`, weight digest `{weights}`, data digest `{data}`.

- **Command**: `python scripts/train_signals.py {command}` ({seconds:.0f} s on one CPU core)
- **Versions**: Python {python}, torch {torch}, numpy {numpy}, scikit-learn {sklearn}
- **Data**: {summary}

  Trained on {trained} signals of the source; {held_out} of other groups are held out for good.
- **Training**: {steps} steps{phases} of Adam at {rate:g} falling to 0 (cosine), batch {batch},
  cross-entropy with classes weighted alike, {augmentation}.
- **Licence of the weights**: that of this project; the data keep their own.

| tested on | classifier, trained on the source | accuracy | macro F1 | macro AUROC |
|---|---|---|---|---|
{rows}

Classes: {classes}. Figures of the target are before any fine-tuning, on all of its signals.
"""


def main() -> None:
    """Train, test and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--task")
    parser.add_argument("--norm")
    parser.add_argument("--steps", type=int, default=SOURCE_STEPS)
    parser.add_argument("--batch", type=int, default=SOURCE_BATCH)
    parser.add_argument("--lr", type=float, default=LEARNING_RATE)
    parser.add_argument("--views", type=int, default=0, help="altered views of each signal")
    parser.add_argument("--schedule", choices=SCHEDULES)
    parser.add_argument("--phase-policy", default=DISTILLED, help="of begin, rear, sandwich")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=data_cache() / "models")
    options = parser.parse_args()
    torch.set_num_threads(1)
    session = Session(model=options.model, task=options.task, norm=options.norm, policy="none")
    graph, task_name = session.graph, session.task_name
    task = task_for(task_name, graph.input_shape)
    if not isinstance(task, SignalTask):
        parser.error(f"{task_name} is a task of images")
    procedure, policies = None, {}
    if options.schedule:
        procedure = schedule(options.schedule, options.phase_policy)
        specs = (phase.policy for phase in procedure.phases)
        policies = {spec: session.with_policy(spec).chosen_policy for spec in specs}
    began = time.perf_counter()
    trained = train_source(
        seeded_module(graph, options.seed),
        task,
        steps=options.steps,
        batch=options.batch,
        learning_rate=options.lr,
        views=options.views,
        procedure=procedure,
        policies=policies,
        seed=options.seed,
        on_step=_say,
    )
    seconds = time.perf_counter() - began
    own_form = graph.digest == model_graph(graph.name).digest
    stem = graph.name if own_form else f"{graph.name}-{graph.digest}"
    save_weights(trained.module, options.out / f"{stem}.safetensors")
    card = CARD.format(
        name=stem,
        parameters=graph.parameter_count,
        norm=graph.norm,
        task=task_name,
        graph=graph.digest,
        weights=state_digest(trained.module),
        data=task.digest,
        command=_command(options),
        seconds=seconds,
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        sklearn=sklearn.__version__,
        summary=_about(task_name),
        trained=trained.trained_count,
        held_out=trained.held_out_count,
        steps=options.steps,
        phases=_phases(procedure, options.steps),
        rate=options.lr,
        batch=options.batch,
        augmentation=(
            f"{options.views} views of each signal (explorer.accuracy.source.altered)"
            if options.views
            else "no augmentation"
        ),
        rows="\n".join(_rows(trained.module, task)),
        classes=", ".join(task.class_names),
    )
    (options.out / f"{stem}.md").write_text(card, "utf-8")
    print(card)


def _phases(procedure: Procedure | None, steps: int) -> str:
    """` (full 667, mu-distilled 333)`; nothing where everything trains in all steps."""
    if procedure is None:
        return ""
    parts = (f"{phase.policy} {phase.epoch_count}" for phase in procedure.lasting(steps).phases)
    return f" ({', '.join(parts)})"


def _say(done: int, steps: int) -> None:
    if done % SAID_EVERY == 0:
        print(f"{time.strftime('%H:%M:%S')} step {done} of {steps}", flush=True)


def _rows(module: GraphModule, task: SignalTask) -> list[str]:
    """Of each domain's tests: chance, linear classifiers, the network."""
    trained, held_out = task.source_split()
    target = np.flatnonzero(task.is_target)
    rows = []
    for name, tested in (("source, held out", held_out), ("target", target)):
        share = np.bincount(task.labels[tested]).max() / len(tested)
        rows.append(f"| {name} ({len(tested)}) | the commonest class | {share:.3f} | | 0.5 |")
        rows.append(_row(name, "logistic regression", logistic(task, trained, tested)))
        if len(task.class_names) == 2:
            figures = spatial_patterns(task, trained, tested)
            rows.append(_row(name, "common spatial patterns", figures))
        rows.append(_row(name, "**the network**", tested_on(module, task, tested)))
    return rows


def tested_on(module: GraphModule, task: SignalTask, tested: np.ndarray) -> Figures:
    """Figures of a network on some signals of a task, by index."""
    lesson = make_lesson(
        task, tested, tested, setup=LESSON_SETUP, steps=1, rng=np.random.default_rng(0)
    )
    return dict(lesson.cut(module, 0).test(module).metrics)


def _row(tested: str, classifier: str, figures: Figures) -> str:
    values = " | ".join("" if value is None else f"{value:.3f}" for value in figures.values())
    return f"| {tested} | {classifier} | {values} |"


def _about(task_name: str) -> str:
    """The first paragraphs of the task's own description, as one."""
    from explorer import catalog

    text = catalog.load("task", task_name).__doc__ or ""
    return " ".join(text.split())


def _command(options: argparse.Namespace) -> str:
    usual = {"batch": SOURCE_BATCH, "lr": LEARNING_RATE, "seed": 0, "task": None, "norm": None}
    usual |= {"views": 0, "schedule": None, "phase_policy": DISTILLED}
    given = {"steps": options.steps} | {
        name: getattr(options, name)
        for name in ("norm", "task", "batch", "lr", "views", "schedule", "phase_policy", "seed")
        if getattr(options, name) != usual[name]
    }
    words = (f"--{name.replace('_', '-')} {value}" for name, value in given.items())
    return " ".join([options.model, *words])


if __name__ == "__main__":
    main()
