"""Reading the converted vision sets below EXPLORER_DATA, as 128x128 network inputs.

Preprocessing of the int8 networks of tiny-training (Lin et al., NeurIPS 2022): short side
to 147, centre crop 128, input -1..1, no ImageNet mean. Line drawings are resized whole,
black ink on white.
"""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explorer.accuracy.tasks import TaskData
from explorer.errors import MissingDataError
from explorer.paths import DATA_VARIABLE, explorer_data

SIDE = 128
SHORT_SIDE = 147
SHIFT = 9  # 6 of 84 pixels in the pilot
WHITE = 255


def data_file(task: str, name: str) -> Path:
    """Path of a file of the vision folder; MissingDataError when it is not there."""
    folder = explorer_data()
    path = None if folder is None else folder / "vision" / name
    if path is None or not path.is_file():
        where = f"set {DATA_VARIABLE} to a folder that has" if path is None else "no file"
        raise MissingDataError(f"task {task} needs vision/{name}: {where} {path or 'it'}")
    return path


def photographs(task: str, file_name: str, query_count: int) -> TaskData:
    """Colour images from a zip with `labels.csv` (file, label, class)."""
    with zipfile.ZipFile(data_file(task, file_name)) as archive:
        text = io.StringIO(archive.read("labels.csv").decode("utf-8"))
        rows = list(csv.DictReader(text))
        images = np.stack([_photograph(archive.read(row["file"])) for row in rows])
    names = {int(row["label"]): row["class"] for row in rows}
    labels = np.array([int(row["label"]) for row in rows])
    return _task(task, images.transpose(0, 3, 1, 2), labels, names, query_count, colour=True)


def drawings(
    task: str,
    ink: NDArray[np.uint8],
    labels: NDArray[np.int64],
    class_names: NDArray[np.str_],
    query_count: int,
) -> TaskData:
    """Line drawings `ink` [N, H, W], 255 where there is ink."""
    paper = np.stack([_drawing(WHITE - image) for image in ink])[:, None]
    names = {label: str(name) for label, name in enumerate(class_names)}
    return _task(task, paper, labels, names, query_count, colour=False)


def _task(
    task: str,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    names: dict[int, str],
    query_count: int,
    *,
    colour: bool,
) -> TaskData:
    return TaskData(
        name=task,
        pixels=np.ascontiguousarray(pixels),
        labels=labels.astype(np.int64),
        class_names=tuple(names[label] for label in range(len(names))),
        held_out=tuple(range(len(names))),
        channels=3,
        pixel_maximum=WHITE,
        signed=True,
        max_shift=SHIFT,
        augment_colour=colour,
        query_count=query_count,
    )


def _photograph(data: bytes) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGB")
    scale = SHORT_SIDE / min(image.size)
    width, height = (round(size * scale) for size in image.size)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)))


def _drawing(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    resized = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(resized)
