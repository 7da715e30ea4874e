"""psycopg2."""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable
from typing import Any

from wsgi_persist.drivers.base import IDLE, Common
from wsgi_persist.drivers.cursors import Ears, telling
from wsgi_persist.drivers.errors import FAREWELLS
from wsgi_persist.drivers.waiting import deadline

# What an application can change.
_ATTRIBUTES = ("isolation_level", "readonly", "deferrable", "cursor_factory", "encoding")
_LOOK = operator.attrgetter(*_ATTRIBUTES)


class Psycopg2(Common):
    attributes = (*_ATTRIBUTES, "string_types", "binary_types", "entered")

    def plain(self) -> dict[str, Any]:
        return {"cursor_factory": _extensions().cursor}

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
            with connection.cursor(cursor_factory=_extensions().cursor) as cursor:
                cursor.execute(sql)
                found = cursor.fetchone()
            if not connection.autocommit:
                connection.rollback()
        return tuple(None if value is None else str(value) for value in found)

    def rollback(self, connection: Any) -> None:
        # Ends a transaction that psycopg2 began; it knows nothing of a BEGIN sent in autocommit.
        connection.rollback()
        if self.status(connection) != IDLE:
            self.run(connection, "ROLLBACK")

    def run(self, connection: Any, sql: str) -> None:
        # The driver's plain class: the application may have its own, and statistics in it.
        with _extensions().cursor(connection) as cursor:
            cursor.execute(sql)
        if not connection.autocommit:
            connection.commit()

    def watch(self, connection: Any, ears: Ears, registered: Callable[[str], None]) -> None:
        base = connection.cursor_factory or _extensions().cursor
        connection.cursor_factory = telling(base, ears)
        if hasattr(connection, "be_watched"):
            connection.be_watched(lambda given: telling(given, ears), ears.tell)

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


def _extensions() -> Any:
    """psycopg2's module of driver classes, which is imported where there is a connection."""
    return sys.modules["psycopg2.extensions"]


def watchable(base: type | None) -> type:
    """A connection class that is watched also where the application names its cursors' class, and where
    it writes large objects, for which psycopg2 has methods.

    :ivar entered: whether ``with connection`` is open: it sends its BEGIN with its first statement only.
    """

    parent: Any = base or _extensions().connection

    class Connection(parent):  # type: ignore[misc]
        __module__ = parent.__module__  # tracing tools name what it does after that
        _watched: Callable[[type], type] | None = None
        _tell: Callable[..., None] | None = None
        entered = False

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            try:
                super().__init__(*args, **kwargs)
            except Exception as error:
                if self.info.used_password:
                    error.asked_password_of = self.info.user  # type: ignore[attr-defined]
                raise

        def be_watched(self, watched: Callable[[type], type], tell: Callable[..., None]) -> None:
            self._watched, self._tell = functools.cache(watched), tell

        def __enter__(self) -> Any:
            self.entered = True
            return super().__enter__()

        def __exit__(self, *exc: Any) -> None:
            self.entered = False
            super().__exit__(*exc)

        def lobject(self, *args: Any, **kwargs: Any) -> Any:
            if self._tell is not None:
                self._tell("SELECT lo_open()")
            return super().lobject(*args, **kwargs)

        def cursor(self, name: str | None = None, cursor_factory: Any = None, **options: Any) -> Any:
            if cursor_factory is None:
                return super().cursor(name, **options)
            if self._watched is not None and isinstance(cursor_factory, type):
                cursor_factory = self._watched(cursor_factory)
            return super().cursor(name, cursor_factory, **options)

    return Connection
