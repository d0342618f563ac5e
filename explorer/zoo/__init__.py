"""Entries: one network a file, `build(**options) -> ModelGraph`.

WEIGHTS_DIGEST, where there is one, tells the weights that belong to the network from others.
MODALITY is what it reads if not images, DEVICE the board it is usually asked about, TASK a
task's name or empty.
"""
