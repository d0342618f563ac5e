"""UCI optical digits as bundled with scikit-learn: 8x8, always there.

Kaynak and Alpaydin, 1998; CC BY 4.0. `digits-cnn` knows 0-4; episodes are of 5-9.
"""

import numpy as np

from explorer.accuracy.tasks import TaskData

SUMMARY = "scikit-learn's handwritten digits, 8x8; the new classes are 5 to 9"
INPUT_SHAPE = (None, 8, 8)
SOURCE_CLASSES = (0, 1, 2, 3, 4)
NEW_CLASSES = (5, 6, 7, 8, 9)


def load() -> TaskData:
    """1797 images of ten classes."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    return TaskData(
        name="digits",
        pixels=bundle.images.astype(np.uint8)[:, None],
        labels=bundle.target.astype(np.int64),
        class_names=tuple(str(digit) for digit in range(10)),
        held_out=NEW_CLASSES,
        channels=1,
        pixel_maximum=16,
        signed=False,
        max_shift=1,
        augment_colour=False,
        query_count=40,
    )
