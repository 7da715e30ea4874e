"""What the shim adds to a Django database backend: inside a request it adopts the scope's pin."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.backends.signals import connection_created

from wsgi_persist.backends.opening import Claim, OpeningMixin
from wsgi_persist.backends.options import policy_of
from wsgi_persist.backends.reconnect import ReconnectMixin
from wsgi_persist.backends.sharing import SharingMixin
from wsgi_persist.backends.transaction import Blocks, come_to_rest
from wsgi_persist.pins import CLOSED, LOST, PinnedConnection, State
from wsgi_persist.worker import Scope, close_idle, current

logger = logging.getLogger("wsgi_persist.backends")


class PersistMixin(SharingMixin, OpeningMixin, ReconnectMixin):
    """A wrapper that leases its alias's pin while its thread serves a request, and is stock otherwise."""

    _spares_pin = False  # while close() is not the application's
    _said_that_it_stays = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.persist_policy = policy_of(self.alias, self.settings_dict)

    # ##### Connecting #####

    def connect(self) -> None:
        self._unsaid = None  # of a block that the application has closed, which ends without a word
        scope = current()
        pin = self._pin_in(scope) if scope is not None else None
        if scope is None or pin is None:
            super().connect()
            return
        connection = scope.lease(pin, self)
        if connection is None:
            self._open(scope, pin)
            self.atomic_blocks = Blocks()  # the stock connect() has made a plain list
        else:
            self._adopt(pin, connection)

    # Django calls these two before each cursor and each transaction. Connecting stays behind the stock
    # ensure_connection(): tools that forbid or trace it put another in its place on the base class.
    def close_if_health_check_failed(self) -> None:
        if self._pin is not None or self.connection is None:
            return  # the pin was checked when the request came in
        self._make_way_for_pin()
        super().close_if_health_check_failed()

    def get_autocommit(self) -> bool:
        if self._pin is None and self.connection is not None:
            self._make_way_for_pin()
        return bool(super().get_autocommit())

    @contextmanager
    def temporary_connection(self) -> Iterator[Any]:
        # The stock method closes a connection that it has to open, and closing drops the pin.
        if current() is not None and self.is_the_alias():
            self.ensure_connection()
        with super().temporary_connection() as cursor:
            yield cursor

    def warm_up(self) -> None:
        """Open the pin, inside a boundary, before the first request."""
        self.close_if_health_check_failed()
        self.ensure_connection()

    def _pin_in(self, scope: Scope) -> PinnedConnection | None:
        """The pin that this wrapper may lease, rid of a connection that was made for other settings."""
        pin = scope.pins.get(self.alias)
        # Asked once for each connection: what leased it before may lease it again.
        if pin is None or pin.serial != self._introduced or not pin.serial:
            if not self.is_the_alias():
                return None
            pin = scope.pin(self.alias, self.alias, self.persist_policy)
            pin.claim = Claim(self)
        if pin.state is State.LEASED:
            if self._pin is not pin:
                return None
            pin.drop("the application has put it away")
        if pin.state is State.OPEN and not self._fits(pin.made_for):
            pin.drop("the settings of its alias changed")
        return pin

    def _adopt(self, pin: PinnedConnection, connection: Any) -> None:
        """What ``connect()`` leaves behind, without its work: no statement, no parameters."""
        come_to_rest(self)
        self._pin = pin
        self.connection = connection
        self.autocommit = self.settings_dict["AUTOCOMMIT"]
        self.health_check_done = True
        self.close_at = None
        if self._introduced != pin.serial:
            self._introduced = pin.serial
            level = self.settings_dict["OPTIONS"].get("isolation_level")
            self.isolation_level = IsolationLevel(level or IsolationLevel.READ_COMMITTED)
            connection_created.send(sender=self.__class__, connection=self)
            if pin.session is not None:
                pin.session.accept()

    def _make_way_for_pin(self) -> None:
        """Close an idle connection of this wrapper's own, left from before the request."""
        scope = current()
        if scope is None or not self.is_the_alias():
            return
        pin = scope.pins.get(self.alias)
        if pin is not None and pin.state is State.LEASED:
            return  # by a wrapper that had this alias before
        busy = self.allow_thread_sharing or self.is_busy()
        if not self._said_that_it_stays:
            self._said_that_it_stays = busy
            what = "stays: it is in a transaction or shared" if busy else "was closed"
            logger.info("alias %r: its connection from before %s %s", self.alias, scope, what)
        if not busy:
            with self._sparing_pin():
                self.close()

    # ##### Letting go #####

    def detach(self) -> None:
        """The lease is over. ``close()`` runs without a connection, for subclasses that remember
        facts of the session (a search_path) and forget them there."""
        self._pin = self.connection = self._below = None
        failed = self.rollback_exc  # type: ignore[attr-defined]  # missing from the stubs
        if self.in_atomic_block or self.run_on_commit or self.needs_rollback or failed:
            come_to_rest(self)
        if type(self).close is not PersistMixin.close:
            self._close_without_connection()

    def _close_without_connection(self) -> None:
        self.inc_thread_sharing()  # a response may be closed by another thread than the request's
        try:
            with self._sparing_pin():
                self.close()
        finally:
            self.dec_thread_sharing()

    # ##### Closing #####

    def close(self) -> None:
        super().close()
        if self._pin is None and not self._spares_pin:
            self._close_idle_pin()

    def close_if_unusable_or_obsolete(self) -> None:
        """Django's own end of request, and the application's close_old_connections()."""
        if self.connection is None:
            return
        scope = current()
        if scope is None or (self._pin is None and not self.in_atomic_block):
            with self._sparing_pin():
                super().close_if_unusable_or_obsolete()
        # Age, autocommit and errors of a pin wait for the boundary; and a block in which its connection was
        # closed ends as if all were well.
        elif self._pin is not None and not (scope.leaving or self.in_atomic_block or self._pin.is_alive()):
            self.close()

    @contextmanager
    def _sparing_pin(self) -> Iterator[None]:
        self._spares_pin = True
        try:
            yield
        finally:
            self._spares_pin = False

    # Django's hook: what close() does around it depends on the block, and is the same for a pin.
    def _close(self) -> None:
        pin, self._pin = self._pin, None
        if pin is None or pin.connection is None:
            super()._close()  # type: ignore[misc]  # missing from the stubs
        else:
            scope = current()
            if scope is not None:
                scope.assess()  # a block's end closes what was lost, and nobody may have noticed
            pin.drop(LOST if pin.is_lost else CLOSED)

    def _close_idle_pin(self) -> None:
        """Closing means closing, also after the request: a test database is about to be dropped."""
        if self._introduced:
            close_idle(self.alias, self._introduced, CLOSED)
