"""Tiles through a small inner memory: closed forms, and laws on every network."""

import numpy as np
import pytest

from explorer import catalog
from explorer.costmodel.tiling import tilings
from explorer.design import TrainingSetup
from explorer.device import load_device
from explorer.session import Session
from tests.helpers import batch_of, device_for, policy_of, small_graphs

GAP9 = load_device("gap9")
WORD = 4


def with_inner(usable_bytes):
    level = GAP9.level("inner").model_copy(update={"usable_bytes": usable_bytes})
    levels = tuple(level if one.holds == "inner" else one for one in GAP9.memory)
    return GAP9.model_copy(update={"memory": levels, "name": f"gap9-{usable_bytes}"})


def tiles_of(model, policy="biotrain-edge", device=GAP9):
    session = Session(model=model).with_policy(policy)
    return {(t.layer, t.phase): t for t in tilings(session.graph, device, session.designs)}


def test_the_long_filters_of_the_eeg_network_by_hand():
    """32 channels x 1900, 128 taps: tiles share 127 positions and the weights stay."""
    tile = tiles_of("mi-bminet")["temporal", "forward"]
    position, halo, weights = 2 * 32 * WORD, 127 * 32 * WORD, 32 * 128 * WORD
    length = ((110_080 - weights) // 2 - halo) // position
    count = -(-1900 // length)
    assert tile.tile_count == count
    assert tile.tile_bytes == 2 * (length * position + halo) + weights
    assert tile.again_bytes == (count - 1) * halo
    assert tile.moved_bytes == 1900 * position + count * halo + weights


def test_the_eog_network_fits_whole_and_moves_nothing_twice():
    tiles = tiles_of("epidenet").values()
    assert {tile.tile_count for tile in tiles} == {1}
    assert not any(tile.again_bytes for tile in tiles)
    norm = tiles_of("epidenet")["conv1_norm", "backward"]
    assert norm.tile_bytes == norm.moved_bytes == 3 * 4 * 2 * 1000 * WORD


def test_only_what_runs_has_a_pass():
    last = tiles_of("mi-bminet", "biotrain-last-layer")
    assert ("classifier", "weight gradient") in last
    assert not any(phase == "backward" for _, phase in last)
    edge = tiles_of("mi-bminet")
    assert ("spatial", "weight gradient") in edge
    assert ("spatial", "backward") not in edge


@pytest.mark.parametrize(
    "model", [*catalog.names("model"), "mi-bminet:form=m8", "epidenet:pool=max"]
)
def test_tiles_fit_and_move_what_there_is_at_least_once(model):
    session = Session(model=model, policy="full")
    whole = tilings(session.graph, with_inner(1 << 30), session.designs)
    assert {tile.tile_count for tile in whole} == {1}
    for usable_bytes in (110_080, 40_000, 3000):
        tiles = tilings(session.graph, with_inner(usable_bytes), session.designs)
        for one, all_at_once in zip(tiles, whole, strict=True):
            assert one.tile_bytes <= usable_bytes
            assert one.moved_bytes == all_at_once.moved_bytes + one.again_bytes
            assert (one.tile_count == 1) == (one.tile_bytes == all_at_once.tile_bytes)


def test_groups_of_channels_read_the_input_again():
    """A pointwise layer whose weights alone are more than the memory: 96 to 576 channels."""
    tile = tiles_of("mcunet-5fps", "full")["blocks.13.pointwise1", "forward"]
    weights, inputs = 96 * 576 * WORD, 96 * 4 * 4 * WORD
    groups = -(-(weights + 2 * (96 + 576) * 4 * WORD) // 110_080)
    assert weights > 110_080
    assert tile.again_bytes == (groups - 1) * inputs
    assert tile.tile_count % groups == 0


def test_a_device_without_an_inner_level_has_no_tiles():
    graph = small_graphs()[0]
    plain = device_for("fp32", weights_in_flash=False)
    assert tilings(graph, plain, batch_of(graph, policy_of(graph, 1.0))) == ()


@pytest.mark.parametrize("graph", small_graphs(), ids=lambda graph: graph.name)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_operator_can_be_cut(graph, precision):
    designs = batch_of(graph, policy_of(graph, 1.0), setup=TrainingSetup(precision=precision))
    tiles = tilings(graph, with_inner(300), designs)
    assert all(tile.tile_count >= 1 and tile.tile_bytes > 0 for tile in tiles)
    whole = tilings(graph, with_inner(1 << 30), designs)
    moved = np.array([tile.moved_bytes - tile.again_bytes for tile in tiles])
    assert np.all(np.abs(moved - [tile.moved_bytes for tile in whole]) <= 1)
