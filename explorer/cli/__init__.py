"""The terminal: `explorer` and `odx`. Every command has `--json`.

Exit codes: 0 done, 2 wrong use or a bad document (one line on stderr, no traceback),
3 does not fit (only with `--fail-if-misfit`).
"""

import sys
from itertools import pairwise

import typer
from typer.exceptions import TyperException

from explorer.cli import (
    devices,
    engines,
    fetching,
    files,
    listing,
    measuring,
    pretraining,
    questions,
    tracing,
)
from explorer.cli.shared import WRONG_USE_EXIT, app
from explorer.errors import ExplorerError

__all__ = [
    "devices",
    "engines",
    "fetching",
    "files",
    "listing",
    "main",
    "measuring",
    "pretraining",
    "questions",
    "run",
    "tracing",
]


def main() -> None:
    """Console script: wrong use is one line on stderr and exit code 2."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command line; returns the exit code."""
    try:
        code = app(arguments, standalone_mode=False)
    except ExplorerError as error:
        return _complain(str(error))
    except TyperException as error:
        return _complain(error.format_message() + _what_came(error, arguments))
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted; a named study goes on when it is started again")
    return code if isinstance(code, int) else 0


def _what_came(error: TyperException, arguments: list[str]) -> str:
    """The value an option was given, which the parser's own sentence leaves out."""
    names = getattr(getattr(error, "param", None), "opts", ())
    for name, value in pairwise(arguments):
        if name in names:
            return f"; got {value!r}"
    return ""


def _complain(sentence: str) -> int:
    print(f"explorer: {' '.join(sentence.split())}", file=sys.stderr)
    return WRONG_USE_EXIT
