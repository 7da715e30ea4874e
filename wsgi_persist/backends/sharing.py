"""How wrappers stand aside for another request on their thread, or share a transaction with it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import Error, connections
from django.utils.connection import ConnectionDoesNotExist

from wsgi_persist.drivers import IDLE, driver_of
from wsgi_persist.pins import PinnedConnection
from wsgi_persist.worker import current, find_wrappers_by

if TYPE_CHECKING:
    from django.db.backends.postgresql.base import DatabaseWrapper as Base
else:
    Base = object

logger = logging.getLogger("wsgi_persist.backends")


class Mark(NamedTuple):
    """Where a transaction stood."""

    lease: tuple[int, int]
    blocks: list[Any]
    savepoints: list[Any]
    in_atomic_block: bool
    commit_on_exit: bool


class SharingMixin(Base):
    """A wrapper that belongs to one request, of several that its thread has under way."""

    _pin: PinnedConnection | None
    _in_place_of: Any = None  # the thread's wrapper, while this one's request goes on beside

    def is_the_alias(self) -> bool:
        """A copy of the wrapper, or one that stands in for it in a test, never meets the pin."""
        try:
            # Where the thread has none yet, one is made: this is a copy then.
            return connections[self.alias] is self
        except ConnectionDoesNotExist:
            return False

    def is_busy(self) -> bool:
        """Whether it is in a transaction."""
        return self.in_atomic_block or not (self.connection is None or self._is_at_rest())

    def _is_at_rest(self) -> bool:
        driver = driver_of(self.connection)
        if driver.is_closed(self.connection):
            return self.autocommit  # else it was lost in a transaction that is not over yet
        return driver.status(self.connection) == IDLE

    def is_of_the_request(self) -> bool:
        """Not of code that ran before it, outside a request, and left a connection."""
        return self._pin is not None or self.connection is None or self.closed_in_transaction

    def step_aside(self) -> None:
        other, self._in_place_of = self._in_place_of, None
        if other is None:
            del connections[self.alias]
        else:
            connections[self.alias] = other

    def step_back(self) -> None:
        here = [other for other in connections.all(initialized_only=True) if other.alias == self.alias]
        self._in_place_of = here[0] if here else None
        connections[self.alias] = self

    def mark(self) -> Mark:
        blocks, savepoints = list(self.atomic_blocks), list(self.savepoint_ids)
        return Mark(self._lease(), blocks, savepoints, self.in_atomic_block, self.commit_on_exit)

    def return_to(self, mark: Mark, request: object) -> None:
        """Roll back the blocks that *request* entered since *mark* and left open, and nothing else."""
        depth = len(mark.blocks)
        if self._lease() != mark.lease or self.atomic_blocks[:depth] != mark.blocks:
            return  # that transaction is over
        if len(self.atomic_blocks) == depth:
            return
        logger.warning(
            "alias %r: rolled back a block left open by %s in another's transaction", self.alias, request
        )
        left = self.savepoint_ids[len(mark.savepoints) :]
        self._roll_back_to(left[0] if left else None)
        del self.atomic_blocks[depth:]
        self.savepoint_ids = mark.savepoints
        self.in_atomic_block, self.commit_on_exit = mark.in_atomic_block, mark.commit_on_exit

    def _roll_back_to(self, savepoint: str | None) -> None:
        """As Django at the end of a block that failed."""
        self.needs_rollback = savepoint is None
        try:
            if savepoint is not None:
                self.savepoint_rollback(savepoint)
                self.savepoint_commit(savepoint)
        except Error as error:
            logger.warning("alias %r: that block cannot be rolled back alone: %s", self.alias, error)
            self.needs_rollback = True

    def _lease(self) -> tuple[int, int]:
        return (0, 0) if self._pin is None else (self._pin.serial, self._pin.leases)


def _wrappers_of_the_request() -> list[SharingMixin]:
    scope = current()
    # Not all are listed: DATABASES may be of a class that knows more aliases.
    leased = [] if scope is None else scope.holders()
    found = {id(each): each for each in [*connections.all(initialized_only=True), *leased]}.values()
    ours = [each for each in found if isinstance(each, SharingMixin)]
    return [each for each in ours if each.is_of_the_request() and each.is_the_alias()]


find_wrappers_by(_wrappers_of_the_request)
