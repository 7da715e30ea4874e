"""The command line: ``wsgi-persist``, or ``python -m wsgi_persist``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from wsgi_persist.command import apache
from wsgi_persist.command.refusal import Parser, Refused
from wsgi_persist.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 where something has to be put right, one line each on standard error."""
    parser = _parser()
    try:
        given = parser.parse_args(arguments)
        given.run(given)
    except Refused as refused:
        for line in refused.lines:
            print(f"{parser.prog}: {line}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="wsgi-persist", description="One database connection for each WSGI worker.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    apache.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
