"""Weights of the int8 networks of tiny-training, read from their own files.

A file is a zip with one pickle of dictionaries and NumPy arrays (Lin et al., NeurIPS 2022).
The reader has stand-ins for the four globals such arrays need and nothing else, so no code
of a file ever runs, and nothing in it takes more memory than the file does. Weights are
symmetric per output channel; a bias counts in steps of input scale times weight scale. A few
dead channels carry a saturated bias: its product with their tiny scale is taken as it is.
"""

import io
import pickle
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explorer.errors import SpecError

MEMBER = "data.pkl"
LARGEST_BYTES = 64 * 2**20
BLOCK_PARTS = ("pointwise1", "depthwise", "pointwise2")

FloatWeights = dict[str, NDArray[np.float32]]


def _empty_array(kind: object, shape: object, _code: object) -> NDArray[np.int8]:
    """What an array is filled into; its data come with its state."""
    if kind is not _ARRAY or shape != (0,):
        raise SpecError.of("an array in the pickle", shape, "as NumPy writes it")
    return np.empty(0, np.int8)


def _latin1(text: str, encoding: str = "utf-8") -> bytes:
    """Bytes as protocols of before Python 3 write them."""
    return text.encode("latin1" if encoding == "latin1" else "ascii")


_ARRAY = object()  # stands for numpy.ndarray, which is only named
_ALLOWED: dict[tuple[str, str], object] = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): _ARRAY,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("_codecs", "encode"): _latin1,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise SpecError.of("a global in the pickle", f"{module}.{name}", "NumPy arrays only")
        return _ALLOWED[module, name]


def _unpickled(data: bytes) -> Any:
    """What a pickle holds. A place to remember a value at is below its size, as writers count."""
    for operation, argument, _ in pickletools.genops(data):
        if "PUT" in operation.name and isinstance(argument, int) and argument > len(data):
            raise SpecError.of("a place in the pickle", argument, f"to {len(data)}")
    return _ArraysOnly(io.BytesIO(data)).load()


def read_upstream(path: Path) -> dict[str, Any]:
    """The dictionaries and arrays of a file; SpecError when it is anything else."""
    try:
        with zipfile.ZipFile(path) as archive:
            member = next(i for i in archive.infolist() if Path(i.filename).name == MEMBER)
            if member.file_size > LARGEST_BYTES:
                raise SpecError.of("bytes of data.pkl", member.file_size, f"to {LARGEST_BYTES}")
            content = _unpickled(archive.read(member))
    except SpecError as error:
        raise SpecError(f"{path.name} is not a network file: {error}") from None
    except (
        StopIteration,
        OSError,
        EOFError,
        zipfile.BadZipFile,
        pickle.UnpicklingError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RuntimeError,
        ArithmeticError,
        MemoryError,
        zlib.error,
        struct.error,
    ) as error:
        raise SpecError(
            f"{path.name} is not a network file: {type(error).__name__} while reading it"
        ) from None
    if not isinstance(content, dict):
        raise SpecError(f"{path.name} is not a network file: it holds no dictionary")
    return content


def float_weights(path: Path) -> FloatWeights:
    """`Lnn.weight` [out, in/groups, kh, kw] and `Lnn.bias` [out], in execution order.

    The 1000-way ImageNet classifier is last. SpecError when the file is not such a network.
    """
    content = read_upstream(path)
    arrays: FloatWeights = {}
    try:
        for index, layer in enumerate(_layers(content)):
            parameters = layer["params"]
            scales = np.asarray(parameters["w_scales"], np.float32)
            weight = parameters["weight"].astype(np.float32)
            arrays[f"L{index:02d}.weight"] = weight * scales[:, None, None, None]
            steps = scales.astype(np.float64) * float(parameters["x_scale"])
            bias = parameters["bias"].astype(np.float64) * steps
            arrays[f"L{index:02d}.bias"] = bias.astype(np.float32)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        kind = type(error).__name__
        raise SpecError(f"{path.name} is not a network file: {kind} in a layer") from None
    return arrays


def _layers(content: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield content["first_conv"]
    for block in content["blocks"]:
        yield from (block[part] for part in BLOCK_PARTS if block[part] is not None)
    if content["feature_mix"] is not None:
        yield content["feature_mix"]
    yield content["classifier"]
