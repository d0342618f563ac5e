"""Entries: one network a file, `build(**options) -> ModelGraph`."""
