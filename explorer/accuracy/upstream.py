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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from explorer.errors import SpecError

MEMBER = "data.pkl"
LARGEST_BYTES = 64 * 2**20
MOST_OPERATIONS = 200_000
PLAIN_KINDS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
BLOCK_PARTS = ("pointwise1", "depthwise", "pointwise2")

FloatWeights = dict[str, NDArray[np.float32]]


class _StandIn:
    """Of a global or an object in a pickle; what a pickle says of its state is checked here.

    NumPy's own are not used: a damaged state of theirs can end the process.
    """

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise SpecError.of("a state in the pickle", type(state).__name__, "that of an array")


class _Kind(_StandIn):
    """`numpy.dtype` once it is called: plain numbers only."""

    __slots__ = ("code", "order")

    def __init__(self, code: object) -> None:
        if not isinstance(code, str) or code not in PLAIN_KINDS:
            came = code if isinstance(code, str) else type(code).__name__
            raise SpecError.of("a kind of numbers in the pickle", came, ", ".join(PLAIN_KINDS))
        self.code, self.order = code, ""

    def __setstate__(self, state: object) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if type(order) is not str or order not in ("<", ">", "|", "="):
            raise SpecError("an order of bytes in the pickle: allowed: <, >, | or =")
        self.order = order


class _Array(_StandIn):
    """An array, once its state is set."""

    __slots__ = ("values",)

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise SpecError.of("a state in the pickle", type(state).__name__, "that of an array")
        _, shape, kind, is_fortran, data = state
        if not isinstance(kind, _Kind) or not isinstance(data, bytes):
            raise SpecError.of("a state in the pickle", type(state).__name__, "numbers as bytes")
        flat = np.frombuffer(data, np.dtype(kind.order + kind.code))
        self.values: NDArray[Any] = flat.reshape(shape, order="F" if is_fortran else "C")


class _ArrayClass(_StandIn):
    """`numpy.ndarray`, which is only named."""

    __slots__ = ()


class _Dtype(_StandIn):
    """`numpy.dtype`."""

    __slots__ = ()

    def __call__(self, code: object, *_: object) -> _Kind:
        return _Kind(code)


class _Reconstruct(_StandIn):
    """What makes an array to be filled."""

    __slots__ = ()

    def __call__(self, *_: object) -> _Array:
        return _Array()


class _Encode(_StandIn):
    """`_codecs.encode`, by which protocols of before Python 3 write bytes."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str = "ascii") -> bytes:
        return text.encode("latin1" if encoding == "latin1" else "ascii")


STAND_INS: dict[tuple[str, str], type[_StandIn]] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _ArrayClass,
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct,
    ("_codecs", "encode"): _Encode,
}


class _ArraysOnly(pickle._Unpickler):
    """The reader in Python, which a damaged file cannot crash, with texts alone as keys.

    Other keys, and sets, could take for ever to hash.
    """

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Any]] = {
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if bytes([code]) not in (pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET)
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STAND_INS:
            raise SpecError.of("a global in the pickle", f"{module}.{name}", "NumPy arrays only")
        return STAND_INS[module, name]()

    def load_setitem(self) -> None:
        key, value = self.stack[-2:]
        del self.stack[-2:]
        _fill(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        _fill(self.stack[-1], items)

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        _fill(self.stack[-1], items)

    dispatch |= {
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
    }


def _fill(into: dict[str, Any], items: list[Any]) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(into) is not dict or type(key) is not str:
            raise SpecError.of("a key in the pickle", type(key).__name__, "text")
        into[key] = value


def _unpickled(data: bytes) -> Any:
    """What a pickle holds."""
    for count, _ in enumerate(pickletools.genops(data)):
        if count > MOST_OPERATIONS:
            raise SpecError.of("operations of the pickle", f"more than {count - 1}", "fewer")
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
    elements = 0
    try:
        for index, layer in enumerate(_layers(content)):
            parameters = layer["params"]
            scales, weight, bias = (
                parameters[name].values for name in ("w_scales", "weight", "bias")
            )
            elements += weight.size
            if weight.ndim != 4 or not len(weight) == scales.size == bias.size:
                raise ValueError("sizes that do not belong together")
            if elements > LARGEST_BYTES:
                raise ValueError("more weights than a file can hold")
            scales, weight = scales.astype(np.float32), weight.astype(np.float32)
            arrays[f"L{index:02d}.weight"] = weight * scales[:, None, None, None]
            steps = scales.astype(np.float64) * float(parameters["x_scale"])
            arrays[f"L{index:02d}.bias"] = (bias.astype(np.float64) * steps).astype(np.float32)
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
