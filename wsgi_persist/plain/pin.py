"""The handle by which a WSGI application without Django uses its pin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from wsgi_persist.plain.lease import Cursor, Lease, scope_of_request
from wsgi_persist.policy import Policy
from wsgi_persist.recovery import Outage
from wsgi_persist.redaction import redacted


class Pin:
    """A database of a WSGI application, by one connection per process or thread.

    :param connect: a function without arguments that returns a new connection of psycopg2 or
        psycopg 3; called when the scope has none. The pin puts the connection in autocommit mode.
    :param policy: the options of this pin.
    :param name: what the log calls it.
    :raises TypeError: *connect* is not callable, or *policy* is no :class:`Policy`.
    """

    def __init__(
        self, connect: Callable[[], Any], *, policy: Policy | None = None, name: str = "pin"
    ) -> None:
        if not callable(connect):
            raise TypeError(
                # Its type alone: it may be a connection string with a password.
                f"connect is a {type(connect).__name__}, which is not callable: give a function that "
                f"returns a new connection, such as lambda: psycopg2.connect(dsn)"
            )
        if policy is not None and not isinstance(policy, Policy):
            raise TypeError(f"policy={redacted(repr(policy))} is not a Policy: give wsgi_persist.Policy(...)")
        self.policy = policy or Policy()
        self.name = name
        self._connect = connect
        self._outage = Outage(name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def connection(self) -> Any:
        """The driver's own connection object, for the rest of this request.

        :raises NotInRequestError: the calling thread is not serving a request.
        """
        return self._lease().hand_out()

    def warm_up(self) -> None:
        """Open the pin, inside a boundary, before the first request."""
        self.connection  # noqa: B018

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """A cursor in autocommit mode: every statement is a transaction of its own."""
        with Cursor(self._lease()) as cursor:
            yield cursor

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A cursor inside a transaction: committed at the end, rolled back on an exception.

        :raises TransactionError: there is one already, or a statement failed and the application
            caught its exception, so that there is nothing left that could be committed.
        """
        lease = self._lease()
        lease.begin()
        try:
            with Cursor(lease) as cursor:
                yield cursor
            lease.commit()
        except BaseException:
            lease.quietly_roll_back()
            raise
        finally:
            lease.end()

    def _lease(self) -> Lease:
        pin = scope_of_request(self.name).pin(self, self.name, self.policy)
        return Lease(pin, self._connect, self._outage)
