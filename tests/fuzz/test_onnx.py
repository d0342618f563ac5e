"""Small ONNX files that ask for much: no file elsewhere, no flood of memory, no endless work."""

import logging
import os

import numpy as np
import pytest

pytest.importorskip("onnx", reason="no onnx package here")

import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz.onnx_nets import file_of, numbers, photo_net
from tests.fuzz.readers import READERS, outcome, watched

pytestmark = [pytest.mark.fuzz, pytest.mark.filterwarnings("ignore")]

HEAD, PLAIN = (("Gemm", [name, "w"], ["y"], {}) for name in "ax")
HUGE = np.int64(10**12)


def said_of(content, folder):
    """The sentence of the reader about a file."""
    reader = READERS["onnx"]
    path = folder / reader.place
    path.write_bytes(photo_net())
    assert outcome(reader.read, path) is None  # and what reading needs is imported
    path.write_bytes(content)
    with watched(path):
        return outcome(reader.read, path)


def with_constant(op, inputs, options, weights):
    """A net that adds to its input what an operator makes of constants."""
    nodes = [(op, inputs, ["made"], options), ("Add", ["x", "made"], ["a"], {}), HEAD]
    return file_of(nodes, {"w": numbers(3, 2)} | weights, (1, 3))


@pytest.mark.parametrize(
    ("op", "inputs", "options", "weights"),
    [
        ("ConstantOfShape", ["n"], {}, {"n": np.array([HUGE])}),
        ("Expand", ["v", "n"], {}, {"v": np.ones((2, 1), int), "n": np.array([2, HUGE])}),
        ("Tile", ["v", "n"], {}, {"v": np.ones((2, 1), int), "n": np.array([1, HUGE])}),
        ("Range", ["o", "n", "i"], {}, {"o": np.int64(0), "n": HUGE, "i": np.int64(1)}),
        ("Pad", ["v", "n"], {}, {"v": np.arange(2), "n": np.array([0, HUGE])}),
        ("Mul", ["v", "n"], {}, {"v": np.ones((10**5, 1), bool), "n": np.ones(10**5, bool)}),
        ("MatMul", ["v", "n"], {}, {"v": np.ones((10**5, 1), int), "n": np.ones((1, 10**5), int)}),
        ("Gather", ["v", "n"], {}, {"v": np.ones((2, 10**4), int), "n": np.zeros(10**5, int)}),
    ],
)
def test_constants_are_counted_before_they_are_made(op, inputs, options, weights, tmp_path):
    ints = {name: value.astype(np.int64) for name, value in weights.items() if name != "v"}
    said = said_of(with_constant(op, inputs, options, weights | ints), tmp_path)
    assert f"elements of {op}" in said
    assert "allowed: to 100000000" in said


def test_what_constants_may_be_made_by_is_a_list(tmp_path):
    """Nothing that holds a graph, draws or reads; and no loop that never ends."""
    for op, options in (
        ("RandomNormal", {"shape": [10**9]}),
        ("EyeLike", {}),
        ("RegexFullMatch", {"pattern": "(a+)+b"}),
        ("ImageDecoder", {}),
    ):
        said = said_of(with_constant(op, ["n"], options, {"n": np.array([3])}), tmp_path)
        assert f"no counterpart for {op}" in said
    body = helper.make_graph([helper.make_node("Identity", ["c"], ["d"])], "b", [], [])
    forever = {"n": np.int64(2**62), "c": np.array(True)}
    said = said_of(with_constant("Loop", ["n", "c"], {"body": body}, forever), tmp_path)
    assert "no counterpart for Loop" in said


def test_all_constants_together_are_bounded(tmp_path):
    nodes = [("ConstantOfShape", ["n"], [f"c{at}"], {}) for at in range(3)]
    content = file_of([*nodes, PLAIN], {"n": np.array([6 * 10**7]), "w": numbers(3, 2)}, (1, 3))
    assert "elements of all constants" in said_of(content, tmp_path)


@pytest.mark.parametrize(
    ("nodes", "shape", "words"),
    [
        ([("Pad", ["x", "pads"], ["a"], {}), HEAD], (1, 3), "elements of all operators"),
        (
            [("Expand", ["x", "sizes"], ["e"], {}), ("Mul", ["e", "e"], ["a"], {}), HEAD],
            (1, 3),
            "elements of all operators",
        ),
        (
            [("Transpose", ["x"], ["t"], {}), ("MatMul", ["t", "x"], ["a"], {}), HEAD],
            (2, 10**5),
            "elements of all operators",
        ),
        ([PLAIN], (10**9, 3), "sizes: got"),
        ([PLAIN], (1, 10**9), "sizes: got"),
        ([PLAIN] * 20_001, (1, 3), "nodes or weights: got 20001"),
    ],
    ids=["pad", "expand", "product", "batch", "sample", "nodes"],
)
def test_work_is_added_up_before_it_is_done(nodes, shape, words, tmp_path):
    weights = {"w": numbers(3, 2), "pads": np.array([0, 0, 0, 10**10])}
    weights["sizes"] = np.array([10**5, 10**5, 1, 3])
    assert words in said_of(file_of(nodes, weights, shape), tmp_path)


def test_macs_are_added_up_before_they_are_done(tmp_path, monkeypatch):
    from explorer.accuracy.tracing import onnx_file

    content = file_of([PLAIN], {"w": numbers(300, 200)}, (4, 300))
    assert said_of(content, tmp_path) is None
    monkeypatch.setattr(onnx_file, "MOST_RUN_MACS", 4 * 300 * 200 - 1)
    assert "MACs of 4 samples: got 240000, allowed: to 239999" in said_of(content, tmp_path)


def test_a_tensor_in_a_node_reads_no_file_elsewhere(tmp_path):
    secret, inside = tmp_path / "secret.bin", tmp_path / "in"
    inside.mkdir()
    secret.write_bytes(np.ones(3, np.float32).tobytes())
    os.mkfifo(inside / "pipe")
    (inside / "link").symlink_to("/dev/zero")
    for place in ("../secret.bin", str(secret), "/dev/zero", "link", "pipe", ".", ""):
        value = numpy_helper.from_array(numbers(3), "v")
        value.ClearField("raw_data")
        value.data_location = TensorProto.EXTERNAL
        value.external_data.add(key="location", value=place)
        said = said_of(with_constant("Constant", [], {"value": value}, {}), inside)
        assert "data of v: got" in said, place
        assert "a file beside it" in said


def test_data_beside_a_file_is_bounded(tmp_path, monkeypatch):
    from explorer.accuracy.tracing import onnx_file

    model = onnx.load_from_string(file_of([PLAIN], {"w": numbers(3, 2)}, (1, 3)))
    (tmp_path / "w.bin").write_bytes(bytes(3000))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    for at in range(9):
        model.graph.initializer.append(tensor)
        model.graph.initializer[-1].name = f"w{at}"
    content = model.SerializeToString()
    monkeypatch.setattr(onnx_file, "LARGEST_BYTES", 20_000)
    assert "more than 20000 bytes of data beside it" in said_of(content, tmp_path)


def test_shapes_that_do_not_fit_leave_no_traceback_in_a_log(tmp_path, caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        said = said_of(file_of([PLAIN], {"w": numbers(9, 2)}, (1, 3)), tmp_path)
    assert "not a network that runs" in said
    assert "Traceback" not in caplog.text + capfd.readouterr().err
