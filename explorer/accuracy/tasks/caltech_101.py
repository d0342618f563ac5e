"""Caltech-101 (Li, Andreeto, Ranzato, Perona, 2022; CC BY 4.0): photographs of objects."""

from explorer.accuracy.tasks import TaskData
from explorer.accuracy.tasks._archives import class_folders
from explorer.accuracy.tasks._vision import SIDE, photographs

SUMMARY = "objects, 72 classes of photographs near to ImageNet; fetch or EXPLORER_DATA"
INPUT_SHAPE = (3, None, None)
LEFT_OUT = ("BACKGROUND_Google", "Faces", "Faces_easy", "garfield", "snoopy", "dollar_bill")


def load(side: int = SIDE) -> TaskData:
    """2828 images of 72 classes."""
    return photographs(
        "caltech-101",
        "caltech101_subset.zip",
        query_count=15,
        side=side,
        upstream=lambda path: class_folders(path, "101_ObjectCategories", LEFT_OUT),
    )
