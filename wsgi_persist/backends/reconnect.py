"""What the shim does when the connection under a wrapper is lost."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from wsgi_persist.backends.cursors import Replaying, ReplayingDebug
from wsgi_persist.backends.transaction import TransactionMixin, state_of
from wsgi_persist.pins import LOST, Standing
from wsgi_persist.recovery import Sent, has_effects, mark_of, recovers, survives_commit, was_replaced
from wsgi_persist.worker import current


class ReconnectMixin(TransactionMixin):
    """A wrapper whose statements are sent again on a new connection, where that is safe."""

    _unsaid: Exception | None = None  # by which the connection was lost in the present block
    _amid: int | None = None  # the exception that was being handled when the transaction began, if any

    def make_cursor(self, cursor: Any) -> Replaying:
        if not hasattr(cursor, "tells"):
            self._watch(cursor)
        return Replaying(cursor, self)

    def make_debug_cursor(self, cursor: Any) -> ReplayingDebug:
        if not hasattr(cursor, "tells"):
            self._watch(cursor)
        if self._folded is not None and self._folded.is_wanted:
            self._folded.send()  # the log shows what the driver sends
        return ReplayingDebug(cursor, self)

    def _watch(self, cursor: Any) -> None:
        """Django makes the server-side ones of psycopg 3 itself, not by the connection's factory."""
        if self._pin is not None and self._pin.session is not None:
            self._pin.session.adopt(cursor)

    def recovers(
        self, cursor: Any, query: Any, standing: Standing, error: Exception, left: int, ran: float
    ) -> bool:
        """Whether *cursor* is on a new connection now, to send the statement on it again."""
        scope, pin = current(), self._pin
        if scope is None or pin is None:
            return False
        if not was_replaced(cursor.cursor.connection, self.connection):
            errors_occurred = self.errors_occurred
            if self.connection.autocommit is not self.autocommit and standing is Standing.FRESH:
                standing = Standing.MARKED  # by the application, past Django
            sent = Sent(query, standing, self.connection.autocommit, cursor.cursor, left, ran)
            if not recovers(self, scope, pin, sent, error):
                if pin.is_lost and self.in_atomic_block:
                    self._unsaid = self._unsaid or error
                return False
            self.errors_occurred = errors_occurred
        # else another cursor's statement has replaced the connection: this one was never sent
        cursor.cursor = self.create_cursor()
        return True

    def replace_connection(self) -> None:
        """Put a new connection in the place of the lost one, inside whatever transaction this is."""
        assert self._pin is not None
        lost, autocommit, state, folded = self.connection, self.autocommit, state_of(self), self._folded
        try:
            self._pin.drop(LOST)
            self.detach()
            with self.wrap_database_errors:
                self.connect()
            if autocommit is not self.autocommit:
                # Django's hook, as set_autocommit() refuses inside a block.
                self._set_autocommit(autocommit)
            if folded is not None and self._folded is not None:
                self._folded.take_over(folded)
        except BaseException:
            # As stock: a block that is not over yet must not go on somewhere else.
            self.connection = None if autocommit else lost
            raise
        finally:
            vars(self).update(state, autocommit=autocommit)

    def let_go(self) -> None:
        """Have the next statement connect again."""
        if self._pin is not None:
            self._pin.drop(LOST)
        self._pin = self.connection = None

    if TYPE_CHECKING:

        def detach(self) -> None:
            """The wrapper has no connection any more."""

    def _say(self) -> None:
        """A block has ended in which the connection was lost: raise that, unless something is raised anyway.

        Where the error was caught within, as Atomic.__exit__() does with one of a savepoint's rollback,
        Django rolls back without a word, and the page would be a 200 for nothing.
        """
        error, self._unsaid = self._unsaid, None
        if error is not None and id(sys.exc_info()[1]) == self._amid:
            with self.wrap_database_errors:
                raise error

    def set_autocommit(self, autocommit: bool, *args: Any, **kwargs: Any) -> None:
        if not autocommit:
            self._unsaid, self._amid = None, id(sys.exc_info()[1])
            if self._pin is not None and self._pin.session is not None:
                self._pin.session.look()
        try:
            self._set_autocommit_or_wait(autocommit, *args, **kwargs)
        finally:
            if autocommit:
                self._say()

    def _set_autocommit_or_wait(self, autocommit: bool, *args: Any, **kwargs: Any) -> None:
        if autocommit and self.connection is None and self._can_wait():
            # The end of a block whose connection was lost: a new one is in autocommit, once needed.
            self.autocommit = True
            return
        super().set_autocommit(autocommit, *args, **kwargs)

    def _can_wait(self) -> bool:
        scope = current()
        return scope is not None and scope.trouble is not None and self.settings_dict["AUTOCOMMIT"]

    # Django's hook: commit() goes on after it, as it must after a COMMIT that counts as done.
    def _commit(self) -> None:
        mark, was_sent = None, False
        try:
            with self.wrap_database_errors:
                mark = mark_of(self._pin)
            was_sent = True
            super()._commit()
        except Exception as error:
            scope, pin = current(), self._pin
            if scope is None or pin is None:
                raise
            if not survives_commit(self, scope, pin, error, mark, was_sent):
                raise
        if self._pin is not None and self._pin.session is not None:
            self._pin.session.complete()
        if self.run_on_commit:
            has_effects()  # hooks are where those belong that no database knows of

    def on_commit(self, *args: Any, **kwargs: Any) -> None:
        if not self.in_atomic_block:
            has_effects()  # it runs at once
        super().on_commit(*args, **kwargs)
