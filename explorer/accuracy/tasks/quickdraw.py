"""Quick, Draw! (Google, 2017; CC BY 4.0): cats, rainbows and trains."""

import numpy as np

from explorer.accuracy.tasks import TaskData
from explorer.accuracy.tasks._vision import SIDE, data_paths, drawings

SUMMARY = "quick drawings of cats, rainbows and trains; fetch or EXPLORER_DATA"
INPUT_SHAPE = (None, None, None)
CLASS_NAMES = ["cats", "rainbows", "trains"]
BITMAP_SIDE = 28


def load(side: int = SIDE) -> TaskData:
    """3000 drawings of three classes."""
    is_converted, paths = data_paths("quickdraw", "quickdraw_3classes.npz")
    if is_converted:
        with np.load(paths[0], allow_pickle=False) as archive:
            ink, labels = archive["images"], archive["labels"]
            names = archive["class_names"].tolist()
    else:
        parts = [
            np.fromfile(path, np.uint8).reshape(-1, BITMAP_SIDE, BITMAP_SIDE) for path in paths
        ]
        ink, names = np.concatenate(parts), CLASS_NAMES
        labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return drawings("quickdraw", ink, labels, names, query_count=40, side=side)
