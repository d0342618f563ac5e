"""Readers of documents under hostile input: one sentence of ours, or a document.

Inputs are damaged valid documents and random bytes, EXPLORER_FUZZ_INPUTS of them a reader
(`make fuzz`), few without. A reader may not run code, open another file than its own, take
much memory, or long.
"""

import codecs
import json
import os
import pickle
import resource
import signal
import sys
import warnings
import zipfile
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explorer import catalog
from explorer.accuracy.records import Ledger
from explorer.accuracy.upstream import float_weights
from explorer.backward_config import BackwardConfig, read_config
from explorer.costmodel.tables import layer_table
from explorer.device import DeviceProfile, read_text
from explorer.document import load_policy
from explorer.engine import Engine
from explorer.errors import ExplorerError
from explorer.export import load_front
from explorer.network import NetworkDocument, load_network
from explorer.search.sources import measured_runs
from explorer.session import Session
from explorer.tiny_training import policy_from

pytestmark = pytest.mark.fuzz

INPUTS = int(os.environ.get("EXPLORER_FUZZ_INPUTS", "60"))
LONGEST_S = 5
MOST_BYTES = 1 << 30
SESSION = Session(model="digits-cnn", policy="last-k:k=2")
MCUNET = Session(policy="none").graph
FORBIDDEN = ("exec", "compile", "import", "subprocess", "os.", "socket", "shutil", "ctypes", "pty")

for known in ("ascii", "latin-1", "utf-8", "raw_unicode_escape", "unicode_escape"):
    codecs.lookup(known)  # those a pickle's own operations name

_watched: list[str] = []
_allowed: list[str] = []
_is_watching = False


def _audit(event, arguments):
    if not _is_watching:
        return
    is_other_file = event == "open" and str(arguments[0]) not in _allowed
    if is_other_file or event.startswith(FORBIDDEN):
        _watched.append(f"{event} {arguments!r:.200}")


sys.addaudithook(_audit)


@contextmanager
def watched(path):
    """No code, no other file, no hang, no flood of memory."""
    global _is_watching

    def late(*_):
        raise TimeoutError(f"more than {LONGEST_S} s of this processor")

    before = signal.signal(signal.SIGVTALRM, late)
    now, most = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, most))
    _watched.clear()
    _allowed[:] = [str(path)]
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_S)
    _is_watching = True
    try:
        yield
    finally:
        _is_watching = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (now, most))
    assert not _watched


def layer(out, inside):
    return {
        "params": {
            "weight": np.ones((out, inside, 1, 1), np.int8),
            "bias": np.ones(out, np.int32),
            "w_scales": np.ones(out, np.float32),
            "x_scale": 0.25,
        }
    }


def pickled(protocol):
    block = {"pointwise1": None, "depthwise": layer(2, 1), "pointwise2": layer(2, 2)}
    content = {"first_conv": layer(2, 3), "blocks": [block], "feature_mix": None}
    return pickle.dumps(content | {"classifier": layer(2, 2)}, protocol)


def zipped(data):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    return buffer.getvalue()


def front():
    document = json.loads(SESSION.front_document(SESSION.search(3, warm=False)).to_json())
    document["candidates"] = [one for one in document["candidates"] if one["on_front"]][:2]
    return json.dumps(document).encode()


def ledger():
    return b"\n".join(
        run.model_dump_json().encode() for run in measured_runs(SESSION.graph, "digits")[:2]
    )


READERS = {
    "policy": (
        ".json",
        lambda: [SESSION.export().to_json().encode()],
        lambda path: load_policy(path).policy(SESSION.graph),
    ),
    "front": (".json", lambda: [front()], load_front),
    "network": (
        ".json",
        lambda: [NetworkDocument.of(SESSION.graph).to_json().encode()],
        lambda path: layer_table(load_network(path)),
    ),
    "device": (
        ".toml",
        lambda: [catalog.read("device", "stm32f746").encode()],
        lambda path: DeviceProfile.from_toml(read_text(path), str(path)),
    ),
    "engine": (
        ".toml",
        lambda: [catalog.read("engine", "aifes").encode()],
        lambda path: Engine.from_toml(read_text(path), str(path)),
    ),
    "ledger": (
        ".jsonl",
        lambda: [ledger()],
        lambda path: [run.suits(SESSION.graph) for run in Ledger(path).read()],
    ),
    "scheme": (
        ".yaml",
        lambda: [
            BackwardConfig(
                n_bias_update=22, manual_weight_idx="21-24-39", weight_update_ratio="1-1-0.5"
            )
            .to_yaml()
            .encode()
        ],
        lambda path: policy_from(read_config(read_text(path), str(path)), MCUNET, "mine"),
    ),
    "zip": (".pkl", lambda: [zipped(pickled(2)), zipped(pickled(4))], float_weights),
    "pickle": (".pkl", lambda: [pickled(2), pickled(4)], float_weights),
}

TOKENS = st.sampled_from(
    [
        *(bytes([byte]) for byte in b'"{}[],:\n-?%.0\x00\xffRbt('),
        *(b"1e999", b"NaN", b"null", b"true", b"9" * 400, b"\\ud800", b"\xed\xa0\x80", b"\xff\xfe"),
        *(b"[" * 3000, b"{" * 3000, b'{"a":' * 3000, b"- " * 3000, b"a." * 3000),
        *(b"!!python/object/apply:os.system ['true']", b"&a [*a, *a]", b"<<: *a", b"''"),
        *(b"= ", b"[[source]]\n", b"1979-05-27", b"0x7fffffffffffffff", b"inf"),
        *(b"cos\nsystem\n", b"cbuiltins\nexec\n", b"cnumpy\nndarray\n", b"c_codecs\nencode\n"),
        *(b"(S'true'\ntR.", b"r\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 7 + b"\0", b"\x93"),
        *(b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"2" * 99, b"cnumpy\ndtype\n"),
    ]
)
NUMBERS = st.integers(-(10**20), 10**20).map(lambda number: str(number).encode())
PIECES = st.one_of(TOKENS, st.binary(max_size=6), NUMBERS)


@st.composite
def damaged(draw, whole):
    """A valid document with up to four pieces put in, put over, left out or said twice."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["in", "over", "out", "twice", "end"]))
        if kind == "in":
            data[at:at] = draw(PIECES)
        elif kind == "over":
            piece = draw(PIECES)
            data[at : at + len(piece)] = piece
        elif kind == "out":
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == "twice":
            data[at:at] = data[at : at + draw(st.integers(1, 80))]
        else:
            del data[at:]
    return bytes(data)


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**30), 10**30),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["bn", "fp32", "conv2d", "input", "first", "out", "nan", "\x00", "."]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def revalued(draw, whole):
    """A valid JSON document with up to three other values."""
    lines = [json.loads(line) for line in whole.splitlines()] if b"}\n{" in whole else None
    document = lines if lines is not None else json.loads(whole)
    for _ in range(draw(st.integers(1, 3))):
        at = document
        while isinstance(at, dict | list) and at:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = draw(st.sampled_from(keys))
            if not isinstance(at[key], dict | list) or draw(st.integers(0, 4)) == 0:
                at[key] = draw(VALUES)
                break
            at = at[key]
    rows = lines if lines is not None else [document]
    return "\n".join(json.dumps(row) for row in rows).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("name", READERS)
def test_a_reader_answers_in_one_sentence_or_reads(name, tmp_path):
    suffix, valid, read = READERS[name]
    path = tmp_path / f"document{suffix}"
    documents = valid()
    pack = zipped if name == "pickle" else bytes
    for whole in documents:  # whole ones are read, and import what reading needs
        path.write_bytes(pack(whole))
        read(path)
        for broken in (b"", whole[:-20], b"\x80\x02}(", b"{}", b"[[[", b"\xff"):
            path.write_bytes(pack(broken))
            outcome(read, path)
    kinds = [st.binary(max_size=200)]
    kinds += [damaged(whole) for whole in documents for _ in range(2)]
    if suffix in (".json", ".jsonl"):
        kinds += [revalued(whole) for whole in documents for _ in range(2)]
    counts = {"read": 0, "refused": 0}

    @settings(
        max_examples=INPUTS,
        deadline=None,
        derandomize=INPUTS < 1000,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.one_of(kinds))
    def attack(data):
        path.write_bytes(pack(data))
        with watched(path):
            said = outcome(read, path)
        counts["refused" if said else "read"] += 1
        assert said is None or (said and "\n" not in said and len(said) < 3000)

    attack()
    print(f"{name}: {counts['read']} read, {counts['refused']} refused")
    assert sum(counts.values()) >= min(INPUTS, 50)


def outcome(read, path):
    """None when it is read, else the sentence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read(path)
        except ExplorerError as error:
            return str(error)
    return None


def test_the_watch_sees_code_and_files(tmp_path):
    with pytest.raises(AssertionError), watched(tmp_path):
        exec("1 + 1")
    with pytest.raises(AssertionError), watched(tmp_path):
        open(os.devnull).close()
    with pytest.raises(MemoryError), watched(tmp_path):
        bytearray(2 * MOST_BYTES)


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
