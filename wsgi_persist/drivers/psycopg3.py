"""psycopg 3."""

from __future__ import annotations

import functools
import operator
import select
import time
from collections.abc import Callable
from typing import Any

from wsgi_persist.drivers.base import Common, begin_text
from wsgi_persist.drivers.classes import foldable
from wsgi_persist.drivers.cursors import Ears, telling, telling_registration
from wsgi_persist.drivers.errors import FAREWELLS, severity
from wsgi_persist.drivers.modules import psycopg

# Well within the 3 s that Apache leaves a worker.
_CANCEL_TIMEOUT = 2.0

# What an application can change.
_ATTRIBUTES = (
    "row_factory",
    "cursor_factory",
    "server_cursor_factory",
    "isolation_level",
    "read_only",
    "deferrable",
    "prepare_threshold",
    "prepared_max",
)
_LOOK = operator.attrgetter(*_ATTRIBUTES)


class Psycopg3(Common):
    attributes = _ATTRIBUTES

    def plain(self) -> dict[str, Any]:
        return {"row_factory": lambda cursor: tuple}

    def is_closed(self, connection: Any) -> bool:
        return bool(connection.closed)

    def status(self, connection: Any) -> int:
        return int(connection.pgconn.transaction_status)

    def status_asker(self, connection: Any) -> Callable[[], int]:
        return functools.partial(getattr, connection.pgconn, "transaction_status")

    def backend_pid(self, connection: Any) -> int:
        return int(connection.pgconn.backend_pid)

    def hears_farewell(self, connection: Any) -> bool:
        said: set[str | None] = set()

        def listen(message: Any) -> None:
            said.add(severity(message))  # the message is freed afterwards

        connection.add_notice_handler(listen)
        try:
            connection.pgconn.consume_input()
            # Parses what was read; unlike notifies() it takes no notification from the application.
            connection.pgconn.is_busy()
        finally:
            connection.remove_notice_handler(listen)
        return not said.isdisjoint(FAREWELLS)

    def ask(self, connection: Any, sql: str, timeout: float) -> tuple[Any, ...]:
        pgconn, failed = connection.pgconn, connection.OperationalError
        pgconn.send_query(sql.encode())
        give_up = time.monotonic() + timeout

        def next_result() -> Any:
            # libpq would wait for it without an end, and let no other thread run meanwhile.
            if not _arrives(pgconn, give_up):
                raise failed(f"no answer within {timeout:.1f} s")
            return pgconn.get_result()

        results = list(iter(next_result, None))
        for result in results:
            if result.error_message:
                raise failed(result.error_message.decode(errors="replace"))
        return _row(results[0])

    def commit(self, connection: Any) -> None:
        connection.commit()

    def ends_any(self, connection: Any) -> bool:
        return True

    def rollback(self, connection: Any) -> None:
        connection.rollback()

    def begin(self, connection: Any) -> str:
        level = connection.isolation_level
        name = None if level is None else level.name.replace("_", " ")
        return begin_text(name, connection.read_only, connection.deferrable)

    def send(self, connection: Any, sql: str) -> None:
        psycopg().ClientCursor(connection).execute(sql)

    def fetch(self, connection: Any, sql: str) -> tuple[Any, ...]:
        connection.pgconn.send_query(sql.encode())
        (result,) = connection.wait(psycopg().generators.execute(connection.pgconn))
        return _row(result)

    def run(self, connection: Any, sql: str) -> None:
        result = connection.pgconn.exec_(sql.encode())
        if result.error_message:
            raise RuntimeError(result.error_message.decode(errors="replace").strip())

    def watch(self, connection: Any, ears: Ears, registered: Callable[[str], None]) -> None:
        for name in ("cursor_factory", "server_cursor_factory"):
            setattr(connection, name, telling(getattr(connection, name), ears))
        if ears.transaction is not None:
            connection.__class__ = foldable(connection.__class__, ears.transaction)
        telling_registration(connection.adapters, registered)

    def attributes_asker(self, connection: Any) -> Callable[[], tuple[Any, ...]]:
        return functools.partial(_LOOK, connection)

    def cancel(self, connection: Any) -> None:
        connection.cancel_safe(timeout=_CANCEL_TIMEOUT)

    def forget_prepared(self, connection: Any) -> None:
        # Its own record of them, of which it has no public way to be rid without a round trip.
        old = connection._prepared
        connection._prepared = new = type(old)()
        new.prepare_threshold, new.prepared_max = old.prepare_threshold, old.prepared_max


def _row(result: Any) -> tuple[str | None, ...]:
    if result.error_message:
        raise psycopg().errors.error_from_result(result)
    return tuple(_text(result.get_value(0, n)) for n in range(result.nfields))


def _arrives(pgconn: Any, give_up: float) -> bool:
    """Whether the next result, or word that there is none, is here in time."""
    readable = select.poll()
    readable.register(pgconn.socket, select.POLLIN)
    while pgconn.is_busy():
        left = give_up - time.monotonic()
        if left <= 0 or not readable.poll(left * 1000):
            return False
        pgconn.consume_input()
    return True


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")
