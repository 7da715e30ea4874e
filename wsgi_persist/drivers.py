"""psycopg2 and psycopg 3: the few places where they differ."""

from __future__ import annotations

import enum
import logging
import os
import select
import time
from typing import Any, Protocol

logger = logging.getLogger("wsgi_persist.drivers")

# libpq's PQtransactionStatus, the same numbers in both drivers.
IDLE, ACTIVE, IN_TRANSACTION, IN_ERROR, UNKNOWN = range(5)


class Heard(enum.Enum):
    """What an idle server sent on its own account."""

    FAREWELL = "a FATAL or PANIC message: the server is about to close"
    NOTICES = "messages of unknown severity"
    NOTHING_BAD = "parameter changes, notifications or messages below FATAL"


_FAREWELLS = ("FATAL", "PANIC")


class Driver(Protocol):
    def is_closed(self, connection: Any) -> bool:
        """Whether the driver knows the connection to be gone; no proof of life."""

    def status(self, connection: Any) -> int:
        """Transaction status as libpq last saw it; no round trip."""

    def backend_pid(self, connection: Any) -> int: ...

    def consume(self, connection: Any) -> Heard:
        """Let the driver read what the server sent unasked; raises when the connection has ended."""

    def ping(self, connection: Any, timeout: float) -> None:
        """One round trip on an idle connection, which is idle afterwards; raises when it fails."""

    def rollback(self, connection: Any) -> None:
        """End whatever transaction the server is in, however it was begun."""


class Psycopg2:
    def is_closed(self, connection: Any) -> bool:
        return bool(connection.closed)

    def status(self, connection: Any) -> int:
        return int(connection.get_transaction_status())

    def backend_pid(self, connection: Any) -> int:
        return int(connection.get_backend_pid())

    def consume(self, connection: Any) -> Heard:
        # The list of notices keeps the last 50, so new ones are told apart by an empty list.
        kept, connection.notices = connection.notices, []
        try:
            connection.poll()
        finally:
            heard, connection.notices = connection.notices, kept
            kept.extend(heard)
        if any(text.startswith(_FAREWELLS) for text in heard):
            return Heard.FAREWELL
        # The severity is in the server's language: a message in another one may be a farewell.
        return Heard.NOTICES if heard else Heard.NOTHING_BAD

    def ping(self, connection: Any, timeout: float) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if not connection.autocommit:
            connection.rollback()

    def rollback(self, connection: Any) -> None:
        # Ends a transaction that psycopg2 began; it knows nothing of a BEGIN sent in autocommit.
        connection.rollback()
        if self.status(connection) != IDLE:
            with connection.cursor() as cursor:
                cursor.execute("ROLLBACK")


class Psycopg3:
    def is_closed(self, connection: Any) -> bool:
        return bool(connection.closed)

    def status(self, connection: Any) -> int:
        return int(connection.pgconn.transaction_status)

    def backend_pid(self, connection: Any) -> int:
        return int(connection.pgconn.backend_pid)

    def consume(self, connection: Any) -> Heard:
        said: set[str | None] = set()

        def listen(message: Any) -> None:
            said.add(message.severity_nonlocalized)  # the message is freed afterwards

        connection.add_notice_handler(listen)
        try:
            connection.pgconn.consume_input()
            # Parses what was read; unlike notifies() it takes no notification from the application.
            connection.pgconn.is_busy()
        finally:
            connection.remove_notice_handler(listen)
        return Heard.NOTHING_BAD if said.isdisjoint(_FAREWELLS) else Heard.FAREWELL

    def ping(self, connection: Any, timeout: float) -> None:
        pgconn = connection.pgconn
        pgconn.send_query(b"SELECT 1")
        give_up = time.monotonic() + timeout
        readable = select.poll()
        readable.register(pgconn.socket, select.POLLIN)
        while pgconn.is_busy():
            left = give_up - time.monotonic()
            if left <= 0 or not readable.poll(left * 1000):
                raise TimeoutError(f"no answer to a ping within {timeout} s")
            pgconn.consume_input()
        while (result := pgconn.get_result()) is not None:
            if result.error_message:
                raise ConnectionError(result.error_message.decode(errors="replace"))

    def rollback(self, connection: Any) -> None:
        connection.rollback()


_DRIVERS: dict[str, Driver] = {"psycopg2": Psycopg2(), "psycopg": Psycopg3()}


def driver_of(connection: Any) -> Driver:
    """The driver whose connection this is, also below a proxy or a subclass.

    :raises TypeError: it is no connection of psycopg2 or psycopg 3.
    """
    # __class__ rather than type(): tracing tools wrap connections in transparent proxies.
    for base in connection.__class__.__mro__:
        driver = _DRIVERS.get(base.__module__.partition(".")[0])
        if driver is not None and not base.__name__.startswith("Async"):
            return driver
    raise TypeError(
        f"{connection!r} is not a connection of a known driver: "
        f"a pin's connect function returns one of psycopg2 or psycopg (3, not async)"
    )


def quietly_close(connection: Any, name: str) -> None:
    """Close a connection that may be broken already; a failure is logged, nothing more can be done."""
    try:
        connection.close()
    except Exception as error:
        logger.debug("pin %r: closing failed: %s", name, error)


def neutralise(fd: int) -> None:
    """Put /dev/null under a socket that the parent uses: nothing the child sends reaches the server."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, fd, inheritable=False)
    os.close(null)
