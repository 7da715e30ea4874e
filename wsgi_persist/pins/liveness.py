"""Is the peer still there: poll, consume, ping."""

from __future__ import annotations

import logging
import select
from collections.abc import Callable
from typing import Any

from wsgi_persist.drivers import IDLE, Driver, below

logger = logging.getLogger("wsgi_persist.liveness")


class Watch:
    """The sockets of a scope's open pins, and the earliest of their deadlines.

    :ivar poll: ``poll(0)`` gives the sockets that became readable: one system call for all of them.
    :ivar has_grown: whether there is one more than when somebody last looked.
    :ivar look_at: when a deadline is due, on the scope's clock.
    """

    def __init__(self) -> None:
        self._poller: Any = None
        self._pins: dict[int, Any] = {}
        self.poll: Callable[[int], list[tuple[int, int]]] = _nothing
        self.has_grown = False
        self.look_at = 0.0  # the first request looks

    def add(self, fd: int, pin: Any, look_at: float) -> None:
        if self._poller is None:
            # Not earlier: eventlet takes poll() away, and a process without pins can do without.
            self._poller = select.poll()
            self.poll = self._poller.poll
        self._poller.register(fd, select.POLLIN)
        self._pins[fd] = pin
        self.has_grown = True
        self.expect(look_at)

    def expect(self, look_at: float) -> None:
        """A deadline was set."""
        self.look_at = min(self.look_at, look_at)

    def remove(self, fd: int) -> None:
        if self._pins.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def examine(self, events: list[tuple[int, int]]) -> None:
        for fd, _ in events:
            pin = self._pins.get(fd)
            if pin is None:
                self._poller.unregister(fd)
            else:
                pin.examine()


def _nothing(timeout: int) -> list[tuple[int, int]]:
    return []


def is_alive_though_readable(driver: Driver, connection: Any, timeout: float) -> bool:
    """Whether a connection survives, whose socket became readable while it was idle.

    That is no proof of death (a notice, a notification, a parameter changed by a server reload), nor
    is silence afterwards proof of life: a terminated backend says FATAL some milliseconds before it
    closes, both drivers take that for a notice, and it may come in two pieces. So who has not said
    farewell is asked, unless it is in a transaction.
    """
    try:
        if driver.hears_farewell(connection):
            return False
    except Exception as error:
        logger.debug("the connection ended: %s", error)
        return False
    return driver.status(connection) != IDLE or answers(driver, connection, timeout)


def answers(driver: Driver, connection: Any, timeout: float) -> bool:
    """Ping: whether the server answers within *timeout* (seconds)."""
    try:
        driver.ask(below(connection), "SELECT 1", timeout)
    except Exception as error:
        # Not only the driver's errors: a ping that fails in any way proves nothing (a dropped
        # connection costs a reconnect, a trusted dead one costs the visitor a page).
        logger.debug("the ping failed: %s", error)
        return False
    return True


def is_readable(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))
