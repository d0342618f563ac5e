"""The terminal: `explorer` and `odx`. Every command has `--json`.

Exit codes: 0 done, 2 wrong use or a bad document (one line on stderr, no traceback),
3 does not fit (only with `--fail-if-misfit`), 130 stopped by Ctrl-C: a line says what was
done till then, and that is kept, written and printed.
"""

import sys
from itertools import pairwise

from typer.exceptions import TyperException

from explorer.accuracy.progress import CancelledError
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
    validating,
)
from explorer.cli.shared import STOPPED_EXIT, WRONG_USE_EXIT, app
from explorer.errors import ExplorerError

__all__ = [
    "devices",
    "engines",
    "fetching",
    "files",
    "listing",
    "measuring",
    "pretraining",
    "questions",
    "run",
    "tracing",
    "validating",
]

NO_COMMAND = "no command came; above is what there is"


def run(arguments: list[str]) -> int:
    """Run a command line; returns the exit code."""
    try:
        code = app(arguments, standalone_mode=False)
    except CancelledError as error:
        return _complain(str(error), STOPPED_EXIT)
    except ExplorerError as error:
        return _complain(str(error))
    except OSError as error:  # of a disk, wherever a library needs it
        place = f"{error.filename}: " if error.filename else ""
        return _complain(f"{place}{error.strerror or error}")
    except TyperException as error:
        sentence = error.format_message() or NO_COMMAND
        return _complain(sentence + _what_came(error, arguments))
    if code == STOPPED_EXIT:  # the parser's, of a Ctrl-C that no command expected
        return _complain("stopped", STOPPED_EXIT)
    return code if isinstance(code, int) else 0


def _what_came(error: TyperException, arguments: list[str]) -> str:
    """The value an option was given, which the parser's own sentence leaves out."""
    names = getattr(getattr(error, "param", None), "opts", ())
    for name, value in pairwise(arguments):
        if name in names:
            return f"; got {value!r}"
    return ""


def _complain(sentence: str, code: int = WRONG_USE_EXIT) -> int:
    print(f"explorer: {' '.join(sentence.split())}", file=sys.stderr)
    return code
