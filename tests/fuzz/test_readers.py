"""Readers of files under hostile input: one sentence of ours, or a document.

Few inputs here, drawn by hypothesis so that a failure is made small; `make fuzz` (run.py) has
more than 10^5 from a seed. What those found is kept below as small inputs of its own.
"""

import json
import os
import zipfile
from io import BytesIO
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explorer.accuracy.upstream import float_weights
from tests.fuzz.readers import (
    MOST_BYTES,
    READERS,
    Late,
    catalog,
    npz,
    outcome,
    photo,
    scores,
    signal_table,
    watched,
    weights,
    zipped,
)

pytestmark = [pytest.mark.fuzz, pytest.mark.filterwarnings("ignore")]

LONGEST_SENTENCE = 3000
NEEDS_ONNX = ("onnx", "onnx traced")


@pytest.mark.parametrize("name", [name for name in READERS if name != "onnx traced"])
def test_a_reader_answers_in_one_sentence_or_reads(name, tmp_path):
    if name in NEEDS_ONNX:
        pytest.importorskip("onnx")
    reader = READERS[name]
    path, whole = reader.put(tmp_path)
    documents = reader.valid()
    for document in documents:  # whole ones are read, and import what reading needs
        path.write_bytes(reader.pack(document))
        assert outcome(reader.read, whole) is None
        for broken in (b"", document[:-20], b"\x80\x02}(", b"{}", b"[[[", b"\xff"):
            path.write_bytes(reader.pack(broken))
            outcome(reader.read, whole)

    @settings(
        max_examples=60 if reader.share == 1 else 30,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(rng=st.randoms(use_true_random=False))
    def attack(rng):
        path.write_bytes(reader.hostile(rng, rng.choice(documents)))
        with watched(whole, reader.allowed):
            said = outcome(reader.read, whole)
        assert said is None or (said and "\n" not in said and len(said) < LONGEST_SENTENCE)

    attack()


def test_equal_seeds_give_equal_inputs():
    for name in ("policy", "device", "signals npz"):
        reader = READERS[name]
        whole = reader.valid()[0]
        one, other = (
            [reader.hostile(rng, whole) for _ in range(20)] for rng in (Random("0"), Random("0"))
        )
        assert one == other
        assert len(set(one)) > 10


def test_the_watch_sees_code_and_files(tmp_path):
    with pytest.raises(AssertionError, match="compile"), watched(tmp_path):
        exec("1 + 1")
    with pytest.raises(AssertionError, match="open"), watched(tmp_path):
        open(os.devnull).close()
    with pytest.raises(MemoryError), watched(tmp_path):
        bytearray(2 * MOST_BYTES)


def test_the_watch_ends_what_takes_long(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.fuzz.readers.LONGEST_S", 0.05)
    with pytest.raises(Late), watched(tmp_path):
        sum(1 for _ in iter(int, 1))


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'touch hacked'\ntR.",
        b"cnumpy\nndarray\n((L20000000000L\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(L20000000000L\ntS'b'\ntR.",
        b"Nr\xff\xff\xff\x7f.",
        b"c_codecs\nencode\n(V" + b"a" * 200_000 + b"\nS'punycode'\ntR.",
    ],
    ids=["code", "a huge array", "a huge empty array", "a far place", "a slow codec"],
)
def test_known_attacks_of_a_pickle_are_refused(data, tmp_path):
    path = tmp_path / "network.pkl"
    path.write_bytes(zipped(data))
    with watched(path):
        said = outcome(float_weights, path)
    assert "is not a network file" in said


def said_of(name, content, folder):
    """The sentence of a reader about some content."""
    reader = READERS[name]
    path, whole = reader.put(folder)
    path.write_bytes(content)
    with watched(whole, reader.allowed):
        return outcome(reader.read, whole)


def test_tables_in_tables_in_tables_are_not_printed(tmp_path):
    """The device profile that once failed: to print the value took all of the stack."""
    table, deep = "[kernels.fp32]\n", "a." * 3000 + "b = 1\n"
    text = catalog.read("device", "gap9").replace(table, table + deep)
    assert "nested too deeply to print" in said_of("device", text.encode(), tmp_path)


def test_endless_keys_are_cut(tmp_path):
    key = "k" * 5000
    assert len(said_of("policy", f'{{"schema_version": 1, "{key}": 1}}'.encode(), tmp_path)) < 400
    twice = f'{{"{key}": 1, "{key}": 2}}'
    assert len(said_of("policy", twice.encode(), tmp_path)) < 400


def with_member(name, content):
    buffer = BytesIO()
    with zipfile.ZipFile(BytesIO(npz())) as whole, zipfile.ZipFile(buffer, "w", 8) as archive:
        for one in whole.namelist():
            archive.writestr(one, content if one == name else whole.read(one))
    return buffer.getvalue()


def header(words, data=b""):
    text = words.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"no header",
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, "),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 2, 4)}"),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n."),
        header("{'descr': '<U1', 'fortran_order': False, 'shape': (16,)}", b"\xff" * 64),
        header("{'descr': '|V4', 'fortran_order': False, 'shape': (16,)}", b"\xff" * 64),
    ],
    ids=["bytes", "an open bracket", "huge", "objects", "no text", "no numbers"],
)
@pytest.mark.parametrize("member", ["labels.npy", "signals.npy"])
def test_arrays_that_are_none_are_refused(content, member, tmp_path):
    said = said_of("signals npz", with_member(member, content), tmp_path)
    assert "plain arrays" in said or "allowed: numbers" in said


def test_a_zip_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    from explorer.accuracy.tasks import _own_signals

    monkeypatch.setattr(_own_signals, "MOST_BYTES", 1 << 16)
    zeros = header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000,)}", bytes(10**6))
    said = said_of("signals npz", with_member("signals.npy", zeros), tmp_path)
    assert "allowed: at most 65536" in said


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("../secret.csv", "allowed: a file in this folder"),
        ("/etc/passwd", "allowed: a file in this folder"),
        ("/dev/zero", "allowed: a file in this folder"),
        ("a\0b", "cannot be read"),
        ("n" * 3000, "cannot be read"),
        ("pipe", "cannot be read"),
    ],
)
def test_a_table_names_plain_files_of_its_folder(file, words, tmp_path):
    (tmp_path / "secret.csv").write_text("1,2\n3,4\n")
    folder = tmp_path / "in"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    content = signal_table().replace(b"left.csv", file.encode(), 1)
    said = said_of("signals table", content, folder)
    assert "line 2: file" in said
    assert words in said


def test_a_pipe_is_no_photograph(tmp_path):
    for kind in ("cat", "dog"):
        (tmp_path / kind).mkdir()
        for at in range(2):
            os.mkfifo(tmp_path / kind / f"{at}.png")
    assert "images in" in outcome(READERS["photo"].read, tmp_path)


def test_a_photograph_starts_no_program_and_fills_no_memory(tmp_path):
    from PIL import Image

    assert said_of("photo", photo("PNG"), tmp_path) is None
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    assert "cannot be read as an image" in said_of("photo", postscript, tmp_path)
    for size in ((1, 300_000), (9_000, 9_000)):
        buffer = BytesIO()
        Image.new("1", size).save(buffer, "PNG")
        assert len(buffer.getvalue()) < 100_000
        assert "pixels: got" in said_of("photo", buffer.getvalue(), tmp_path)


def test_numbers_beyond_those_of_a_signal_are_refused(tmp_path):
    buffer = BytesIO()
    np.save(buffer, np.full((16, 2, 4), 1e300))
    said = said_of("signals npz", with_member("signals.npy", buffer.getvalue()), tmp_path)
    assert "allowed: finite numbers" in said


def with_arrays(**changed):
    """The score table with other arrays; None leaves one out."""
    with np.load(BytesIO(scores())) as archive:
        arrays = dict(archive) | changed
    buffer = BytesIO()
    np.savez(buffer, **{name: one for name, one in arrays.items() if one is not None})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"meta": None}, "meta cannot be read as a JSON object"),
        ({"meta": np.frombuffer(b"[1]", np.uint8)}, "meta cannot be read as a JSON object"),
        ({"meta": np.frombuffer(b"{}", np.uint8)}, "model digest: got None"),
        ({"fisher_out/first_conv": None}, "allowed: floats of shape (16,)"),
        ({"fisher_out/first_conv": np.zeros(3)}, "float64 of shape (3,)', allowed"),
        ({"grad_l1_in/first_conv": np.full(1, np.nan)}, "negative or not finite"),
        ({"grad_sq_out/first_conv": np.full(16, -1.0)}, "negative or not finite"),
    ],
)
def test_a_score_table_that_is_none_is_refused(changed, words, tmp_path):
    assert said_of("scores", with_arrays(), tmp_path) is None
    assert words in said_of("scores", with_arrays(**changed), tmp_path)


def with_tensors(**changed):
    """The weights with other tensors; None leaves one out."""
    from safetensors.torch import load, save

    whole = weights()
    size = int.from_bytes(whole[:8], "little")
    stamp = json.loads(whole[8 : 8 + size])["__metadata__"]
    tensors = load(whole) | changed
    return save({name: one for name, one in tensors.items() if one is not None}, stamp)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"first_conv.weight": None}, "lacks 'first_conv.weight'"),
        ({"x": torch.zeros(1)}, "has 'x', unlike the network"),
        ({"first_conv.weight": torch.zeros(2, 2)}, "torch.float32 of shape (2, 2)', allowed"),
        ({"first_conv.weight": torch.zeros(16, 1, 3, 3).int()}, "torch.int32 of shape"),
        ({"first_conv.weight": torch.full((16, 1, 3, 3), torch.nan)}, "not finite"),
    ],
)
def test_weights_of_another_make_are_refused(changed, words, tmp_path):
    assert said_of("weights", with_tensors(), tmp_path) is None
    assert words in said_of("weights", with_tensors(**changed), tmp_path)
