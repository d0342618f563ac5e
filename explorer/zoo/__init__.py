"""Entries: one network a file, `build(**options) -> ModelGraph`.

WEIGHTS_DIGEST, where there is one, tells the weights that belong to the network from others.
"""
