"""Graphs are checked where they are made; norms may stand anywhere."""

from dataclasses import replace

import numpy as np
import pytest

from explorer.costmodel.tables import layer_table
from explorer.errors import SpecError
from explorer.graph import LayerSpec, ModelGraph, normalised
from explorer.provenance import Kind, Source
from explorer.session import Session

SOURCE = Source(kind=Kind.ASSUMED, cite="test")


def conv(name, out_shape, *inputs, **rest):
    return LayerSpec(name=name, op="conv2d", out_shape=out_shape, inputs=inputs, **rest)


def graph(*layers, shape=(4, 6, 6)):
    return ModelGraph("toy", shape, layers, SOURCE)


BAD = {
    "add of different shapes": (
        conv("a", (4, 6, 6)),
        conv("b", (2, 6, 6), "a"),
        LayerSpec(name="sum", op="add", out_shape=(4, 6, 6), inputs=("a", "b")),
    ),
    "groups that do not divide": (conv("a", (4, 6, 6), groups=3),),
    "output of another size": (conv("a", (4, 60, 60)),),
    "relu that changes shape": (
        conv("a", (4, 6, 6)),
        LayerSpec(name="r", op="relu", out_shape=(4, 3, 3), inputs=("a",)),
    ),
    "linear on an image": (
        LayerSpec(name="f", op="linear", out_shape=(5,)),
        conv("a", (4, 6, 6)),
    ),
    "a pool of a part of a window": (
        conv("a", (4, 6, 6)),
        LayerSpec(name="p", op="avgpool", out_shape=(4, 2, 3), inputs=("a",), kernel=(4, 2)),
    ),
    "a pool wider than the image": (
        conv("a", (4, 6, 6)),
        LayerSpec(name="p", op="avgpool", out_shape=(4, 1, 1), inputs=("a",), kernel=(7, 6)),
    ),
    "an upsample to more channels": (
        conv("a", (4, 6, 6)),
        LayerSpec(name="u", op="upsample", out_shape=(8, 9, 9), inputs=("a",)),
    ),
    "an upsample to a vector": (
        conv("a", (4, 6, 6)),
        LayerSpec(name="u", op="upsample", out_shape=(4,), inputs=("a",)),
    ),
    "a name twice": (conv("a", (4, 6, 6)), conv("a", (4, 6, 6))),
    "a later producer": (conv("a", (4, 6, 6), "b"), conv("b", (4, 6, 6))),
    "no weights": (LayerSpec(name="r", op="relu", out_shape=(4, 6, 6)),),
}


@pytest.mark.parametrize("name", BAD)
def test_a_graph_that_cannot_be_is_refused(name):
    with pytest.raises(SpecError):
        graph(*BAD[name])


def test_a_norm_that_belongs_to_no_layer_never_trains_but_is_kept_for_backward():
    first, second = conv("a", (4, 6, 6)), conv("c", (4, 6, 6), "n")
    total = LayerSpec(name="sum", op="add", out_shape=(4, 6, 6), inputs=("a", "b"))
    norm = LayerSpec(name="n", op="batchnorm", out_shape=(4, 6, 6), inputs=("sum",))
    net = graph(first, conv("b", (4, 6, 6), "a"), total, norm, second)
    table = layer_table(net)
    assert table.norm_count.sum() == 0
    assert net.parameter_count == table.weight_count.sum() + 8
    assert net.norm == "bn"


def test_swapping_norms_keeps_shapes_and_comes_back():
    net = Session(model="mcunet-5fps", policy="none").graph
    with_norm = normalised(net, "gn")
    assert with_norm.norm == "gn"
    assert with_norm.weighted == net.weighted
    assert normalised(with_norm, "none").digest == net.digest
    assert normalised(net, None) is net
    channels = sum(net[name].out_shape[0] for name in net.weighted)
    assert with_norm.parameter_count == net.parameter_count + channels


def test_digest_follows_structure_not_labels():
    net = Session(model="digits-cnn", policy="none").graph
    relabelled = replace(net, layers=tuple(replace(layer, block="x") for layer in net.layers))
    assert relabelled.digest == net.digest
    wider = replace(net.layers[0], has_bias=True)
    assert replace(net, layers=(wider, *net.layers[1:])).digest != net.digest
    assert len({net.digest, wider.name}) == 2
    assert np.array_equal(layer_table(net).forward_macs, layer_table(relabelled).forward_macs)
