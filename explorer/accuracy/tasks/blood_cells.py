"""BCCD (MIT): red cells, white cells and platelets under the microscope."""

from explorer.accuracy.tasks import TaskData
from explorer.accuracy.tasks._archives import boxed_objects
from explorer.accuracy.tasks._vision import SIDE, photographs

SUMMARY = "blood cells under the microscope, 3 classes; fetch or EXPLORER_DATA"
INPUT_SHAPE = (3, None, None)


def load(side: int = SIDE) -> TaskData:
    """750 cuts of three classes."""
    return photographs(
        "blood-cells",
        "bccd_blood_cells.zip",
        query_count=40,
        side=side,
        upstream=lambda path: boxed_objects(path, "BCCD"),
    )
