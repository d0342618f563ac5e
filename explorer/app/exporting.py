"""Writing the selected design as a policy document."""

from html import escape
from pathlib import Path

from explorer.app.view import Selection
from explorer.paths import write_whole


def write_policy(chosen: Selection, target: Path) -> Path:
    """Write a policy document; makes the folder if it is missing, SpecError where it cannot."""
    document = chosen.session.export(chosen.table, chosen.row)
    write_whole(target, document.to_json())
    return target


def saved_words(target: Path) -> str:
    """`saved policy.json (1,234 bytes)`, as HTML."""
    return f"saved {escape(str(target))} ({target.stat().st_size:,} bytes)"
