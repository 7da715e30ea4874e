"""What is asked of a driver, and what both answer alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from wsgi_persist.drivers.cursors import Ears

# libpq's PQtransactionStatus, the same numbers in both drivers.
IDLE, ACTIVE, IN_TRANSACTION, IN_ERROR, UNKNOWN = range(5)


class Driver(Protocol):
    def is_closed(self, connection: Any) -> bool:
        """Whether the driver knows the connection to be gone; no proof of life."""

    def status(self, connection: Any) -> int:
        """Transaction status as libpq last saw it; no round trip."""

    def status_asker(self, connection: Any) -> Callable[[], int]:
        """Asks for that status of this one connection; called for every statement."""

    def backend_pid(self, connection: Any) -> int: ...

    def hears_farewell(self, connection: Any) -> bool:
        """Let the driver read what the server sent unasked: whether it said that it is about to close.

        Raises when the connection has ended. False proves nothing: psycopg2 gives the severity in the
        server's language alone, and part of a message may be on its way.
        """

    def ask(self, connection: Any, sql: str, timeout: float) -> tuple[Any, ...]:
        """The one row of a query, as text, on an idle connection, which is idle afterwards.

        Raises the driver's OperationalError when there is no answer in time.
        """

    def commit(self, connection: Any) -> None:
        """Commit whatever transaction the server is in, however it was begun."""

    def ends_any(self, connection: Any) -> bool:
        """Whether the connection's own methods end a transaction, however it was begun."""

    def rollback(self, connection: Any) -> None:
        """End whatever transaction the server is in, however it was begun."""

    def begin(self, connection: Any) -> str:
        """The text by which the driver would begin a transaction."""

    def send(self, connection: Any, sql: str) -> None:
        """Statements without a result, inside a transaction."""

    def fetch(self, connection: Any, sql: str) -> tuple[Any, ...]:
        """The one row of a query, as text, inside a transaction, with as little ado as there can be."""

    def speaks_utf8(self, connection: Any) -> bool:
        """Whether the server can take any character that the driver sends."""

    def run(self, connection: Any, sql: str) -> None:
        """Several statements in one round trip; raises when one of them fails."""

    def row(self, connection: Any, sql: str) -> tuple[Any, ...]:
        """The one row of a query; no transaction is left open by it."""

    def database(self, connection: Any) -> tuple[Any, ...]:
        """Tells the databases apart that a process is connected to."""

    def text_of(self, query: Any, connection: Any) -> str | bytes:
        """The text of whatever was given as a statement."""

    def watch(self, connection: Any, ears: Ears, registered: Callable[[str], None]) -> None:
        """From now on cursors tell what they send, see :func:`wsgi_persist.drivers.cursors.telling`."""

    def attributes_asker(self, connection: Any) -> Callable[[], tuple[Any, ...]]:
        """Asks what an application can change in this one driver's object and a reset does not reach;
        called at the end of every request."""

    def changed(self, before: tuple[Any, ...], after: tuple[Any, ...]) -> list[str]:
        """Names of what differs between two of its answers."""

    def cancel(self, connection: Any) -> None:
        """Ask the server to stop the query that another thread waits for; that thread gets an error."""

    def forget_prepared(self, connection: Any) -> None:
        """The server has deallocated every prepared statement."""


class Common:
    """What both drivers offer in the same way.

    :cvar attributes: names of what :meth:`Driver.attributes_asker` asks for, in its order.
    """

    attributes: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """Arguments for a cursor whose rows are tuples, whatever the application's own are."""
        raise NotImplementedError

    def changed(self, before: tuple[Any, ...], after: tuple[Any, ...]) -> list[str]:
        pairs = zip(self.attributes, before, after, strict=True)
        return [name for name, was, now in pairs if was != now]

    def row(self, connection: Any, sql: str) -> tuple[Any, ...]:
        with connection.cursor(**self.plain()) as cursor:
            cursor.execute(sql)
            found = tuple(cursor.fetchone())
        if not connection.autocommit:
            connection.commit()
        return found

    def database(self, connection: Any) -> tuple[Any, ...]:
        info = connection.info
        return info.host, info.port, info.dbname

    def speaks_utf8(self, connection: Any) -> bool:
        say = connection.info.parameter_status
        return bool(say("client_encoding") == say("server_encoding") == "UTF8")

    def text_of(self, query: Any, connection: Any) -> str | bytes:
        if isinstance(query, (str, bytes)):
            return query
        if hasattr(query, "as_string"):
            return str(query.as_string(connection))
        # The driver's to refuse, or to understand: no text, so nothing that could be trusted.
        return f"<{type(query).__name__}>"


def begin_text(level: str | None, read_only: bool | None, deferrable: bool | None) -> str:
    """As both drivers write it; None is the session's default."""
    words = "BEGIN" if level is None else f"BEGIN ISOLATION LEVEL {level}"
    if read_only is not None:
        words += " READ ONLY" if read_only else " READ WRITE"
    if deferrable is not None:
        words += " DEFERRABLE" if deferrable else " NOT DEFERRABLE"
    return words
