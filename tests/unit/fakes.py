"""A driver's connection without a server, for the pure logic around it."""

from __future__ import annotations

import os
import socket
from typing import Any

import psycopg2

from wsgi_persist.drivers import IDLE


class FakeConnection:
    """Looks like one of psycopg2; the test may make its socket readable."""

    __module__ = "psycopg2.fakes"
    OperationalError = psycopg2.OperationalError

    def __init__(self, *, fails: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        self.fails = set(fails)
        self.said: list[str] = []
        self.notices: list[str] = []
        self.status = IDLE
        self.closed = 0
        self.autocommit = True
        self._read, self._write = (end.detach() for end in socket.socketpair())

    def fileno(self) -> int:
        return self._read

    def server_sends(self, *notices: str) -> None:
        self.notices_to_come = list(notices)
        os.write(self._write, b"x")

    def poll(self) -> None:
        os.read(self._read, 1)
        self._do("poll")
        self.notices.extend(self.notices_to_come)

    def get_transaction_status(self) -> int:
        return self.status

    def get_backend_pid(self) -> int:
        return 4711

    def rollback(self) -> None:
        self._do("rollback")
        self.status = IDLE

    def cursor(self, **given: Any) -> FakeCursor:
        return FakeCursor(self)

    def close(self) -> None:
        if not self.closed:
            self.closed = 1
            os.close(self._read)
            os.close(self._write)
        self._do("close")

    def _do(self, what: str) -> None:
        self.said.append(what)
        if what in self.fails:
            raise OSError(f"{what} fails")


class FakeCursor:
    def __init__(self, connection: FakeConnection) -> None:
        self._connection = connection

    def __enter__(self) -> FakeCursor:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def execute(self, sql: str, params: Any = None) -> None:
        self._connection._do(sql)

    def fetchone(self) -> tuple[int]:
        return (1,)


class Clock:
    """A monotonic clock that the test moves; counts how often it was read."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.readings = 0

    def __call__(self) -> float:
        self.readings += 1
        return self.now
