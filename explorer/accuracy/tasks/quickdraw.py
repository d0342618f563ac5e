"""Quick, Draw! (Google, 2017; CC BY 4.0): cats, rainbows and trains."""

import numpy as np

from explorer.accuracy.tasks import TaskData
from explorer.accuracy.tasks._vision import data_file, drawings

SUMMARY = "quick drawings of cats, rainbows and trains; needs EXPLORER_DATA"


def load() -> TaskData:
    """3000 drawings of three classes."""
    path = data_file("quickdraw", "quickdraw_3classes.npz")
    with np.load(path, allow_pickle=False) as archive:
        return drawings(
            "quickdraw",
            archive["images"],
            archive["labels"],
            archive["class_names"],
            query_count=40,
        )
