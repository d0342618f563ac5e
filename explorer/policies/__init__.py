"""Entries: one policy family a file (what they declare: `explorer.family`)."""
