"""Entries: one board a TOML file (schema: `explorer.device`)."""
