"""BCCD (MIT): red cells, white cells and platelets under the microscope."""

from explorer.accuracy.tasks import TaskData
from explorer.accuracy.tasks._vision import photographs

SUMMARY = "blood cells under the microscope, 3 classes; needs EXPLORER_DATA"


def load() -> TaskData:
    """750 cuts of three classes."""
    return photographs("blood-cells", "bccd_blood_cells.zip", query_count=40)
