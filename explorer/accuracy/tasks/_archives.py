"""Samples of fetched data sets, in the form their repositories have them."""

import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from explorer.accuracy.tasks._vision import Box, Sample

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
BOX_MARGIN = 1.15


def class_folders(path: Path, below: str, left_out: Collection[str] = ()) -> Iterator[Sample]:
    """Images `<repository>/<below>/<class>/<file>` of a repository archive, in name order."""
    depth = 1 + len(PurePosixPath(below).parts)
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            place = PurePosixPath(name)
            inside = PurePosixPath(*place.parts[1:depth]) == PurePosixPath(below)
            if not inside or len(place.parts) != depth + 2 or not is_image(name):
                continue
            if place.parts[depth] not in left_out:
                yield Sample(class_name=place.parts[depth], origin=name, content=archive.read(name))


def boxed_objects(path: Path, below: str) -> Iterator[Sample]:
    """Annotated objects of `<repository>/<below>`, Pascal VOC form: a square around each.

    The square is 1.15 times as wide as the longer side of the box, and moved inside.
    """
    with zipfile.ZipFile(path) as archive:
        members = set(archive.namelist())
        for name in sorted(members):
            place = PurePosixPath(name)
            if place.parts[1:-1] != (below, "Annotations") or place.suffix != ".xml":
                continue
            image = str(place.parents[1] / "JPEGImages" / f"{place.stem}.jpg")
            if image not in members:
                continue
            content, root = archive.read(image), ElementTree.fromstring(archive.read(name))
            size = tuple(_number(root, f"size/{side}") for side in ("width", "height"))
            for found in root.iter("object"):
                edges = [
                    _number(found, f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")
                ]
                if edges[2] > edges[0] and edges[3] > edges[1]:
                    yield Sample(
                        class_name=found.findtext("name", ""),
                        origin=image,
                        content=content,
                        box=_square(edges, size),
                    )


def is_image(name: str) -> bool:
    """Whether a file name ends as an image's."""
    return name.lower().endswith(IMAGE_ENDINGS)


def _square(edges: list[int], size: tuple[int, ...]) -> Box:
    side = min(round(BOX_MARGIN * max(edges[2] - edges[0], edges[3] - edges[1])), *size)
    middle = ((low + high) // 2 for low, high in zip(edges[:2], edges[2:], strict=True))
    left, top = (
        min(max(0, centre - side // 2), whole - side)
        for centre, whole in zip(middle, size, strict=True)
    )
    return left, top, left + side, top + side


def _number(node: ElementTree.Element, path: str) -> int:
    return int(float(node.findtext(path, "0")))
