"""Episodes: a few labelled images of a few classes, and the loss of a prototype head.

ProtoNet with cosine similarity (Snell et al., 2017; TinyTrain, Kwon et al., 2024):
prototype c_k = mean of the support embeddings of class k, logit = 10 * cos(f(x), c_k).
The training signal is pseudo-queries: augmented views of the support, classified
against prototypes of the plain support. Views are made once, so that activations
below the first trained layer can be kept. Equal seeds give equal episodes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from explorer.accuracy.tasks import Images, TaskData
from explorer.accuracy.torch_bridge import GraphModule
from explorer.errors import SpecError
from explorer.graph import INPUT

TEMPERATURE = 10.0
SHOTS = 5
VIEW_COUNT = 10
VIEW_PROBABILITY = 0.9
BRIGHTNESS_RATIO = 0.2
CONTRAST_RATIO = 0.2
COLOUR_GAIN_RATIO = 0.1
PREFIX_CHUNK = 50

MEASURED_STREAM = 0
TUNING_STREAM = 1
SCORE_STREAM = 2


@dataclass(frozen=True, eq=False, kw_only=True)
class Episode:
    """One n-way k-shot problem; labels count from 0 to ways - 1.

    `support` [n*k, C, H, W], `views` [V, n*k, C, H, W] in the same order, `queries`
    [n*q, C, H, W].
    """

    support: Tensor
    support_labels: Tensor
    views: Tensor
    queries: Tensor
    query_labels: Tensor
    ways: int


def sample_episode(
    task: TaskData,
    *,
    seed: int,
    index: int,
    stream: int = MEASURED_STREAM,
    ways: int | None = None,
    shots: int = SHOTS,
    query_count: int | None = None,
) -> Episode:
    """Episode `index` of a seed; streams (measured, tuning, scores) never share a draw.

    Classes are drawn from the task's held-out ones, images without replacement.
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
                "shots + queries", shots + queries, f"1 to {len(members)} for task {task.name}"
            )
        support.append(members[:shots])
        query.append(members[shots : shots + queries])
    plain = task.unit_images(np.concatenate(support))
    views = np.stack([_augmented(plain, task, rng) for _ in range(VIEW_COUNT)])
    order = torch.arange(ways)
    return Episode(
        support=torch.from_numpy(task.network_input(plain)),
        support_labels=order.repeat_interleave(shots),
        views=torch.from_numpy(task.network_input(views)),
        queries=torch.from_numpy(task.network_input(task.unit_images(np.concatenate(query)))),
        query_labels=order.repeat_interleave(queries),
        ways=ways,
    )


def prototype_logits(support: Tensor, labels: Tensor, ways: int, points: Tensor) -> Tensor:
    """Logits [N, ways] of embeddings `points` [N, F] against prototypes of `support`."""
    membership = functional.one_hot(labels, ways).to(support.dtype)
    prototypes = membership.T @ support / membership.sum(0)[:, None]
    directions = functional.normalize(prototypes, dim=1)
    return TEMPERATURE * functional.normalize(points, dim=1) @ directions.T


def pseudo_query_loss(embeddings: Tensor, labels: Tensor, ways: int) -> Tensor:
    """Mean cross-entropy of a view against the plain support; both stacked in `embeddings`."""
    support, view = embeddings.chunk(2)
    return functional.cross_entropy(prototype_logits(support, labels, ways, view), labels)


@dataclass(frozen=True, eq=False)
class Prefix:
    """An episode's images run up to a layer of the graph: tensors alive there, by name.

    Images are fixed and layers below `start` are frozen, so this is done once.
    """

    episode: Episode
    start: int
    support: Mapping[str, Tensor]
    views: tuple[Mapping[str, Tensor], ...]
    queries: Mapping[str, Tensor]

    @classmethod
    def of(cls, module: GraphModule, episode: Episode, start: int) -> "Prefix":
        """Run the layers below position `start`; 0 keeps the images.

        Views only serve training, so there are none where nothing is left to train.
        """
        views = episode.views if start < len(module.graph.layers) else ()
        return cls(
            episode,
            start,
            _run_below(module, episode.support, start),
            tuple(_run_below(module, view, start) for view in views),
            _run_below(module, episode.queries, start),
        )

    def loss(self, module: GraphModule, view: int) -> Tensor:
        """Pseudo-query loss of one view."""
        embeddings = self._embeddings(module, self.views[view])
        return pseudo_query_loss(embeddings, self.episode.support_labels, self.episode.ways)

    def test(self, module: GraphModule) -> tuple[float, float]:
        """Accuracy and mean negative log-likelihood of the queries."""
        episode = self.episode
        with torch.no_grad():
            embeddings = self._embeddings(module, self.queries)
            support, queries = embeddings.tensor_split([len(episode.support_labels)])
            logits = prototype_logits(support, episode.support_labels, episode.ways, queries)
            right = (logits.argmax(1) == episode.query_labels).double().mean()
            return float(right), float(functional.cross_entropy(logits, episode.query_labels))

    def _embeddings(self, module: GraphModule, others: Mapping[str, Tensor]) -> Tensor:
        both = {name: torch.cat((self.support[name], others[name])) for name in others}
        return module.run(both, start=self.start)[module.graph.layers[-1].name]


def _run_below(module: GraphModule, images: Tensor, start: int) -> dict[str, Tensor]:
    with torch.no_grad():
        parts = [
            module.run({INPUT: part}, stop=start) for part in torch.split(images, PREFIX_CHUNK)
        ]
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
