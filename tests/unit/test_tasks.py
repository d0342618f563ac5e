import os
from inspect import signature

import numpy as np
import pytest
import torch

from explorer import catalog, paths
from explorer.accuracy import episodes
from explorer.accuracy.episodes import prototype_logits, pseudo_query_loss, sample_episode
from explorer.accuracy.tasks import TaskData, load_task
from explorer.errors import MissingDataError, SpecError

VISION = [
    name
    for name in catalog.names("task")
    if "side" in signature((task := catalog.load("task", name)).load).parameters
    and len(task.INPUT_SHAPE) == 3
]


def tiny_task(**changes) -> TaskData:
    values = {
        "name": "tiny",
        "pixels": np.arange(6 * 2 * 16, dtype=np.uint8).reshape(12, 1, 4, 4),
        "labels": np.repeat(np.arange(3), 4),
        "class_names": ("a", "b", "c"),
        "held_out": (1, 2),
        "channels": 3,
        "pixel_maximum": 255,
        "signed": True,
        "max_shift": 1,
        "augment_colour": True,
        "query_count": 2,
    }
    return TaskData(**{**values, **changes})


def test_digits_are_always_there():
    task = load_task("digits")
    assert task.pixels.shape == (1797, 1, 8, 8)
    assert task.held_out == (5, 6, 7, 8, 9)
    unit = task.unit_images(np.arange(1797))
    assert (unit.min(), unit.max()) == (0.0, 1.0)
    assert task.network_input(unit) is unit


@pytest.mark.parametrize("name", VISION)
def test_absent_data_is_said_in_a_sentence(name, tmp_path, monkeypatch):
    for setting in (None, str(tmp_path)):
        if setting is None:
            monkeypatch.delenv(paths.DATA_VARIABLE, raising=False)
        else:
            monkeypatch.setenv(paths.DATA_VARIABLE, setting)
        with pytest.raises(MissingDataError, match=rf"task {name} needs vision/"):
            catalog.load("task", name).load()


@pytest.mark.parametrize("name", VISION)
def test_vision_data_has_the_networks_shape(name):
    if paths.DATA_VARIABLE not in os.environ:
        pytest.skip(f"{paths.DATA_VARIABLE} is not set")
    task = catalog.load("task", name).load()
    assert task.name == name
    assert task.input_shape == (3, 128, 128)
    assert np.bincount(task.labels).min() >= 5 + task.query_count


def test_every_task_has_a_summary():
    assert all(catalog.load("task", name).SUMMARY for name in catalog.names("task"))


def test_signed_inputs_and_repeated_channels():
    task = tiny_task()
    unit = task.unit_images(np.array([0]))
    assert unit.shape == (1, 3, 4, 4)
    assert np.array_equal(unit[0, 0], unit[0, 2])
    assert task.network_input(np.float32([0, 0.5, 1])).tolist() == [-1, 0, 1]


def test_equal_seeds_give_equal_episodes_and_streams_differ():
    task = load_task("digits")
    first, again, other, tuning = (
        sample_episode(task, seed=seed, index=3, stream=stream)
        for seed, stream in ((1, 0), (1, 0), (2, 0), (1, 1))
    )
    for field in ("support", "views", "queries", "support_labels", "query_labels"):
        assert torch.equal(getattr(first, field), getattr(again, field))
    assert not torch.equal(first.support, other.support)
    assert not torch.equal(first.support, tuning.support)


def test_support_and_queries_share_no_image_and_no_known_class():
    task = tiny_task()
    episode = sample_episode(task, seed=0, index=0, shots=2)
    known = task.network_input(task.unit_images(np.arange(4)))
    images = [*episode.support, *episode.queries]
    assert len({image.numpy().tobytes() for image in images}) == len(images) == 8
    assert not {image.tobytes() for image in known} & {i.numpy().tobytes() for i in images}
    assert episode.support_labels.tolist() == [0, 0, 1, 1]


def test_views_are_shifts_where_colour_does_not_vary():
    task = load_task("digits")
    episode = sample_episode(task, seed=0, index=0)
    assert episode.views.shape == (episodes.VIEW_COUNT, 25, 1, 8, 8)
    inner = episode.support[:, :, 1:-1, 1:-1]
    shifts = [
        episode.views[:, :, :, 1 + down : 7 + down, 1 + right : 7 + right]
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    ]
    same = torch.stack([(shift == inner).all(dim=(2, 3, 4)) for shift in shifts])
    assert same.any(0).all()
    assert not same[4].all()


def test_coloured_views_stay_in_range():
    views = sample_episode(tiny_task(), seed=0, index=0, shots=2).views
    assert views.min() >= -1
    assert views.max() <= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [({"shots": 0}, "shots"), ({"ways": 3}, "ways"), ({"shots": 3}, "shots \\+ queries")],
)
def test_impossible_episodes_are_refused(change, words):
    with pytest.raises(SpecError, match=words):
        sample_episode(tiny_task(), seed=0, index=0, **change)


def test_prototype_logits_by_hand():
    support = torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    labels = torch.tensor([0, 0, 1, 1])
    points = torch.tensor([[5.0, 0.0], [3.0, 4.0]])
    logits = prototype_logits(support, labels, 2, points)
    assert torch.allclose(logits, torch.tensor([[10.0, 0.0], [6.0, 8.0]]))
    both = torch.cat((support, support))
    assert pseudo_query_loss(both, labels, 2).item() == pytest.approx(np.exp(-10), rel=1e-3)
