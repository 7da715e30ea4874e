"""psycopg2."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from wsgi_persist.drivers.base import IDLE, Common, begin_text
from wsgi_persist.drivers.cursors import Ears, telling
from wsgi_persist.drivers.errors import FAREWELLS
from wsgi_persist.drivers.modules import extensions
from wsgi_persist.drivers.waiting import deadline

# What an application can change.
_ATTRIBUTES = ("isolation_level", "readonly", "deferrable", "cursor_factory", "encoding")
# Of psycopg2's numbers.
_LEVELS = {
    None: None,
    1: "READ COMMITTED",
    2: "REPEATABLE READ",
    3: "SERIALIZABLE",
    4: "READ UNCOMMITTED",
}
_LOOK = operator.attrgetter(*_ATTRIBUTES)


class Psycopg2(Common):
    attributes = (*_ATTRIBUTES, "string_types", "binary_types", "entered")

    def plain(self) -> dict[str, Any]:
        return {"cursor_factory": extensions().cursor}

    def is_closed(self, connection: Any) -> bool:
        return bool(connection.closed)

    def status(self, connection: Any) -> int:
        return int(connection.get_transaction_status())

    def status_asker(self, connection: Any) -> Callable[[], int]:
        ask: Callable[[], int] = connection.get_transaction_status
        return ask

    def backend_pid(self, connection: Any) -> int:
        return int(connection.get_backend_pid())

    def hears_farewell(self, connection: Any) -> bool:
        # The list of notices keeps the last 50, so new ones are told apart by an empty list.
        kept, connection.notices = connection.notices, []
        try:
            connection.poll()
        finally:
            heard, connection.notices = connection.notices, kept
            kept.extend(heard)
        return any(text.startswith(FAREWELLS) for text in heard)

    def ask(self, connection: Any, sql: str, timeout: float) -> tuple[Any, ...]:
        with deadline(connection, timeout):
            with connection.cursor(cursor_factory=extensions().cursor) as cursor:
                cursor.execute(sql)
                found = cursor.fetchone()
            if not connection.autocommit:
                connection.rollback()
        return tuple(None if value is None else str(value) for value in found)

    # Its own methods end what psycopg2 began; it knows nothing of a BEGIN sent in autocommit.

    def commit(self, connection: Any) -> None:
        connection.commit()
        if self.status(connection) != IDLE:
            self.send(connection, "COMMIT")

    def ends_any(self, connection: Any) -> bool:
        return hasattr(connection, "be_watched")

    def rollback(self, connection: Any) -> None:
        connection.rollback()
        if self.status(connection) != IDLE:
            self.run(connection, "ROLLBACK")

    def begin(self, connection: Any) -> str:
        level = _LEVELS[connection.isolation_level]
        return begin_text(level, connection.readonly, connection.deferrable)

    def send(self, connection: Any, sql: str) -> None:
        with extensions().cursor(connection) as cursor:
            cursor.execute(sql)

    def fetch(self, connection: Any, sql: str) -> tuple[Any, ...]:
        with extensions().cursor(connection) as cursor:
            cursor.execute(sql)
            found: tuple[Any, ...] = cursor.fetchone()
            return found

    def run(self, connection: Any, sql: str) -> None:
        # The driver's plain class: the application may have its own, and statistics in it.
        with extensions().cursor(connection) as cursor:
            cursor.execute(sql)
        if not connection.autocommit:
            connection.commit()

    def watch(self, connection: Any, ears: Ears, registered: Callable[[str], None]) -> None:
        base = connection.cursor_factory or extensions().cursor
        connection.cursor_factory = telling(base, ears)
        if hasattr(connection, "be_watched"):
            connection.be_watched(base, ears)

    def attributes_asker(self, connection: Any) -> Callable[[], tuple[Any, ...]]:
        def ask() -> tuple[Any, ...]:
            entered = getattr(connection, "entered", False)
            registered = len(connection.string_types), len(connection.binary_types)
            return _LOOK(connection), registered, entered

        return ask

    def changed(self, before: tuple[Any, ...], after: tuple[Any, ...]) -> list[str]:
        flat = [(*attributes, *registered, entered) for attributes, registered, entered in (before, after)]
        return super().changed(*flat)

    def cancel(self, connection: Any) -> None:
        connection.cancel()

    def forget_prepared(self, connection: Any) -> None:
        pass  # it prepares nothing
