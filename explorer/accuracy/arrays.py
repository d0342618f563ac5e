"""Arrays of an .npz that anyone may have written: plain ones, and no more than fit."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explorer.errors import SpecError


def plain_arrays(path: Path, names: Sequence[str], most_bytes: int) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz by name; whatever is wrong with the file is one sentence.

    `names` are those it should have, which the sentence says; they are not checked.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            held_bytes = sum(member.file_size for member in archive.infolist())
            check_bytes(str(path), held_bytes, most_bytes)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        for array in arrays.values():
            if array.dtype.kind == "U":  # bytes, which are no array, raise here
                array.tolist()  # and here what is no text
    except SpecError:
        raise
    except Exception as error:
        wanted = ", ".join(names)
        raise SpecError(f"{path}: cannot be read as an .npz of plain arrays ({wanted})") from error
    return arrays


def check_bytes(place: str, held_bytes: int, most_bytes: int) -> None:
    """SpecError where there is more than is read into memory."""
    if held_bytes > most_bytes:
        raise SpecError.of(f"{place}: bytes of all arrays", held_bytes, f"at most {most_bytes}")
