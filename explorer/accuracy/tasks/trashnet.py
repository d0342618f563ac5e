"""TrashNet (Thung and Yang, 2016; MIT): waste by material."""

from explorer.accuracy.tasks import TaskData
from explorer.accuracy.tasks._vision import photographs

SUMMARY = "waste by material, 6 classes of photographs; needs EXPLORER_DATA"


def load() -> TaskData:
    """780 images of six classes."""
    return photographs("trashnet", "trashnet_subset.zip", query_count=30)
