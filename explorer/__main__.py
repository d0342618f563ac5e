"""What the console scripts and `python -m explorer` start.

The terminal is imported when it is wanted, so that Ctrl-C is one line even meanwhile.
"""

import os
import sys

STOPPED_EXIT = 130  # as explorer.cli.shared has it, which is not there yet


def main() -> None:
    """Run the command line of this process, and leave it with the exit code."""
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # whoever started us has closed it
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115 - for all of the process
    try:
        from explorer.cli import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        print("explorer: stopped", file=sys.stderr)
        code = STOPPED_EXIT
    sys.exit(code)


if __name__ == "__main__":
    main()
