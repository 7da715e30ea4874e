"""What the user has to put right: one line for each, all of them at once."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import NoReturn


class Refused(Exception):
    """:ivar lines: what was given, what is allowed and how to mend it; one line each."""

    def __init__(self, lines: str | Iterable[str]) -> None:
        given = [lines] if isinstance(lines, str) else lines
        # Messages of other programs may have line ends of their own.
        self.lines = [" ".join(line.split()) for line in given]
        super().__init__(self.lines)


def refuse_if(problems: Iterable[str]) -> None:
    found = list(problems)
    if found:
        raise Refused(found)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise Refused(f"{message} (--help says what there is)")
