"""One request's use of a plain pin: its connection, its transaction, its cursors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

from wsgi_persist.drivers import IDLE, IN_ERROR, below, driver_of, quietly_close
from wsgi_persist.errors import NotInRequestError, TransactionError
from wsgi_persist.pins import LOST, PinnedConnection, Standing, State, Transaction
from wsgi_persist.recovery import MOST, Outage, Sent, mark_of, recovers, survives_commit, was_replaced
from wsgi_persist.worker import Scope, current

logger = logging.getLogger("wsgi_persist.lease")


def scope_of_request(name: str) -> Scope:
    """:raises NotInRequestError: the calling thread is not serving a request."""
    scope = current()
    if scope is None:
        raise NotInRequestError(
            f"<Pin {name!r}> can only be used by the thread that serves a request, inside "
            f"PersistMiddleware: open a connection of your own elsewhere"
        )
    return scope


class Lease:
    """:ivar pin: whose connection this is."""

    def __init__(self, pin: PinnedConnection, connect: Callable[[], Any], outage: Outage) -> None:
        self.pin = pin
        self._connect = connect
        self._outage = outage

    @property
    def _scope(self) -> Scope:
        """Asked each time: a response that is closed late goes on in another than it began in."""
        return scope_of_request(self.pin.name)

    @property
    def connection(self) -> Any:
        """The driver's own object; opened where there is none.

        :raises TransactionError: the one in whose transaction this is was lost.
        """
        pin = self.pin
        if pin.state is State.LEASED:
            if not driver_of(pin.connection).is_closed(pin.connection):
                return pin.connection
            pin.drop("lost or closed during the request")
        if pin.in_block:
            raise TransactionError(f"the connection of pin {pin.name!r} was lost in a transaction")
        connection = self._scope.lease(pin, None)
        return self._open() if connection is None else connection

    def begin(self) -> None:
        connection = self.connection
        is_idle = driver_of(connection).status(connection) == IDLE
        if self.pin.in_block or not (is_idle and connection.autocommit):
            raise TransactionError(f"pin {self.pin.name!r} is in a transaction already: they do not nest")
        self._set_autocommit(False)
        self.pin.in_block = self

    def _set_autocommit(self, value: bool) -> None:
        """Without it, the first statement begins a transaction."""
        transaction = self._transaction
        if transaction is None or (value and transaction.end()):
            self.pin.connection.autocommit = value
        elif not value:
            transaction.begin()

    @property
    def _transaction(self) -> Transaction | None:
        session = self.pin.session
        return None if session is None else session.transaction

    def hand_out(self) -> Any:
        """The driver's own object, for the application."""
        connection, transaction = self.connection, self._transaction
        if transaction is not None and transaction.is_wanted:
            transaction.hand_over()
        return connection

    def commit(self) -> None:
        if self._is_over():
            raise TransactionError(
                f"this transaction of pin {self.pin.name!r} was rolled back when its request ended"
            )
        connection = self.pin.connection
        if connection is not None and driver_of(connection).status(connection) == IN_ERROR:
            raise TransactionError(
                f"a statement failed inside this transaction of pin {self.pin.name!r}: rolled back"
            )
        mark, was_sent = None, False
        try:
            mark, was_sent = mark_of(self.pin), True
            driver_of(self.connection).commit(self.connection)
        except Exception as error:
            if not survives_commit(self, self._scope, self.pin, error, mark, was_sent):
                raise
        if self.pin.session is not None:
            self.pin.session.complete()

    def quietly_roll_back(self) -> None:
        """The exception under way matters more than that its transaction is gone with the connection."""
        connection = self.pin.connection
        if connection is None or self._is_over():
            return
        try:
            driver_of(connection).rollback(below(connection))
        except Exception as error:
            logger.debug("pin %r: the rollback failed: %s", self.pin.name, error)

    def end(self) -> None:
        """The transaction is over, one way or another."""
        if self._is_over():
            return
        self.pin.in_block = None
        connection = self.pin.connection
        if connection is not None and driver_of(connection).status(connection) == IDLE:
            self._set_autocommit(True)

    def _is_over(self) -> bool:
        """Whether its request ended before the block did, as a generator may be collected at any time: the
        connection is another request's by then."""
        return self.pin.in_block is not self

    def recovers(
        self, cursor: Any, query: Any, standing: Standing, error: Exception, left: int, ran: float
    ) -> bool:
        """Whether the statement is to be sent again, by a cursor of the present connection."""
        connection = self.pin.connection
        if connection is None:
            return False
        if was_replaced(cursor.connection, connection):
            return True  # by another cursor's statement: this one was never sent
        sent = Sent(query, standing, not self.pin.in_block and connection.autocommit, cursor, left, ran)
        return recovers(self, self._scope, self.pin, sent, error)

    def replace_connection(self) -> None:
        autocommit = self.pin.connection.autocommit and not self.pin.in_block
        self.let_go()
        self._open()
        self._set_autocommit(autocommit)

    def let_go(self) -> None:
        self.pin.drop(LOST)

    def _open(self) -> Any:
        return self._outage.connect(self._attempt, self._scope, self.pin.policy)

    def _attempt(self) -> Any:
        connection = self._connect()
        driver_of(connection)  # before anything is asked of an object that may be no connection
        try:
            connection.autocommit = True
            self.pin.greeting.exchange(connection, self._attempt_timeout())
            self.pin.hold(connection, None, self._scope.now)
        except BaseException:
            quietly_close(connection, self.pin.name)
            raise
        return self._scope.lease(self.pin, None)

    def _attempt_timeout(self) -> float:
        return self.pin.policy.attempt_timeout(self._scope.in_trouble().waited)


_OWN = ("_cursor", "_lease")


class Cursor:
    """The driver's cursor in all but :meth:`execute`; it moves to the connection that replaces a lost one."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._cursor = lease.connection.cursor()

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._cursor)  # what drivers' helpers test for

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            object.__setattr__(self, name, value)
        else:
            setattr(self._cursor, name, value)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)

    def __next__(self) -> Any:
        return next(self._cursor)

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *exc: object) -> None:
        self._cursor.close()

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        ran = 0.0
        for left in range(MOST, -1, -1):
            session = self._lease.pin.session
            standing, began = Standing.BUSY if session is None else session.standing(), monotonic()
            try:
                result = self._cursor.execute(query, *args, **kwargs)
            except Exception as error:
                ran += monotonic() - began
                if not self._lease.recovers(self._cursor, query, standing, error, left, ran):
                    raise
            else:
                return self if result is self._cursor else result
            self._cursor = self._lease.connection.cursor()
        raise AssertionError("the last one is not sent again")
