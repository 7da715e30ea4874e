"""The two old ideas, made anew for today's Django: a backend that keeps its connection when closed.

Like their models they ask ``SELECT 1`` before a connection is used again, and commit whatever the
request left open; there is no other protection of one request from another.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.utils import Error


class Keeping(base.DatabaseWrapper):
    """With ``CONN_MAX_AGE`` at 0 Django closes after each request, and connects before the next."""

    def kept(self) -> dict[str, Any]:
        """The connections that are kept, by alias."""
        raise NotImplementedError

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = self.kept().pop(self.alias, None)
        if connection is not None and self._answers(connection):
            self.isolation_level = IsolationLevel.READ_COMMITTED
            return connection
        return super().get_new_connection(conn_params)

    def _close(self) -> None:
        connection = self.connection
        try:
            with self.wrap_database_errors:
                connection.commit()
        except Error:
            connection.close()
        else:
            self.kept()[self.alias] = connection

    def _answers(self, connection: Any) -> bool:
        try:
            with self.wrap_database_errors, connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except Error:
            return False
        return True
