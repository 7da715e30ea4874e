"""A host that freezes: its kernel acknowledges for it, so a query waits there as for one that takes long."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from wsgi_persist.drivers import line_of
from wsgi_persist.pins import PinnedConnection, knock, silent_for
from wsgi_persist.worker.scope import all_scopes

logger = logging.getLogger("wsgi_persist.guard")

PACE = 1.0  # seconds


class Guard:
    """Cuts connections off whose server owes an answer, says nothing, and answers nobody else, either.

    A thread, as a driver that waits for an answer does nothing besides. Requests do nothing for it.
    """

    def __init__(
        self,
        knock: Callable[[str, int, float], bool] = knock,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._knock = knock
        self._clock = clock
        self._ask_at: dict[int, float] = {}  # by serial, of those that are busy
        self._pins: weakref.WeakSet[PinnedConnection] = weakref.WeakSet()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def look_after(self, pin: PinnedConnection) -> None:
        """From now on, unless the worker ends: another host may take the place of this connection's."""
        self._pins.add(pin)
        with self._starting:
            if self._ended.is_set() or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = threading.Thread(target=self._run, name="wsgi_persist.guard", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:
                logger.warning("no guard against hosts that freeze: %s", error)

    def end(self) -> None:
        """For good."""
        self._ended.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(PACE)

    def look(self) -> None:
        before, self._ask_at = self._ask_at, {}
        told: dict[Any, bool] = {}  # what hosts have said this time
        for scope in all_scopes():
            for pin in list(scope.pins.values()):
                try:
                    if pin not in self._pins or scope.owner is None:
                        continue
                    if (connection := pin.in_query()) is not None:
                        self._ask_at[pin.serial] = before.get(pin.serial, 0.0)
                        self._see_to(pin, connection, str(scope), told)
                except Exception as error:
                    logger.debug("pin %r: its query has ended: %s", pin.name, error)

    def _run(self) -> None:
        while not self._ended.wait(PACE):
            self.look()

    def _see_to(self, pin: PinnedConnection, connection: Any, request: str, told: dict[Any, bool]) -> None:
        with line_of(connection) as line:
            if not _is_due(pin, line) or self._clock() < self._ask_at[pin.serial]:
                return
            host, port = line.getpeername()[:2]
            if (host, port) not in told:
                told[host, port] = self._knock(host, port, pin.policy.connect_timeout)
            if told[host, port]:
                self._ask_at[pin.serial] = self._clock() + pin.policy.network_timeout
            elif pin.in_query() is connection and _is_due(pin, line):
                _cut(pin, line, request)


def _cut(pin: PinnedConnection, line: socket.socket, request: str) -> None:
    silence = silent_for(line) or 0.0
    host, port = line.getpeername()[:2]
    line.shutdown(socket.SHUT_RDWR)
    logger.warning(
        "pin %r: cut off backend %d in %s: its host %s:%d has been silent for %.1f s, and answers nobody",
        pin.name,
        pin.backend,
        request,
        host,
        port,
        silence,
    )


def _is_due(pin: PinnedConnection, line: socket.socket) -> bool:
    silence = silent_for(line)
    return silence is not None and silence >= pin.policy.network_timeout


_guards: dict[int, Guard] = {}  # by process, as a fork takes no thread along


def guard() -> Guard:
    """This process's."""
    return _guards.setdefault(os.getpid(), Guard())
