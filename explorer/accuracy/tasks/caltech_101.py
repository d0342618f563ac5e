"""Caltech-101 (Li, Andreeto, Ranzato, Perona, 2022; CC BY 4.0): photographs of objects."""

from explorer.accuracy.tasks import TaskData
from explorer.accuracy.tasks._vision import photographs

SUMMARY = "objects, 72 classes of photographs near to ImageNet; needs EXPLORER_DATA"


def load() -> TaskData:
    """2828 images of 72 classes."""
    return photographs("caltech-101", "caltech101_subset.zip", query_count=15)
