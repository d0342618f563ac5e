"""Episodes: a few labelled images of a few classes, and the loss of a prototype head.

ProtoNet with cosine similarity (Snell et al., 2017; TinyTrain, Kwon et al., 2024):
prototype c_k = mean of the support embeddings of class k, logit = 10 * cos(f(x), c_k).
The training signal is pseudo-queries: augmented views of the support, classified
against prototypes of the plain support. Views are made once, so that activations
below the first trained layer can be kept. Equal seeds give equal episodes.

Two samplers: fixed n-way k-shot, and the varying ways and imbalanced shots of Meta-Dataset
(Triantafillou et al., 2020) with the limits of Hu et al. (2022), which TinyTrain's
evaluation very probably used.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from explorer.accuracy.protocols import VARYING, Protocol
from explorer.accuracy.tasks import SHOTS, Images, TaskData
from explorer.accuracy.torch_bridge import GraphModule, device_of
from explorer.errors import SpecError
from explorer.graph import INPUT
from explorer.units import IntArray

TEMPERATURE = 10.0
VIEW_COUNT = 10
VIEW_PROBABILITY = 0.9
BRIGHTNESS_RATIO = 0.2
CONTRAST_RATIO = 0.2
COLOUR_GAIN_RATIO = 0.1
PART_IMAGES = {"cpu": 50, "cuda": 1000}

FEWEST_VARYING_WAYS = 5
SHOT_WEIGHT_RATIO = 2.0

MEASURED_STREAM = 0
TUNING_STREAM = 1
SCORE_STREAM = 2


class Outcome(NamedTuple):
    """What a test found: accuracy, and mean negative log-likelihood.

    Lessons have further figures, of the tests and of the held-out part of the source.
    """

    accuracy: float
    nll: float
    metrics: Mapping[str, float | None] = {}
    source: Mapping[str, float | None] = {}


@dataclass(frozen=True, eq=False, kw_only=True)
class Episode:
    """One few-shot problem of S support and Q query images; labels count from 0 to ways - 1.

    `support` [S, C, H, W], `views` [V, S, C, H, W] in the same order, `queries`
    [Q, C, H, W]; S is n*k for n-way k-shot.
    """

    support: Tensor
    support_labels: Tensor
    views: Tensor
    queries: Tensor
    query_labels: Tensor
    ways: int

    def to(self, device: torch.device) -> "Episode":
        """The same on a device; the caller need not wait for the copies."""
        names = ("support", "support_labels", "views", "queries", "query_labels")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        return replace(self, **moved)

    def cut(self, module: GraphModule, start: int) -> "Prefix":
        """The episode with its images run up to layer `start`."""
        return Prefix.of(module, self, start)

    def first_step(self) -> "Episode":
        """The same with no more than its first step and scores need."""
        return replace(self, views=self.views[:1], queries=self.queries[:1])

    def scored(self) -> Tensor:
        """Images that channel scores are taken on: the plain support and its first view."""
        return torch.cat((self.support, self.views[0]))

    def score_loss(self, embeddings: Tensor) -> tuple[Tensor, int]:
        """Mean loss of the pseudo-queries among them, and how many it is a mean over."""
        loss = pseudo_query_loss(embeddings, self.support_labels, self.ways)
        return loss, len(self.support_labels)


def sample_episode(
    task: TaskData,
    *,
    seed: int,
    index: int,
    stream: int = MEASURED_STREAM,
    ways: int | None = None,
    shots: int = SHOTS,
    query_count: int | None = None,
    view_count: int = VIEW_COUNT,
) -> Episode:
    """Episode `index` of a seed; streams (measured, tuning, scores) never share a draw.

    Classes are drawn from the task's held-out ones, images without replacement. Views are
    drawn last, so how many there are changes no other image.
    """
    queries = task.query_count if query_count is None else query_count
    ways = task.ways if ways is None else ways
    if min(shots, queries) < 1:
        raise SpecError.of("shots, queries", (shots, queries), "whole numbers from 1")
    if not 2 <= ways <= len(task.held_out):
        raise SpecError.of("ways", ways, f"2 to {len(task.held_out)} for task {task.name}")
    rng = np.random.default_rng([seed, stream, index])
    support, query = [], []
    for label in rng.permutation(task.held_out)[:ways]:
        members = rng.permutation(np.flatnonzero(task.labels == label))
        if len(members) < shots + queries:
            raise SpecError.of(
                f"shots + queries of class {task.class_names[label]}",
                shots + queries,
                f"1 to {len(members)} for task {task.name}",
            )
        support.append(members[:shots])
        query.append(members[shots : shots + queries])
    return _episode(task, support, query, rng, view_count)


def sample_varying_episode(
    task: TaskData, rules: Protocol, *, seed: int, index: int, stream: int = MEASURED_STREAM
) -> Episode:
    """Episode `index` of a seed with ways, shots and queries drawn; `rules` holds the most of each.

    Ways are uniform from 5 (or all there are) up. Every class has the same queries: at most
    half of the smallest class drawn. The support's size grows with one uniform draw; its
    classes get shares by size times a factor of 1/2 to 2, at least one image each.
    """
    rng = np.random.default_rng([seed, stream, index])
    most = min(rules.ways, len(task.held_out))
    ways = int(rng.integers(min(FEWEST_VARYING_WAYS, most), most, endpoint=True))
    members = [
        rng.permutation(np.flatnonzero(task.labels == label))
        for label in rng.permutation(task.held_out)[:ways]
    ]
    sizes = np.array([len(images) for images in members])
    if sizes.min() < 2:
        raise SpecError.of(f"images a class of task {task.name}", int(sizes.min()), "from 2")
    queries = min(rules.query_count, int(sizes.min()) // 2)
    shots = varying_shots(sizes, sizes - queries, rules, rng)
    query = [images[:queries] for images in members]
    support = [
        images[queries : queries + count] for images, count in zip(members, shots, strict=True)
    ]
    return _episode(task, support, query, rng, VIEW_COUNT)


def varying_shots(
    sizes: IntArray, remaining: IntArray, rules: Protocol, rng: np.random.Generator
) -> IntArray:
    """Support images of each class [ways], from class sizes and what queries leave of them."""
    beta = rng.random()
    wanted = np.floor(beta * np.minimum(rules.shots, remaining) + 1)
    total = max(len(sizes), min(rules.support_count, int(wanted.sum())))
    reach = np.log(SHOT_WEIGHT_RATIO)
    weights = sizes * np.exp(rng.uniform(-reach, reach, len(sizes)))
    shares = np.floor(weights / weights.sum() * (total - len(sizes))) + 1
    shots: IntArray = np.minimum(shares, remaining).astype(np.int64)
    return shots


def protocol_episode(
    task: TaskData, rules: Protocol, *, seed: int, index: int, stream: int = MEASURED_STREAM
) -> Episode:
    """Episode `index` of a seed under a protocol, by its sampler."""
    if rules.sampler == VARYING:
        return sample_varying_episode(task, rules, seed=seed, index=index, stream=stream)
    return sample_episode(
        task,
        seed=seed,
        index=index,
        stream=stream,
        ways=rules.ways,
        shots=rules.shots,
        query_count=rules.query_count,
    )


def _episode(
    task: TaskData,
    support: list[IntArray],
    query: list[IntArray],
    rng: np.random.Generator,
    view_count: int,
) -> Episode:
    """Images of each class by index, as tensors; views are drawn last."""
    plain = task.unit_images(np.concatenate(support))
    views = np.empty((view_count, *plain.shape), plain.dtype)
    for view in views:
        view[:] = _augmented(plain, task, rng)
    order = torch.arange(len(support))
    return Episode(
        support=torch.from_numpy(task.network_input(plain)),
        support_labels=order.repeat_interleave(_counts(support)),
        views=torch.from_numpy(task.network_input(views)),
        queries=torch.from_numpy(task.network_input(task.unit_images(np.concatenate(query)))),
        query_labels=order.repeat_interleave(_counts(query)),
        ways=len(support),
    )


def _counts(classes: list[IntArray]) -> Tensor:
    return torch.tensor([len(images) for images in classes])


def prototype_logits(
    support: Tensor,
    labels: Tensor,
    ways: int,
    points: Tensor,
    temperature: float | Tensor = TEMPERATURE,
) -> Tensor:
    """Logits [N, ways] of embeddings `points` [N, F] against prototypes of `support`."""
    membership = functional.one_hot(labels, ways).to(support.dtype)
    prototypes = membership.T @ support / membership.sum(0)[:, None]
    directions = functional.normalize(prototypes, dim=1)
    return temperature * functional.normalize(points, dim=1) @ directions.T


def pseudo_query_loss(embeddings: Tensor, labels: Tensor, ways: int) -> Tensor:
    """Mean cross-entropy of a view against the plain support; both stacked in `embeddings`."""
    support, view = embeddings.chunk(2)
    return functional.cross_entropy(prototype_logits(support, labels, ways, view), labels)


@dataclass(frozen=True, eq=False)
class Prefix:
    """An episode's images run up to a layer of the graph: tensors alive there, by name.

    Images are fixed and layers below `start` are frozen, so this is done once. Views follow
    each other along the first axis [V*S, ...].
    """

    episode: Episode
    start: int
    support: Mapping[str, Tensor]
    views: Mapping[str, Tensor]
    queries: Mapping[str, Tensor]

    @classmethod
    def of(cls, module: GraphModule, episode: Episode, start: int) -> "Prefix":
        """Run the layers below position `start`; 0 keeps the images.

        Views only serve training, so there are none where nothing is left to train.
        """
        episode = episode.to(device_of(module))
        images = (episode.support, episode.views.flatten(0, 1), episode.queries)
        return cls(episode, 0, *({INPUT: each} for each in images)).moved_to(module, start)

    @property
    def view_count(self) -> int:
        """How many views of the support there are."""
        return len(self.episode.views)

    def moved_to(self, module: GraphModule, start: int) -> "Prefix":
        """The same episode further up."""
        has_views = start < len(module.graph.layers)
        return Prefix(
            self.episode,
            start,
            run_between(module, self.support, self.start, start),
            run_between(module, self.views, self.start, start) if has_views else {},
            run_between(module, self.queries, self.start, start),
        )

    def loss(self, module: GraphModule, view: int) -> Tensor:
        """Pseudo-query loss of one view."""
        both = {
            name: torch.cat((plain, self.views[name].chunk(self.view_count)[view]))
            for name, plain in self.support.items()
        }
        embeddings = module.run(both, start=self.start)[module.graph.layers[-1].name]
        return pseudo_query_loss(embeddings, self.episode.support_labels, self.episode.ways)

    def backward(self, module: GraphModule, step: int) -> Tensor:
        """Add the gradients of one step, whose view comes in turn; the loss."""
        loss = self.loss(module, step % self.view_count)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def test(self, module: GraphModule) -> Outcome:
        """Accuracy and mean negative log-likelihood of the queries.

        Images run in the parts the prefix was made in, so the cut changes no digit.
        """
        episode, layers = self.episode, module.graph.layers
        with torch.no_grad():
            support, queries = (
                run_between(module, images, self.start, len(layers))[layers[-1].name]
                for images in (self.support, self.queries)
            )
            logits = prototype_logits(support, episode.support_labels, episode.ways, queries)
            right = (logits.argmax(1) == episode.query_labels).double().mean()
            nll = float(functional.cross_entropy(logits, episode.query_labels))
            return Outcome(float(right), nll)


def run_between(
    module: GraphModule, tensors: Mapping[str, Tensor], start: int, stop: int
) -> Mapping[str, Tensor]:
    """Run layers `start` to `stop` in parts that suit the device, without gradients."""
    if start == stop:
        return tensors
    names = list(tensors)
    part = PART_IMAGES[device_of(module).type]
    columns = (torch.split(tensors[name], part) for name in names)
    with torch.no_grad():
        parts = [
            module.run(dict(zip(names, chunk, strict=True)), start, stop)
            for chunk in zip(*columns, strict=True)
        ]
    if len(parts) == 1:
        return parts[0]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _augmented(plain: Images, task: TaskData, rng: np.random.Generator) -> Images:
    """One view of each image in 0..1: a shift with repeated edges, and colour where it varies."""
    reach = task.max_shift
    height, width = plain.shape[2:]
    padded = np.pad(plain, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="edge")
    view = np.empty_like(plain)
    for row, image in enumerate(padded):
        moved = rng.random() < VIEW_PROBABILITY
        down, right = rng.integers(0, 2 * reach + 1, 2) if moved else (reach, reach)
        view[row] = image[:, down : down + height, right : right + width]
        if task.augment_colour and rng.random() < VIEW_PROBABILITY:
            view[row] = _recoloured(view[row], rng)
    return view


def _recoloured(image: Images, rng: np.random.Generator) -> Images:
    """Brightness, contrast about the mean, and a gain for each channel."""
    brightness = 1 + rng.uniform(-BRIGHTNESS_RATIO, BRIGHTNESS_RATIO)
    contrast = 1 + rng.uniform(-CONTRAST_RATIO, CONTRAST_RATIO)
    gain = 1 + rng.uniform(-COLOUR_GAIN_RATIO, COLOUR_GAIN_RATIO, (len(image), 1, 1))
    centre = image.mean()
    changed = ((image - centre) * contrast + centre) * brightness * gain
    clipped: Images = np.clip(changed, 0, 1).astype(np.float32)
    return clipped
