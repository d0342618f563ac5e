"""PlantVillage (Hughes and Salathe, 2015; CC BY-SA 3.0): diseases of apple leaves."""

from explorer.accuracy.tasks import TaskData
from explorer.accuracy.tasks._archives import class_folders
from explorer.accuracy.tasks._vision import SIDE, photographs

SUMMARY = "diseases of apple leaves, 4 classes of photographs; fetch or EXPLORER_DATA"
INPUT_SHAPE = (3, None, None)


def load(side: int = SIDE) -> TaskData:
    """600 images of four classes; some show one leaf twice."""
    return photographs(
        "apple-leaf",
        "plantvillage_apple.zip",
        query_count=30,
        side=side,
        upstream=lambda path: class_folders(path, "PlantVillage/ImageDataset/img1"),
    )
