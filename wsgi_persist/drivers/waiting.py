"""A deadline for psycopg2, whose queries have none."""

from __future__ import annotations

import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_deadlines: dict[int, float] = {}  # by id() of the connection


@contextmanager
def deadline(connection: Any, timeout: float) -> Iterator[None]:
    """Within it, a query on this connection raises OperationalError after *timeout* seconds.

    psycopg2 asks a callback to wait for the server, one for all connections
    (https://www.psycopg.org/docs/advanced.html#support-for-coroutine-libraries). Where a coroutine library
    has set its own, that one waits, without a deadline.
    """
    extensions: Any = sys.modules["psycopg2.extensions"]
    with _lock:
        _deadlines[id(connection)] = time.monotonic() + timeout
        if extensions.get_wait_callback() is None:
            extensions.set_wait_callback(_wait)
    try:
        yield
    finally:
        with _lock:
            _deadlines.pop(id(connection), None)  # a child that was forked meanwhile has none
            if not _deadlines and extensions.get_wait_callback() is _wait:
                extensions.set_wait_callback(None)


def forget_deadlines() -> None:
    """In a forked child: a thread of the parent may hold the lock, and the deadlines are the parent's."""
    global _lock
    _lock = threading.Lock()
    _deadlines.clear()
    extensions: Any = sys.modules.get("psycopg2.extensions")
    if extensions is not None and extensions.get_wait_callback() is _wait:
        extensions.set_wait_callback(None)


def _wait(connection: Any) -> None:
    """What psycopg2 does itself, but with an end; other threads' queries may come here, too."""
    give_up = _deadlines.get(id(connection)) or _end_of_connecting(connection)
    while (wanted := connection.poll()) != 0:
        poller = select.poll()
        poller.register(connection.fileno(), select.POLLIN if wanted == 1 else select.POLLOUT)
        left = None if give_up is None else max(0.0, give_up - time.monotonic()) * 1000
        if not poller.poll(left):
            raise connection.OperationalError("no answer in time")


def _end_of_connecting(connection: Any) -> float | None:
    """What libpq does not see to while a callback waits for it: connect_timeout, for each of the hosts."""
    if connection.status != sys.modules["psycopg2.extensions"].STATUS_SETUP:
        return None
    given = connection.info.dsn_parameters
    seconds = int(given.get("connect_timeout") or 0) * (given.get("host", "").count(",") + 1)
    return time.monotonic() + seconds if seconds > 0 else None
