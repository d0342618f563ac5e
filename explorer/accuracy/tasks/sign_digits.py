"""Sign Language Digits (Mavi, 2020; Apache-2.0): hands showing 0 to 9."""

from explorer.accuracy.tasks import TaskData
from explorer.accuracy.tasks._archives import class_folders
from explorer.accuracy.tasks._vision import SIDE, photographs

SUMMARY = "hand signs of the digits 0 to 9, photographs; fetch or EXPLORER_DATA"
INPUT_SHAPE = (3, None, None)


def load(side: int = SIDE) -> TaskData:
    """1543 images of ten classes."""
    return photographs(
        "sign-digits",
        "sign_language_digits.zip",
        query_count=30,
        side=side,
        upstream=lambda path: class_folders(path, "Dataset"),
    )
