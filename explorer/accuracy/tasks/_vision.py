"""Making vision tasks: where their images come from, and how they become network inputs.

A set is read from its converted file below EXPLORER_DATA, else in its upstream form from
the cache of `explorer fetch`; the two hold different images of one kind.
Preprocessing of the int8 networks of tiny-training (Lin et al., NeurIPS 2022) at side 128:
short side to 147, centre crop 128, input -1..1, no ImageNet mean; in proportion at other
sides. Line drawings are resized whole, black ink on white.
"""

import csv
import io
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import floor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explorer.accuracy.downloads import fetched
from explorer.accuracy.tasks import TaskData
from explorer.errors import MissingDataError, SpecError
from explorer.paths import DATA_VARIABLE, explorer_data

SIDE = 128
CROP_RATIO = 0.875
SHIFT_RATIO = 6 / 84  # 6 of 84 pixels in the pilot
WHITE = 255
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # others may start a program of their own
MOST_PIXELS = 1 << 26  # of a photograph, and of it as it is resized
RGB = 3

Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One labelled image file: its class, what to call it in an error, and its content.

    `box` (left, top, right, bottom) cuts a part out of it.
    """

    class_name: str
    origin: str
    content: bytes
    box: Box | None = None


def data_paths(task: str, converted: str) -> tuple[bool, tuple[Path, ...]]:
    """Whether the converted file is there, and the file or else the upstream files.

    MissingDataError when neither is there.
    """
    folder = explorer_data()
    path = None if folder is None else folder / "vision" / converted
    if path is not None and path.is_file():
        return True, (path,)
    upstream = fetched(task)
    if upstream is None:
        raise MissingDataError(
            f"task {task} needs vision/{converted} below {DATA_VARIABLE}, "
            f"or its upstream form: explorer fetch {task}"
        )
    return False, upstream


def photographs(
    task: str,
    converted: str,
    query_count: int,
    side: int,
    upstream: Callable[[Path], Iterable[Sample]],
) -> TaskData:
    """Colour images of a set; `upstream` reads the samples of the fetched archive."""
    is_converted, paths = data_paths(task, converted)
    samples = _converted(paths[0]) if is_converted else upstream(paths[0])
    return photo_task(task, samples, query_count, side)


def photo_task(task: str, samples: Iterable[Sample], query_count: int, side: int) -> TaskData:
    """A task of colour images; classes in the order of their names."""
    pixels, names = [], []
    for sample in samples:
        pixels.append(_photograph(sample, side))
        names.append(sample.class_name)
    if not pixels:
        raise MissingDataError(f"task {task}: no image where its data should be")
    class_names, labels = np.unique(names, return_inverse=True)
    images = np.stack(pixels).transpose(0, 3, 1, 2)
    return image_task(task, images, labels, class_names.tolist(), query_count)


def drawings(
    task: str,
    ink: NDArray[np.uint8],
    labels: NDArray[np.int64],
    class_names: list[str],
    query_count: int,
    side: int,
) -> TaskData:
    """Line drawings `ink` [N, H, W], 255 where there is ink."""
    paper = np.stack([_drawing(WHITE - image, side) for image in ink])[:, None]
    return image_task(task, paper, labels, class_names, query_count)


def _converted(path: Path) -> Iterable[Sample]:
    """Samples of a zip with `labels.csv` (file, label, class)."""
    with zipfile.ZipFile(path) as archive:
        text = io.StringIO(archive.read("labels.csv").decode("utf-8"))
        for row in csv.DictReader(text):
            content = archive.read(row["file"])
            yield Sample(class_name=row["class"], origin=row["file"], content=content)


def image_task(
    task: str,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    class_names: list[str],
    query_count: int,
    *,
    signed: bool = True,
) -> TaskData:
    """A task of images [N, C, H, W], every class of it new; only those of colour vary in it."""
    channels = pixels.shape[1]
    return TaskData(
        name=task,
        pixels=np.ascontiguousarray(pixels),
        labels=labels.astype(np.int64),
        class_names=tuple(class_names),
        held_out=tuple(range(len(class_names))),
        channels=RGB if channels == 1 else channels,
        pixel_maximum=WHITE,
        signed=signed,
        max_shift=round(pixels.shape[-1] * SHIFT_RATIO),
        augment_colour=channels == RGB,
        query_count=query_count,
    )


def _photograph(sample: Sample, side: int) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(sample.content), formats=FORMATS) as opened:
            _check_pixels(sample, opened.size)
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except SpecError:
        raise
    except Exception as error:
        raise SpecError(f"{sample.origin}: cannot be read as an image") from error
    if sample.box is not None:
        image = image.crop(sample.box)
    # tiny-training rounds 128 / 0.875 = 146.3 up to 147
    scale = -floor(-side / CROP_RATIO) / min(image.size)
    width, height = (max(side, round(size * scale)) for size in image.size)
    _check_pixels(sample, (width, height))
    left, top = (width - side) // 2, (height - side) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + side, top + side)))


def _check_pixels(sample: Sample, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MOST_PIXELS:
        came = f"{size[0]} x {size[1]}"
        raise SpecError.of(f"{sample.origin}: pixels", came, f"at most {MOST_PIXELS}")


def _drawing(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    from PIL import Image

    resized = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(resized)
