"""What PostgreSQL says of its sessions, asked by a thread of its own: no page waits for the answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wsgi_persist.redaction import redacted
from wsgi_persist.status.page.repeater import Repeater

PAUSE = 5.0  # seconds between two questions
LIMITS = """SELECT current_setting('max_connections')::int,
    current_setting('superuser_reserved_connections')::int
    + coalesce(current_setting('reserved_connections', true)::int, 0)"""
SESSIONS = """SELECT coalesce(datname, ''), regexp_replace(application_name, ':[0-9]+$', ''),
    count(*), count(*) FILTER (WHERE state = 'active'), count(*) FILTER (WHERE state = 'idle'),
    count(*) FILTER (WHERE state LIKE 'idle in transaction%'),
    coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)::float8
    FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
    GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"""


@dataclass(frozen=True)
class Sessions:
    """Of one database and one application, the number of a worker at the end of whose name is left out.

    :ivar idle_in_transaction: the aborted ones, too.
    :ivar oldest: seconds since its oldest transaction began; 0 if there is none.
    """

    database: str
    application: str
    count: int
    active: int
    idle: int
    idle_in_transaction: int
    oldest: float


@dataclass(frozen=True)
class Account:
    """:ivar most: sessions that there may be.
    :ivar reserved: those of them that are kept for superusers and the like.
    """

    time: float
    most: int
    reserved: int
    sessions: list[Sessions]

    @property
    def used(self) -> int:
        return sum(each.count for each in self.sessions)


class Database:
    """:ivar account: the last answer.
    :ivar error: why there was none since, if something was said.
    """

    def __init__(self, connect: Callable[[], Any], clock: Callable[[], float] = time.time) -> None:
        self.account: Account | None = None
        self.error = ""
        self._connect = connect
        self._clock = clock
        self._connection: Any = None
        self.repeater = Repeater(self.ask, PAUSE, at_end=self.close)

    def ask(self) -> None:
        """Takes as long as it takes."""
        try:
            self.account, self.error = self._answer(), ""
        except Exception as error:  # a driver's; it is shown
            self.error = redacted(str(error).strip()) or type(error).__name__
            self.close()

    def _answer(self) -> Account:
        if self._connection is None:
            self._connection = self._connect()
            self._connection.autocommit = True
        with self._connection.cursor() as cursor:
            cursor.execute(LIMITS)
            most, reserved = cursor.fetchone()
            cursor.execute(SESSIONS)
            return Account(self._clock(), most, reserved, [Sessions(*row) for row in cursor.fetchall()])

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it has failed already, which is shown
                connection.close()
