"""Omniglot (Lake et al., 2015; MIT): handwritten characters of five alphabets."""

import numpy as np

from explorer.accuracy.tasks import TaskData
from explorer.accuracy.tasks._vision import WHITE, data_file, drawings

SUMMARY = "handwritten characters, 179 classes of 20 drawings; needs EXPLORER_DATA"


def load() -> TaskData:
    """3580 drawings of 179 characters."""
    with np.load(data_file("omniglot", "omniglot_small.npz"), allow_pickle=False) as archive:
        height, width = int(archive["height"]), int(archive["width"])
        bits = np.unpackbits(archive["packed"], axis=1)[:, : height * width]
        ink = bits.reshape(-1, height, width) * np.uint8(WHITE)
        return drawings("omniglot", ink, archive["labels"], archive["class_names"], query_count=15)
