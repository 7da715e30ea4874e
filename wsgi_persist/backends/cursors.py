"""Django's cursor wrappers, whose statements survive the loss of their connection."""

from __future__ import annotations

from time import monotonic
from typing import Any

from django.db.backends.postgresql.base import CursorDebugWrapper
from django.db.backends.utils import CursorWrapper

from wsgi_persist.recovery import MOST


class Replaying(CursorWrapper):
    """Called for every statement, so it does by itself what the stock class does in more calls: errors
    are wrapped where there are any, and what is fetched does not pass through ``__getattr__()``.

    ``execute()`` and ``executemany()``, which tracing tools replace, are the stock ones.
    """

    # Django's private method, as all that is public lies above the query log and execute_wrappers, to which
    # a statement that is sent again would be two.
    def _execute(self, sql: Any, params: Any, *ignored: Any) -> Any:
        db = self.db
        session = None if db._pin is None else db._pin.session
        if session is None or db.needs_rollback:
            return self._send(sql, params)
        standing, began = session.standing(), monotonic()
        try:
            if params is None:
                return self.cursor.execute(sql)
            return self.cursor.execute(sql, params)
        except Exception:
            ran = monotonic() - began
            try:
                with db.wrap_database_errors:
                    raise
            except Exception as error:
                if not db.recovers(self, sql, standing, error, MOST, ran):
                    raise
        return self._execute_again(sql, params, ran)

    def _send(self, sql: Any, params: Any) -> Any:
        return super()._execute(sql, params)  # type: ignore[misc]  # missing from the stubs

    def _execute_again(self, sql: Any, params: Any, ran: float) -> Any:
        for left in reversed(range(MOST)):
            standing, began = self.db._pin.session.standing(), monotonic()
            try:
                return self._send(sql, params)
            except Exception as error:
                ran += monotonic() - began
                if not self.db.recovers(self, sql, standing, error, left, ran):
                    raise
        raise AssertionError("the last one is not sent again")

    def fetchone(self) -> Any:
        try:
            return self.cursor.fetchone()
        except Exception:
            with self.db.wrap_database_errors:
                raise

    def fetchmany(self, *size: int, **named: int) -> Any:
        try:
            return self.cursor.fetchmany(*size, **named)
        except Exception:
            with self.db.wrap_database_errors:
                raise

    def fetchall(self) -> Any:
        try:
            return self.cursor.fetchall()
        except Exception:
            with self.db.wrap_database_errors:
                raise

    def close(self) -> None:
        self.cursor.close()


class ReplayingDebug(Replaying, CursorDebugWrapper):
    pass
