"""Where in the text of a TOML document a value stands; the parser itself does not tell.

The text is cut into statements, the shortest runs of lines that parse; each is a header or
sets a key. A document is read this way only to word a sentence about what is wrong with it.
"""

import tomllib
from collections.abc import Sequence

LONGEST_STATEMENT = 500  # lines; what is longer is looked at no further

Path = tuple[str | int, ...]


def line_of(text: str, path: Sequence[str | int]) -> int | None:
    """Line of a value or of the nearest table around it; None where only the root is.

    `path` has a key for each table and an index for each table of an array.
    """
    lines = lines_of(text)
    for length in range(len(path), 0, -1):
        if tuple(path[:length]) in lines:
            return lines[tuple(path[:length])]
    return None


def lines_of(text: str) -> dict[Path, int]:
    """The line on which each key, table and table of an array first stands, by its path."""
    found: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for line, statement in _statements(text):
        keys = _keys(tomllib.loads(statement))
        if statement.lstrip().startswith("["):
            table = _resolved(keys, counts)
            if statement.lstrip().startswith("[["):
                counts[table] = counts.get(table, 0) + 1
                table = (*table, counts[table] - 1)
            path = table
        else:
            path = (*table, *keys)
        for length in range(1, len(path) + 1):
            found.setdefault(path[:length], line)
    return found


def _statements(text: str) -> list[tuple[int, str]]:
    """Statements with the line they start on; fewer where the document is no TOML."""
    found: list[tuple[int, str]] = []
    lines, start = [f"{line}\n" for line in text.split("\n")], 0
    while start < len(lines):
        for stop in range(start + 1, min(len(lines), start + LONGEST_STATEMENT) + 1):
            statement = "".join(lines[start:stop])
            if _parses(statement):
                break
        else:
            return found
        if statement.strip() and not statement.lstrip().startswith("#"):
            found.append((start + 1, statement))
        start = stop
    return found


def _parses(statement: str) -> bool:
    try:
        tomllib.loads(statement)
    except (ValueError, RecursionError):
        return False
    return True


def _keys(parsed: dict[str, object]) -> Path:
    """The dotted key of one statement."""
    keys: list[str | int] = []
    value: object = parsed
    while isinstance(value, dict) and len(value) == 1:
        key, value = next(iter(value.items()))
        keys.append(key)
        if isinstance(value, list) and value == [{}]:
            break
    return tuple(keys)


def _resolved(keys: Path, counts: dict[Path, int]) -> Path:
    """A header's path; the last table of an array it goes through is the one it means."""
    path: Path = ()
    for place, key in enumerate(keys):
        path = (*path, key)
        if place < len(keys) - 1 and path in counts:
            path = (*path, counts[path] - 1)
    return path
