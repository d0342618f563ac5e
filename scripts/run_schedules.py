"""Source training of mu-Training by its schedules, on seeds: the source, the target, fine-tuned.

    EXPLORER_DATA=... python scripts/run_schedules.py tdssm:d_model=16,length=1024

Of every schedule, with and without self-distillation, and every seed: the figures on the
held-out part of the source and on the target right after training, and both after
mu-finetune on the target (repeats of the ledger). Rows that the file holds are skipped.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from train_signals import tested_on

from explorer import Session
from explorer.accuracy.finetune import measure
from explorer.accuracy.lessons import LESSON_SETUP
from explorer.accuracy.pretrain import seeded_module
from explorer.accuracy.protocols import LessonProtocol
from explorer.accuracy.source import LEARNING_RATE, train_source
from explorer.accuracy.tasks import task_for
from explorer.accuracy.torch_bridge import software_versions
from explorer.design import TrainingSetup
from explorer.paths import data_cache, write_whole
from explorer.phases import DISTILLED, MU, POSITIONS, SCHEDULES, schedule

TUNED_BY = "mu-finetune"
ADAM = TrainingSetup(micro_batch=8, optimizer="adam", update_timing=LESSON_SETUP.update_timing)


def main() -> None:
    """Train what is missing, all schedules of a seed before the next seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--schedules", nargs="*", choices=SCHEDULES, default=SCHEDULES)
    parser.add_argument("--out", type=Path, default=data_cache() / "schedules.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    session = Session(model=options.model, policy="none")
    task = task_for(session.task_name, session.graph.input_shape)
    rows = json.loads(options.out.read_text("utf-8")) if options.out.is_file() else []
    done = {tuple(row[name] for name in ("model", "schedule", "policy", "seed")) for row in rows}
    plan = [
        (name, policy, seed)
        for seed in range(options.seeds)
        for name in options.schedules
        for policy in ((MU, DISTILLED) if name in POSITIONS else ("",))
        if (options.model, name, policy, seed) not in done
    ]
    for name, policy, seed in plan:
        began = time.perf_counter()
        procedure = schedule(name, policy or DISTILLED)
        specs = {phase.policy for phase in procedure.phases}
        trained = train_source(
            seeded_module(session.graph, seed),
            task,
            steps=options.steps,
            views=options.views,
            procedure=procedure,
            policies={spec: session.with_policy(spec).chosen_policy for spec in specs},
            seed=seed,
        )
        trained_s = time.perf_counter() - began
        tuned = measure(
            session.graph,
            task.name,
            session.with_policy(TUNED_BY).chosen_policy,
            episodes=options.episodes,
            protocol=LessonProtocol(learning_rate=LEARNING_RATE),
            setup=ADAM,
            module=trained.module,
        )
        columns = ("accuracy", "macro_f1", "macro_auroc")
        rows.append(
            {
                "model": options.model,
                "digest": session.graph.digest,
                "task": task.name,
                "data_digest": task.digest,
                "schedule": name,
                "policy": policy,
                "phases": [
                    [phase.policy, phase.epoch_count]
                    for phase in procedure.lasting(options.steps).phases
                ],
                "seed": seed,
                "views": options.views,
                "source": dict(trained.after.metrics),
                "target": tested_on(trained.module, task, np.flatnonzero(task.is_target)),
                "tuned_by": TUNED_BY,
                "episodes": options.episodes,
                "tuned_target": {column: tuned.metrics[column].after for column in columns},
                "tuned_source": {column: tuned.source[column].after for column in columns},
                "training_s": round(trained_s, 1),
                "versions": software_versions(trained.module),
            }
        )
        write_whole(options.out, json.dumps(rows, indent=1) + "\n")
        print(f"{time.strftime('%H:%M:%S')} {json.dumps(rows[-1])}", flush=True)


if __name__ == "__main__":
    main()
