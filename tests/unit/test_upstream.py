"""The int8 files of tiny-training: read without running anything, equal to our conversion."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from explorer import catalog, paths
from explorer.accuracy import downloads, torch_bridge
from explorer.accuracy.torch_bridge import model_module
from explorer.accuracy.upstream import float_weights, read_upstream
from explorer.errors import MissingDataError, SpecError

NETWORKS = ("mcunet-5fps", "mbv2-w0.35", "proxyless-w0.3")


def write(path: Path, content: object, protocol=2) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        data = content if isinstance(content, bytes) else pickle.dumps(content, protocol)
        archive.writestr("archive/data.pkl", data)
    return path


def layer(out, inside, side=1):
    rng = np.random.default_rng(out)
    return {
        "params": {
            "weight": rng.integers(-128, 128, (out, inside, side, side), dtype=np.int8),
            "bias": rng.integers(-1000, 1000, out, dtype=np.int32),
            "w_scales": rng.random(out, dtype=np.float32),
            "x_scale": 0.25,
            "x_zero": 3,
        }
    }


def network():
    blocks = [
        {"pointwise1": None, "depthwise": layer(4, 1, 3), "pointwise2": layer(5, 4)},
        {"pointwise1": layer(6, 5), "depthwise": layer(6, 1, 5), "pointwise2": layer(7, 6)},
    ]
    return {
        "first_conv": layer(4, 3, 3),
        "blocks": blocks,
        "feature_mix": layer(8, 7),
        "classifier": layer(9, 8),
    }


def raw_file(name) -> Path:
    folder = paths.explorer_data()
    path = None if folder is None else folder / "models" / "raw" / f"{name}.pkl"
    if path is None or not path.is_file():
        pytest.skip(f"{paths.DATA_VARIABLE} names no folder with models/raw/{name}.pkl")
    return path


@pytest.mark.parametrize("protocol", [2, 4])
def test_weights_are_dequantised_by_channel_in_execution_order(tmp_path, protocol):
    made = network()
    arrays = float_weights(write(tmp_path / "n.pkl", made, protocol))
    order = [(4, 3), (4, 1), (5, 4), (6, 5), (6, 1), (7, 6), (8, 7), (9, 8)]
    shapes = [arrays[f"L{index:02d}.weight"].shape[:2] for index in range(len(order))]
    assert shapes == order
    assert len(arrays) == 2 * len(order)
    parameters = made["classifier"]["params"]
    for channel in range(9):
        scale = parameters["w_scales"][channel]
        assert arrays["L07.weight"][channel] == pytest.approx(parameters["weight"][channel] * scale)
        assert arrays["L07.bias"][channel] == pytest.approx(parameters["bias"][channel] * scale / 4)


def test_a_saturated_bias_does_not_wrap(tmp_path):
    made = network()
    parameters = made["first_conv"]["params"]
    parameters["bias"][0] = -(2**31)
    parameters["w_scales"][0] = 4e-9
    bias = float_weights(write(tmp_path / "n.pkl", made))["L00.bias"][0]
    assert bias == pytest.approx(-(2**31) * 4e-9 * 0.25, rel=1e-6)


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_no_code_of_a_file_runs(tmp_path, protocol):
    mark = tmp_path / "ran"
    for attack in (
        Runs(os.system, f"touch {mark}"),
        Runs(os.mkdir, str(mark)),
        Runs(eval, f"open({str(mark)!r}, 'w')"),
    ):
        path = write(tmp_path / "evil.pkl", {**network(), "blocks": [attack]}, protocol)
        with pytest.raises(SpecError, match=r"evil.pkl is not a network file: a global"):
            read_upstream(path)
        with pytest.raises(SpecError, match="NumPy arrays only"):
            float_weights(path)
        assert not mark.exists()


@pytest.mark.parametrize("name", ["numpy.load", "numpy.core.multiarray.scalar", "_codecs.decode"])
def test_other_globals_of_allowed_modules_are_refused(tmp_path, name):
    module, attribute = name.rsplit(".", 1)
    path = write(tmp_path / "n.pkl", b"c" + f"{module}\n{attribute}\n.".encode())
    with pytest.raises(SpecError, match=name):
        read_upstream(path)


def test_dotted_names_do_not_reach_further(tmp_path):
    path = write(
        tmp_path / "n.pkl", b"\x80\x04\x8c\x05numpy\x8c\x0cdtype.mro\x93.".replace(b"\x0c", b"\x09")
    )
    with pytest.raises(SpecError, match=r"dtype\.mro"):
        read_upstream(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no zip",
        "empty zip",
        b"\x80\x02}q\x00",
        [1, 2],
        {"first_conv": 3},
        {**network(), "blocks": [{}]},
    ],
    ids=str,
)
def test_what_is_not_a_network_is_one_sentence(tmp_path, content):
    path = tmp_path / "n.pkl"
    if content == "empty zip":
        with zipfile.ZipFile(path, "w"):
            pass
    elif content in (b"", b"no zip"):
        path.write_bytes(content)
    else:
        write(path, content)
    with pytest.raises(SpecError, match=r"n\.pkl is not a network file") as refused:
        float_weights(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_equal_our_conversion(name):
    arrays = float_weights(raw_file(name))
    with np.load(paths.explorer_data() / "models" / f"{name}.float32.npz") as ours:
        assert set(arrays) == set(ours.files)
        for stem in ours.files:
            assert arrays[stem].dtype == ours[stem].dtype
            assert np.array_equal(arrays[stem], ours[stem])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_raw_files_are_the_pinned_ones(name):
    (file,) = downloads.remote(name).files
    path = raw_file(name)
    assert file.problem(path) == ""
    assert file.size_bytes == path.stat().st_size


@pytest.mark.parametrize("name", NETWORKS)
def test_a_fetched_network_needs_no_data_folder(name, tmp_path, monkeypatch):
    raw = raw_file(name)
    graph = catalog.load("model", name).build(resolution="84")
    converted = model_module(graph)
    (file,) = downloads.remote(name).files
    monkeypatch.setenv(paths.CACHE_VARIABLE, str(tmp_path))
    file.path.parent.mkdir(parents=True)
    file.path.write_bytes(raw.read_bytes())
    monkeypatch.delenv(paths.DATA_VARIABLE)
    assert torch_bridge.state_digest(model_module(graph)) == torch_bridge.state_digest(converted)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_missing_network_says_how_to_get_it(name, monkeypatch):
    monkeypatch.delenv(paths.DATA_VARIABLE, raising=False)
    with pytest.raises(MissingDataError, match=f"explorer fetch {name} .*{paths.DATA_VARIABLE}"):
        model_module(catalog.load("model", name).build())
