"""A user's own images: a folder whose subfolders are the classes."""

from collections.abc import Iterator
from pathlib import Path

from explorer.accuracy.tasks import SHOTS, TaskData
from explorer.accuracy.tasks._archives import is_image
from explorer.accuracy.tasks._vision import SIDE, Sample, photo_task
from explorer.errors import MissingDataError, SpecError

FEWEST_IMAGES = 2
MOST_QUERIES = 30


def load_folder(name: str, folder: Path, side: int = SIDE) -> TaskData:
    """Photographs of a folder, preprocessed as the vision networks were trained to read them."""
    files = class_files(folder)
    queries = queries_of(min(len(paths) for paths in files.values()))
    return photo_task(name, _samples(files), queries, side)


def queries_of(smallest: int) -> int:
    """Queries a class: what five shots leave of the smallest class, 30 at most."""
    return min(MOST_QUERIES, max(1, smallest - SHOTS))


def class_files(folder: Path) -> dict[str, list[Path]]:
    """Image files of each class; SpecError when there are too few classes or images."""
    if not folder.is_dir():
        raise MissingDataError(f"task {folder}: no such folder")
    subfolders = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if len(subfolders) < 2:
        raise SpecError.of(
            f"subfolders of {folder}", len(subfolders), "at least two, one for each class of images"
        )
    files = {
        path.name: sorted(file for file in path.iterdir() if is_image(file.name) and file.is_file())
        for path in subfolders
    }
    for name, paths in files.items():
        if len(paths) < FEWEST_IMAGES:
            raise SpecError.of(f"images in {folder / name}", len(paths), "a support and a query")
    return files


def _samples(files: dict[str, list[Path]]) -> Iterator[Sample]:
    for name, paths in files.items():
        for path in paths:
            try:
                content = path.read_bytes()
            except OSError as error:
                raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
            yield Sample(class_name=name, origin=str(path), content=content)
