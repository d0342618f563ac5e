"""The memory map shows every byte the planner placed."""

import numpy as np
import pytest

from explorer.figures.arena import arena_data, draw
from explorer.session import Session


@pytest.mark.parametrize("policy", ["none", "last-k:k=3", "full"])
def test_map_holds_every_buffer_and_marks_the_peak(policy):
    session = Session(model="digits-cnn", policy=policy)
    memory = session.memory_map()
    data = arena_data(memory.placed, memory.live_bytes, memory.step_labels, 1e6)
    assert sum(len(form.sizes) for form in data.forms) == len(memory.placed)
    assert data.arena_bytes == memory.arena_bytes == session.cost().memory["arena_bytes"]
    assert data.live_bytes[data.peak_step] == session.cost().memory["peak_live_bytes"]
    steps = np.arange(len(memory.live_bytes))[:, None]
    alive = sum(
        ((form.births <= steps) & (steps < form.deaths)) @ form.sizes for form in data.forms
    )
    assert np.array_equal(alive, memory.live_bytes)
    figure = draw(data)
    names = {trace.name for trace in figure.data}
    assert {"activations", "live bytes", "peak"} <= names
    assert ("weights, optimizer state" in names) == (policy != "none")


@pytest.mark.parametrize(
    ("policy", "is_whole"), [("none", False), ("last-k:k=1", False), ("full", True)]
)
def test_map_ends_where_nothing_comes_or_goes_any_more(policy, is_whole):
    memory = Session(model="digits-cnn", policy=policy).memory_map()
    data = arena_data(memory.placed, memory.live_bytes, memory.step_labels)
    end = data.busy_step_count
    assert draw(data).layout.xaxis.range == (0, end)
    assert (end == len(data.live_bytes)) == is_whole
    assert len(set(data.live_bytes[end - 1 :])) == 1
    assert data.live_bytes[end - 2] != data.live_bytes[end - 1]
    assert data.peak_step < end


def test_hover_names_the_level_of_a_buffer():
    memory = Session(device="gap9").memory_map()
    data = arena_data(
        memory.placed, memory.live_bytes, memory.step_labels, level_of=memory.level_of
    )
    texts = [text for form in data.forms for text in form.texts]
    for level in ("L1", "L2"):
        named = sum(f" in {level}<br>" in text for text in texts)
        assert named == memory.level_of.count(level) > 0
    plain = arena_data(memory.placed, memory.live_bytes, memory.step_labels)
    assert not any(" in L" in text for form in plain.forms for text in form.texts)


def test_a_limit_far_away_is_not_drawn():
    memory = Session(model="digits-cnn", policy="none").memory_map()
    near = arena_data(memory.placed, memory.live_bytes, memory.step_labels, 30_000)
    far = arena_data(memory.placed, memory.live_bytes, memory.step_labels, 1e9)
    assert len(draw(near).data) == len(draw(far).data) + 1
