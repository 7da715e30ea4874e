"""The command line: ``wsgi-persist``, or ``python -m wsgi_persist``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from wsgi_persist.command import Parser, Refused, add_apache, add_status
from wsgi_persist.redaction import redacted
from wsgi_persist.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, the command's own, or 2 where something has to be put right, one line each on
    standard error."""
    parser = _parser()
    try:
        given = parser.parse_args(arguments)
        status: int = given.run(given) or 0
        sys.stdout.flush()
    except Refused as refused:
        lines = refused.lines
    except OSError as error:
        lines = [_told(error)]
        if error.filename is None:
            _drop_output()
    else:
        return status
    for line in lines:
        print(f"{parser.prog}: {redacted(line)}", file=sys.stderr)  # of the site, and of its driver
    return 2


def _told(error: OSError) -> str:
    """A folder that may not even be looked into, a full disk."""
    mend = ": run this as root or as the owner of the site" if isinstance(error, PermissionError) else ""
    return f"{error.filename or 'the standard output'}: {error.strerror}{mend}"


def _drop_output() -> None:
    """What could not be written would be tried again at the end, which then has a status of its own."""
    # No file stands behind it where main() is called by another program.
    with suppress(OSError), open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="wsgi-persist", description="One database connection for each WSGI worker.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_apache(commands)
    add_status(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
