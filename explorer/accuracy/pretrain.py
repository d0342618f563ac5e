"""The offline stage: episodic meta-training of a backbone (TinyTrain, Kwon et al., ICML 2024).

A prototype head with cosine similarity classifies the queries of an episode by its support,
and the whole network follows the gradient (Snell et al., 2017). Its temperature may be
learned, as in Hu et al. (2022); their offset changes no softmax and is left out. The recipe
of TinyTrain itself is not published. Episodes are drawn by seed and number, so a run
that goes on from its checkpoint ends with the same weights as one that was never stopped.
"""

import copy
import io
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from explorer.accuracy.episodes import TEMPERATURE, Episode, prototype_logits, sample_episode
from explorer.accuracy.pretraining import Pretraining
from explorer.accuracy.progress import Cancelled, CancelledError, Progress, Ticker
from explorer.accuracy.tasks import SHOTS, TaskData
from explorer.accuracy.torch_bridge import (
    GraphModule,
    build_module,
    device_of,
    one_thread,
    placed,
    software_versions,
    state_digest,
)
from explorer.document import Named
from explorer.errors import MissingDataError, SpecError
from explorer.graph import ModelGraph
from explorer.paths import write_whole
from explorer.units import FloatArray

LEARNING_RATE = 3e-4
QUERIES = 10
CHECKPOINT_EPISODES = 50
FEWEST_CLASSES = 2


def split_classes(task: TaskData, seed: int) -> tuple[TaskData, TaskData]:
    """A task of the classes to train on, and one of those held out.

    A task that already keeps new classes apart is split there, any other into halves by seed.
    """
    held_out = set(task.held_out)
    trained = [label for label in range(len(task.class_names)) if label not in held_out]
    if len(trained) < FEWEST_CLASSES:
        order = np.random.default_rng(seed).permutation(task.held_out).tolist()
        half = len(order) // 2
        trained, held_out = order[half:], set(order[:half])
    if min(len(trained), len(held_out)) < FEWEST_CLASSES:
        raise SpecError.of(f"classes of task {task.name}", len(task.class_names), "from 4")
    return (
        replace(task, held_out=tuple(sorted(trained))),
        replace(task, held_out=tuple(sorted(held_out))),
    )


def recipe(
    module: GraphModule,
    task: TaskData,
    *,
    episodes: int = 300,
    ways: int | None = None,
    shots: int = SHOTS,
    query_count: int = QUERIES,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
    learn_temperature: bool = False,
) -> Pretraining:
    """What `pretrain` shall do, from the weights of `module` on the classes of `task`.

    SpecError when the classes cannot make such an episode.
    """
    trained, held_out = split_classes(task, seed)
    if not 0 < learning_rate < np.inf:
        raise SpecError.of("learning rate", learning_rate, "a number above 0")
    if episodes < 1:
        raise SpecError.of("episodes", episodes, "a whole number from 1")
    ways = trained.ways if ways is None else ways
    sample_episode(
        trained, seed=seed, index=0, ways=ways, shots=shots, query_count=query_count, view_count=0
    )
    return Pretraining(
        model=Named(name=module.graph.name, digest=module.graph.digest),
        start_digest=state_digest(module),
        task=task.name,
        data_digest=task.digest,
        trained_classes=tuple(task.class_names[label] for label in trained.held_out),
        held_out_classes=tuple(task.class_names[label] for label in held_out.held_out),
        episodes=episodes,
        ways=ways,
        shots=shots,
        query_count=query_count,
        learning_rate=learning_rate,
        seed=seed,
        learn_temperature=learn_temperature,
        temperature=TEMPERATURE,
        versions=software_versions(module),
    )


def pretrain(
    module: GraphModule,
    task: TaskData,
    rules: Pretraining,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    resume: bool = False,
    on_episode: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> GraphModule:
    """A meta-trained copy of `module`, in evaluation mode, that knows how it was trained.

    Adam, its rate falling to 0 along a cosine. With `checkpoint` the state is kept there every
    50 episodes, and before CancelledError when `cancelled()` is true; `resume` goes on from it.
    """
    names = set(rules.trained_classes)
    labels = [label for label, name in enumerate(task.class_names) if name in names]
    source = replace(task, held_out=tuple(labels))
    run = _Run(copy.deepcopy(placed(module, device)), rules)
    done = 0
    if resume:
        if checkpoint is None:
            raise SpecError.of("resume", True, "only with a checkpoint")
        done = run.restore(checkpoint)
    tick = Ticker("episodes", rules.episodes, on_episode, cancelled)
    tick.done(done)
    with one_thread():
        for index in range(done, rules.episodes):
            try:
                tick.check()
            except CancelledError as error:
                if checkpoint is None:
                    raise
                run.keep(checkpoint, index)
                raise CancelledError(f"{error}; resume goes on from {checkpoint.name}") from None
            run.step(source, index)
            if checkpoint is not None and (index + 1) % CHECKPOINT_EPISODES == 0:
                run.keep(checkpoint, index + 1)
            tick.done()
    trained = run.student.eval()
    trained.pretraining = rules.model_copy(update={"temperature": run.temperature.item()})
    return trained


def query_logits(
    module: GraphModule, episode: Episode, temperature: float | Tensor = TEMPERATURE
) -> Tensor:
    """Logits [Q, ways] of the queries against prototypes of the support."""
    embeddings = module(torch.cat((episode.support, episode.queries)))
    support, queries = embeddings.tensor_split([len(episode.support)])
    return prototype_logits(support, episode.support_labels, episode.ways, queries, temperature)


def prototype_accuracies(
    module: GraphModule, task: TaskData, *, seed: int, episodes: int = 50
) -> FloatArray:
    """Accuracy of the prototype head without fine-tuning, 5-shot, one value an episode [E]."""
    accuracies = []
    for index in range(episodes):
        episode = sample_episode(task, seed=seed, index=index, query_count=QUERIES, view_count=0)
        episode = episode.to(device_of(module))
        with torch.no_grad():
            right = query_logits(module, episode).argmax(1) == episode.query_labels
        accuracies.append(float(right.float().mean()))
    return np.array(accuracies)


def seeded_module(graph: ModelGraph, seed: int) -> GraphModule:
    """A network with torch's initial weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_module(graph)


class _Run:
    """A network in training with its optimizer: what a checkpoint holds."""

    def __init__(self, student: GraphModule, rules: Pretraining) -> None:
        self.student, self._rules = student.train(), rules
        self.temperature = torch.tensor(TEMPERATURE, device=device_of(student))
        trained = [*student.requires_grad_(True).parameters()]
        if rules.learn_temperature:
            self.temperature = nn.Parameter(self.temperature)
            trained.append(self.temperature)
        self._optimizer = torch.optim.Adam(trained, lr=rules.learning_rate)
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, rules.episodes)

    def step(self, source: TaskData, index: int) -> None:
        """Train on one episode."""
        rules = self._rules
        episode = sample_episode(
            source,
            seed=rules.seed,
            index=index,
            ways=rules.ways,
            shots=rules.shots,
            query_count=rules.query_count,
            view_count=0,
        ).to(device_of(self.student))
        self._optimizer.zero_grad()
        logits = query_logits(self.student, episode, self.temperature)
        loss = functional.cross_entropy(logits, episode.query_labels)
        if not torch.isfinite(loss):
            raise SpecError.of(
                "learning rate", rules.learning_rate, f"a lower one; no loss at episode {index}"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._schedule.step()

    def keep(self, path: Path, done: int) -> None:
        """Write the state after `done` episodes."""
        buffer = io.BytesIO()
        torch.save({**self._state(), "done": done, "rules": self._rules.to_json()}, buffer)
        write_whole(path, buffer.getvalue())

    def restore(self, path: Path) -> int:
        """Take a state up again; the number of episodes it has behind it."""
        if not path.is_file():
            raise MissingDataError(f"no checkpoint {path} to go on from")
        try:
            state = torch.load(path, weights_only=True, map_location=device_of(self.student))
            kept = Pretraining.of_json(state["rules"], path.name)
        except (pickle.UnpicklingError, RuntimeError, LookupError, TypeError, EOFError):
            raise SpecError(f"{path.name}: cannot be read as a checkpoint") from None
        for field in Pretraining.model_fields:
            before, now = getattr(kept, field), getattr(self._rules, field)
            if before != now and field != "versions":
                raise SpecError.of(f"{path.name}: {field}", before, f"{now!r}, as asked for now")
        self.student.load_state_dict(state["student"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        with torch.no_grad():
            self.temperature.copy_(state["temperature"])
        return int(state["done"])

    def _state(self) -> dict[str, Any]:
        return {
            "student": self.student.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "temperature": self.temperature.detach(),
        }
