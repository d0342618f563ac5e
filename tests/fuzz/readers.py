"""Every reader of a file that a stranger may have written, with valid documents, and a watch.

A reader may not run code, open another file than its own, take much memory, or long; it
answers with what it read or with one sentence of ours.
"""

import codecs
import json
import os
import pickle
import resource
import signal
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from explorer import catalog
from explorer.accuracy.records import Ledger
from explorer.accuracy.scores import ScoreTable
from explorer.accuracy.tasks._folder import load_folder
from explorer.accuracy.tasks._own_signals import load_signals, signal_shape
from explorer.accuracy.upstream import float_weights
from explorer.app.kept import KeptView, _priced
from explorer.app.kept_designs import KeptDesigns
from explorer.backward_config import BackwardConfig, read_config
from explorer.costmodel.tables import layer_table
from explorer.device import DeviceProfile, read_text
from explorer.document import load_policy, parse_document
from explorer.engine import Engine
from explorer.errors import ExplorerError
from explorer.export import load_front
from explorer.measurements import read_measurements
from explorer.network import NetworkDocument, load_network
from explorer.paths import data_cache
from explorer.search.sources import measured_runs, score_path
from explorer.session import Session
from explorer.tiny_training import policy_from
from tests.fuzz.mutations import (
    damaged,
    noise,
    regraphed,
    reheaded,
    remembered,
    revalued,
    reworded,
    rezipped,
)

LONGEST_S = 5
MOST_BYTES = 1 << 30
SESSION = Session(model="digits-cnn", policy="last-k:k=2")
MCUNET = Session(policy="none").graph
CODE = ("exec", "compile", "import", "subprocess", "os.", "socket", "shutil", "ctypes", "pty")
OURS = str(data_cache())
SOURCE = ".py"  # which Python and torch open to word a traceback that nobody sees

for known in ("ascii", "latin-1", "utf-8", "raw_unicode_escape", "unicode_escape"):
    codecs.lookup(known)  # those a pickle's own operations name

_watched: list[str] = []
_allowed: tuple[str, ...] = ()
_files: tuple[str, ...] = ()
_is_watching = False


class Late(BaseException):
    """A reader took too long; no `except` of its own may take this for a damaged file."""


def _audit(event, arguments):
    if not _is_watching:
        return
    is_path = event == "open" and not isinstance(arguments[0], int)
    path = os.fsdecode(arguments[0]) if is_path else ""
    is_other_file = is_path and not path.startswith(_files) and not path.endswith(SOURCE)
    if is_other_file or (event.startswith(CODE) and not event.startswith(_allowed)):
        _watched.append(f"{event} {arguments!r:.200}")


sys.addaudithook(_audit)


@contextmanager
def watched(path, allowed=()):
    """No code, no other file, no hang, no flood of memory; `allowed` are events that are none."""
    global _allowed, _files, _is_watching

    def late(*_):
        raise Late(f"more than {LONGEST_S} s of this processor")

    before = signal.signal(signal.SIGVTALRM, late)
    now, most = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, most))
    _watched.clear()
    _files, _allowed = (str(path), OURS), tuple(allowed)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_S)
    _is_watching = True
    try:
        yield
    finally:
        _is_watching = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (now, most))
    assert not _watched, _watched[0]


def outcome(read, path):
    """None when it is read, else the sentence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read(path)
        except ExplorerError as error:
            return str(error)
    return None


@dataclass(frozen=True, kw_only=True)
class Reader:
    """`read` of a path, valid contents, and how they are made hostile.

    `place` is where in a folder the content goes, beside the files of `beside`; the folder is
    what is read where there are any. `share` of the inputs of a run are its own.
    """

    read: Callable[[Path], object]
    valid: Callable[[], list[bytes]]
    place: str
    kinds: tuple[Callable, ...] = (damaged, noise)
    beside: Callable[[], dict[str, bytes]] | None = None
    pack: Callable[[bytes], bytes] = bytes
    allowed: tuple[str, ...] = ()
    share: float = 1.0

    def put(self, folder):
        """Lay out the folder; the path whose content is hostile, and the one that is read."""
        path = folder / self.place
        for name, content in (self.beside() if self.beside else {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path, folder if self.beside else path

    def hostile(self, rng, whole):
        """One input."""
        kind = rng.choice(self.kinds)
        return self.pack(noise(rng) if kind is noise else kind(rng, whole))


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


def scheme():
    config = BackwardConfig(
        n_bias_update=22, manual_weight_idx="21-24-39", weight_update_ratio="1-1-0.5"
    )
    return config.to_yaml().encode()


def kept():
    for kind in ("policy", "model", "sampler"):  # our own code, which a view may name
        for name in catalog.names(kind):
            catalog.load(kind, name)
    table = SESSION.search(3, warm=False).table
    designs = json.loads(KeptDesigns.of(SESSION, table, [0, 1]).to_json())
    settings = {
        "model": "digits-cnn", "device": "gap9", "task": None, "batch": 2, "micro_batch": None,
        "norm": None, "optimizer": None, "update_timing": None, "recompute": None,
        "precision": None, "memory_objective": "peak", "reserve_bytes": 0, "policy": "last-k",
        "options": ["k=2"],
    }  # fmt: skip
    view = {
        "schema_version": 1, "origin": {}, "settings": settings, "trials": 100, "sampler": "nsga2",
        "seed": 0, "fits_only": False, "tab": 0, "selected": "choice",
        "search": {"run": {"phase": "done"}, "sampler": "nsga2", "seed": 0, "volumes": [[20, 0.5]],
                   "found": designs},
        "pins": [designs],
    }  # fmt: skip
    return json.dumps(view).encode()


def npz():
    buffer = BytesIO()
    arrays = {"signals": np.ones((16, 2, 4), np.float32), "labels": np.array(["a", "b"] * 8)}
    domain = {"group": np.arange(16) // 2, "target": np.repeat([0, 1], 8)}
    np.savez(buffer, **arrays, **domain, fs_hz=np.array(8.0))
    return buffer.getvalue()


def signal_table():
    rows = [f"{side}.csv,{side},{group},1,250" for group in range(5) for side in ("left", "right")]
    return "\n".join(["file,label,group,target,fs_hz", *rows, ""]).encode()


def signals():
    return dict.fromkeys(("left.csv", "right.csv"), b"c1,c2\n1,2\n3,4\n5,6\n")


def photo(form):
    from PIL import Image

    buffer = BytesIO()
    pixels = np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3)
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def photos():
    return [photo(form) for form in ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")]


def classes():
    return {f"{kind}/{at}.png": photo("PNG") for kind in ("cat", "dog") for at in range(2)}


def timings():
    head = b"model,policy,batch,precision,phase,time_s,power_w\n"
    rows = b"digits-cnn,,1,fp32,inference,0.01,0.5\ndigits-cnn,last-k:k=2,2,fp32,step,0.03,\n"
    return head + rows


def read_signals(path):
    signal_shape(path)  # of what may be wrong it says nothing
    load_signals("mine", path)


def scores():
    return score_path(SESSION.graph, "digits").read_bytes()


def weights():
    """Of our digits network, as if it was meta-trained."""
    from explorer.accuracy.pretraining import Pretraining
    from explorer.accuracy.torch_bridge import model_module, save_weights
    from explorer.document import Named

    module = model_module(SESSION.graph)
    module.pretraining = Pretraining(
        model=Named(name=SESSION.graph.name, digest=SESSION.graph.digest),
        start_digest="0" * 12,
        task="digits",
        data_digest="1" * 12,
        trained_classes=("0", "1"),
        held_out_classes=("2", "3"),
        episodes=10,
        ways=2,
        shots=1,
        query_count=1,
        learning_rate=0.1,
        seed=0,
        learn_temperature=False,
        temperature=1.0,
        versions={},
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_weights(module, path)
        return path.read_bytes()


def read_weights(path):
    from explorer.accuracy.torch_bridge import loaded_module

    loaded_module(SESSION.graph, path)


def onnx_files():
    from tests.fuzz.onnx_nets import small_nets

    return small_nets()


def read_onnx_file(path):
    from explorer.accuracy.tracing.onnx_file import read_onnx

    read_onnx(path)


def trace_onnx(path):
    from explorer.accuracy.tracing import trace

    trace(path)


IN_JSON = (damaged, revalued, revalued, reworded, noise)
IN_TEXT = (damaged, reworded, noise)
LAZILY = ("import", "exec", "compile", "os.listdir", "ctypes")  # what torch does by itself
READERS = {
    "policy": Reader(
        place="policy.json",
        valid=lambda: [SESSION.export().to_json().encode()],
        read=lambda path: load_policy(path).policy(SESSION.graph),
        kinds=IN_JSON,
    ),
    "front": Reader(place="front.json", valid=lambda: [front()], read=load_front, kinds=IN_JSON),
    "network": Reader(
        place="network.json",
        valid=lambda: [NetworkDocument.of(SESSION.graph).to_json().encode()],
        read=lambda path: layer_table(load_network(path)),
        kinds=IN_JSON,
    ),
    "kept view": Reader(
        place=".notebook.explorer.json",
        valid=lambda: [kept()],
        read=lambda path: _priced(parse_document(KeptView, read_text(path), path.name)),
        kinds=IN_JSON,
        share=0.3,
    ),
    "ledger": Reader(
        place="ledger.jsonl",
        valid=lambda: [ledger()],
        read=lambda path: [run.suits(SESSION.graph) for run in Ledger(path).read()],
        kinds=IN_JSON,
    ),
    "device": Reader(
        place="device.toml",
        valid=lambda: [catalog.read("device", name).encode() for name in ("stm32f746", "gap9")],
        read=lambda path: DeviceProfile.from_toml(read_text(path), str(path)),
        kinds=IN_TEXT,
    ),
    "engine": Reader(
        place="engine.toml",
        valid=lambda: [catalog.read("engine", "aifes").encode()],
        read=lambda path: Engine.from_toml(read_text(path), str(path)),
        kinds=IN_TEXT,
    ),
    "scheme": Reader(
        place="scheme.yaml",
        valid=lambda: [scheme()],
        read=lambda path: policy_from(read_config(read_text(path), str(path)), MCUNET, "mine"),
        kinds=IN_TEXT,
    ),
    "timings": Reader(
        place="timings.csv",
        valid=lambda: [timings()],
        read=lambda path: read_measurements(path, "gap9"),
        kinds=IN_TEXT,
        share=0.3,
    ),
    "zip": Reader(
        place="network.pkl",
        valid=lambda: [zipped(pickled(2)), zipped(pickled(4))],
        read=float_weights,
    ),
    "pickle": Reader(
        place="network.pkl",
        valid=lambda: [pickled(2), pickled(4)],
        read=float_weights,
        pack=zipped,
    ),
    "signals npz": Reader(
        place="signals.npz",
        valid=lambda: [npz()],
        read=read_signals,
        kinds=(damaged, rezipped, rezipped, rezipped, noise),
        allowed=("compile",),  # of a header's literals
    ),
    "signals table": Reader(
        place="labels.csv",
        valid=lambda: [signal_table()],
        beside=signals,
        read=read_signals,
        kinds=IN_TEXT,
    ),
    "signals csv": Reader(
        place="left.csv",
        valid=lambda: [signals()["left.csv"]],
        beside=lambda: signals() | {"labels.csv": signal_table()},
        read=read_signals,
        kinds=IN_TEXT,
    ),
    "photo": Reader(
        place="cat/0.png",
        valid=photos,
        beside=classes,
        read=lambda path: load_folder("mine", path, 16),
        allowed=("os.listdir", "os.scandir"),
    ),
    "scores": Reader(
        place="scores.npz",
        valid=lambda: [scores()],
        read=lambda path: ScoreTable.load(path, SESSION.graph),
        kinds=(damaged, rezipped, rezipped, remembered, noise),
        allowed=("compile",),  # of a header's literals
    ),
    "weights": Reader(
        place="weights.safetensors",
        valid=lambda: [weights()],
        read=read_weights,
        kinds=(damaged, reheaded, reheaded, reheaded, noise),
        allowed=LAZILY,
        share=0.3,
    ),
    "onnx": Reader(
        place="document.onnx",
        valid=onnx_files,
        read=read_onnx_file,
        kinds=(damaged, regraphed, regraphed, regraphed, regraphed, noise),
    ),
    "onnx traced": Reader(
        place="document.onnx",
        valid=onnx_files,
        read=trace_onnx,
        kinds=(damaged, regraphed, regraphed, regraphed),
        allowed=LAZILY,
        share=0.03,
    ),
}
