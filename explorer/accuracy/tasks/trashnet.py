"""TrashNet (Thung and Yang, 2016; MIT): waste by material."""

from explorer.accuracy.tasks import TaskData
from explorer.accuracy.tasks._archives import class_folders
from explorer.accuracy.tasks._vision import SIDE, photographs

SUMMARY = "waste by material, 6 classes of photographs; fetch or EXPLORER_DATA"
INPUT_SHAPE = (3, None, None)


def load(side: int = SIDE) -> TaskData:
    """780 images of six classes."""
    return photographs(
        "trashnet",
        "trashnet_subset.zip",
        query_count=30,
        side=side,
        upstream=lambda path: class_folders(path, "dataset-resized"),
    )
