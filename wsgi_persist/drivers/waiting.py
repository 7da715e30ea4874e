"""Hanging up on a server from another thread than the one that waits for it: a deadline for psycopg2."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def line_of(connection: Any) -> Iterator[socket.socket]:
    """Its socket, by a number of our own: the other's may be a new connection's any time."""
    fd = connection.fileno()
    own = os.dup(fd)
    try:
        if connection.fileno() != fd:
            raise ConnectionError("closed meanwhile")
        line = socket.socket(fileno=own)
    except BaseException:
        os.close(own)
        raise
    with line:
        yield line


@contextmanager
def deadline(connection: Any, timeout: float) -> Iterator[None]:
    """Within it, a query on this connection raises OperationalError after *timeout* seconds, and the
    connection is of no use any more.

    By a thread that lives as long as it. psycopg2 can be given a callback that waits, but that is every
    thread's: COPY is refused while it is set, and a query that is under way when it is taken away fails.
    """
    give_up = time.monotonic() + timeout
    with line_of(connection) as line:
        timer = threading.Timer(timeout, _hang_up, (line,))
        timer.daemon = True
        timer.start()
        try:
            yield
        except connection.OperationalError as error:
            if time.monotonic() >= give_up:
                raise connection.OperationalError(f"no answer within {timeout:.1f} s") from error
            raise
        finally:
            timer.cancel()
            timer.join()


def _hang_up(line: socket.socket) -> None:
    with suppress(OSError):  # the server was quicker
        line.shutdown(socket.SHUT_RDWR)
