"""Entries: one training engine a TOML file (schema: `explorer.engine`)."""
