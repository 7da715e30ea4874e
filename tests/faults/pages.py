"""What a site under load is asked for."""

from __future__ import annotations

import itertools

from tests.faults.ledger import Writer
from tests.faults.load import NextRequest, mix
from tests.faults.results import Request

READ, READ_ATOMIC = "/faults/read/", "/faults/read-atomic/"
READ_SLOWLY, NO_QUERY = "/faults/read-slowly/", "/faults/no-query/"
COUNT = "/faults/count/"
WRITE, WRITE_ATOMIC = "/faults/write/", "/faults/write-atomic/"
PAGES = [Request(path, expects="1 2 3") for path in (READ, READ_ATOMIC)]


def reads() -> NextRequest:
    return mix(dict.fromkeys(PAGES, 1.0))


def writes() -> NextRequest:
    """In autocommit and in a transaction, in turn."""
    turns = itertools.cycle([Writer(WRITE, "auto"), Writer(WRITE_ATOMIC, "atomic")])
    return lambda: next(turns)()


def forms() -> NextRequest:
    """In a transaction."""
    return Writer(WRITE_ATOMIC, "form")


def both() -> NextRequest:
    turns = itertools.cycle([reads(), writes()])
    return lambda: next(turns)()
