"""The handle by which a WSGI application without Django uses its pin."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from wsgi_persist.drivers import IDLE, IN_ERROR, Driver, driver_of, quietly_close
from wsgi_persist.errors import NotInRequestError, TransactionError
from wsgi_persist.pin import PinnedConnection, State
from wsgi_persist.policy import Policy
from wsgi_persist.scope import Scope, current

logger = logging.getLogger("wsgi_persist.plain")


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
            raise TypeError(f"policy={policy!r} is not a Policy: give wsgi_persist.Policy(...)")
        self.policy = policy or Policy()
        self.name = name
        self._connect = connect

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def connection(self) -> Any:
        """The driver's own connection object, for the rest of this request.

        :raises NotInRequestError: the calling thread is not serving a request.
        """
        scope = current()
        if scope is None:
            raise NotInRequestError(
                f"{self!r} can only be used by the thread that serves a request, inside "
                f"PersistMiddleware: open a connection of your own elsewhere"
            )
        pin = scope.pin(self, self.name, self.policy)
        if pin.state is State.LEASED:
            assert pin.driver is not None
            if not pin.driver.is_closed(pin.connection):
                return pin.connection
            pin.drop("lost or closed during the request")
        connection = scope.lease(pin, None)
        return self._open(scope, pin) if connection is None else connection

    def warm_up(self) -> None:
        """Open the pin, inside a boundary, before the first request."""
        self.connection  # noqa: B018

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """A cursor in autocommit mode: every statement is a transaction of its own."""
        with self.connection.cursor() as cursor:
            yield cursor

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A cursor inside a transaction: committed at the end, rolled back on an exception.

        :raises TransactionError: there is one already, or a statement failed and the application
            caught its exception, so that there is nothing left that could be committed.
        """
        connection = self.connection
        driver = driver_of(connection)
        if driver.status(connection) != IDLE:
            raise TransactionError(f"{self!r} is in a transaction already: they do not nest")
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            try:
                yield cursor
                if driver.status(connection) == IN_ERROR:
                    raise TransactionError(
                        f"a statement failed inside this transaction of {self!r}: rolled back"
                    )
            except BaseException:
                self._quietly_roll_back(driver, connection)
                raise
            cursor.execute("COMMIT")

    def _quietly_roll_back(self, driver: Driver, connection: Any) -> None:
        """The exception under way matters more than that its transaction is gone with the connection."""
        try:
            driver.rollback(connection)
        except Exception as error:
            logger.debug("pin %r: the rollback failed: %s", self.name, error)

    def _open(self, scope: Scope, pin: PinnedConnection) -> Any:
        connection = self._connect()
        driver_of(connection)  # before anything is asked of an object that may be no connection
        try:
            connection.autocommit = True
            pin.hold(connection, self, scope.now)
        except BaseException:
            quietly_close(connection, self.name)
            raise
        return scope.lease(pin, None)
