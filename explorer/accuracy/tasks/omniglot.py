"""Omniglot (Lake et al., 2015; MIT): handwritten characters of five alphabets."""

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from explorer.accuracy.tasks import TaskData
from explorer.accuracy.tasks._vision import SIDE, WHITE, data_paths, drawings

SUMMARY = "handwritten characters, 179 classes of 20 drawings; fetch or EXPLORER_DATA"
INPUT_SHAPE = (None, None, None)
MID_GREY = 128


def load(side: int = SIDE) -> TaskData:
    """3580 drawings of 179 characters; all of both small background sets when fetched."""
    is_converted, paths = data_paths("omniglot", "omniglot_small.npz")
    if is_converted:
        with np.load(paths[0], allow_pickle=False) as archive:
            height, width = int(archive["height"]), int(archive["width"])
            bits = np.unpackbits(archive["packed"], axis=1)[:, : height * width]
            ink = bits.reshape(-1, height, width) * np.uint8(WHITE)
            labels, names = archive["labels"], archive["class_names"].tolist()
    else:
        ink, labels, names = _upstream(paths)
    return drawings("omniglot", ink, labels, names, query_count=15, side=side)


def _upstream(paths: Iterable[Path]) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """Drawings `<set>/<alphabet>/<character>/<file>.png`; one in both sets counts once."""
    found: dict[PurePosixPath, NDArray[np.uint8]] = {}
    for path in paths:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                place = PurePosixPath(name)
                if len(place.parts) == 4 and place.suffix == ".png":
                    found[PurePosixPath(*place.parts[1:])] = _ink(archive.read(name))
    places = sorted(found)
    names, labels = np.unique([str(place.parent) for place in places], return_inverse=True)
    return np.stack([found[place] for place in places]), labels, names.tolist()


def _ink(content: bytes) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as opened:
        return (np.asarray(opened.convert("L")) < MID_GREY) * np.uint8(WHITE)
