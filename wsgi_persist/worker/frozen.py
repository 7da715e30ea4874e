"""A host that freezes: its kernel acknowledges for it, so a query waits there as for one that takes long."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

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
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def start(self) -> None:
        """Unless it runs."""
        with self._starting:
            if self._thread is not None and self._thread.is_alive():
                return
            self._ended.clear()
            self._thread = threading.Thread(target=self._run, name="wsgi_persist.guard", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:
                logger.warning("no guard against hosts that freeze: %s", error)

    def end(self) -> None:
        self._ended.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(PACE)

    def look(self) -> None:
        before, self._ask_at = self._ask_at, {}
        for scope in all_scopes():
            for pin in list(scope.pins.values()):
                try:
                    if scope.owner is not None and (connection := pin.in_query()) is not None:
                        self._ask_at[pin.serial] = before.get(pin.serial, 0.0)
                        self._see_to(pin, connection, str(scope))
                except Exception as error:
                    logger.debug("pin %r: its query has ended: %s", pin.name, error)

    def _run(self) -> None:
        while not self._ended.wait(PACE):
            self.look()

    def _see_to(self, pin: PinnedConnection, connection: Any, request: str) -> None:
        fd = connection.fileno()
        # One of its own: the other's number may be a new connection's any time.
        with socket.socket(fileno=os.dup(fd)) as line:
            is_same = connection.fileno() == fd
            if not is_same or not _is_due(pin, line) or self._clock() < self._ask_at[pin.serial]:
                return
            host, port = line.getpeername()[:2]
            if self._knock(host, port, pin.policy.connect_timeout):
                self._ask_at[pin.serial] = self._clock() + pin.policy.network_timeout
            elif pin.in_query() is connection and _is_due(pin, line):
                self._cut(pin, line, f"{host}:{port}", request)

    def _cut(self, pin: PinnedConnection, line: socket.socket, host: str, request: str) -> None:
        logger.warning(
            "pin %r: cut off backend %d in %s: its host %s has been silent for %.1f s, and answers nobody",
            pin.name,
            pin.backend,
            request,
            host,
            silent_for(line) or 0.0,
        )
        line.shutdown(socket.SHUT_RDWR)


def _is_due(pin: PinnedConnection, line: socket.socket) -> bool:
    silence = silent_for(line)
    return silence is not None and silence >= pin.policy.network_timeout


_guards: dict[int, Guard] = {}  # by process, as a fork takes no thread along


def guard() -> Guard:
    """This process's."""
    return _guards.setdefault(os.getpid(), Guard())
