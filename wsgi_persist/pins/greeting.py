"""The first words on a new connection: is there a server, whose session is it, has the lost one ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from wsgi_persist.drivers import ACTIVE, UNKNOWN, Driver, below, driver_of
from wsgi_persist.pins.pg_catalog import OURS
from wsgi_persist.policy import Policy

logger = logging.getLogger("wsgi_persist.greeting")

_PAUSE = 0.02
_NOBODY = "0"  # in place of a process id

# The epoch: as text it is the same in every time zone and date style.
STARTED = "EXTRACT(epoch FROM backend_start)::text"
# Null where the role may not end sessions.
_WHO = f"""{OURS} SELECT pg_catalog.pg_backend_pid(),
    (SELECT {STARTED} FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())
     WHERE pg_catalog.has_function_privilege(
         'pg_catalog.pg_terminate_backend'::pg_catalog.regproc, 'EXECUTE'))"""
# None where it has not taken over, or knows no fate of transactions. From PostgreSQL 15 on a crash, and
# nothing else of itself, resets all statistics.
_SERVER = """
    CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 130000
              AND NOT pg_catalog.pg_is_in_recovery()
    THEN (SELECT system_identifier FROM pg_catalog.pg_control_system()) || ' ' || pg_catalog.substr(
        pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) END,
    EXTRACT(epoch FROM CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 150000
        THEN pg_catalog.pg_stat_get_bgwriter_stat_reset_time()
        ELSE pg_catalog.pg_postmaster_start_time() END)::text,
    pg_catalog.pg_last_wal_replay_lsn()"""
_END = """
    (SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity
     WHERE pid = {0.pid} AND {1} = '{0.started}')"""


class Backend(NamedTuple):
    """A session of a server: process ids come again, and are the same on every server."""

    pid: int
    started: str


class Server(NamedTuple):
    """What numbers of transactions belong to.

    :ivar timeline: of which server; another one begins when another server takes over.
    :ivar life: begins anew with a crash, before 15 with each start.
    :ivar recovered: up to where its log was found again after its last crash; None if it was not needed at
        its last start.
    """

    timeline: str
    life: str
    recovered: str | None


class Greeting:
    """What a pin asks first of a connection that was just opened, in one round trip.

    Behind a pooler a login proves nothing: there may be no server. And a proxy that cuts a connection does
    not stop the statement that the server runs for it.

    :ivar present: the session of the connection that was opened last, if it is this connection's alone.
    :ivar server: if it can tell what became of a transaction.
    """

    def __init__(self, name: str, policy: Policy, clock: Callable[[], float]) -> None:
        self._name = name
        self._policy = policy
        self._clock = clock
        self.present: Backend | None = None
        self.server: Server | None = None
        self._lost: Backend | None = None
        self._forget_at = 0.0

    def exchange(self, connection: Any, timeout: float) -> None:
        """See that a server answers, and that the lost session has ended, within *timeout*.

        :raises Exception: the driver's, as if the connection could not be had.
        """
        driver, lost, connection = driver_of(connection), self._outliving(), below(connection)
        end = "0" if lost is None else _END.format(lost, STARTED)
        give_up = time.monotonic() + timeout
        # The first asks for what a hardened server may not tell every role.
        for sql in (f"{_WHO}, {end}, {_SERVER}", f"{_WHO}, {end}"):
            pid, started, running, *server = _ask(driver, connection, sql, timeout)
            if pid != _NOBODY:
                break
        if lost is not None and running != "0":
            logger.warning(
                "pin %r: ended backend %d, which still ran what was sent to it", self._name, lost.pid
            )
        while running != "0":
            time.sleep(_PAUSE)
            running = _ask(driver, connection, sql, give_up - time.monotonic())[2]
        self.server = Server(*server) if server and server[0] is not None else None
        # PgBouncer says another number than the server's, whose session may be anybody's later.
        is_direct = started is not None and int(pid) == driver.backend_pid(connection)
        self.present = Backend(int(pid), started) if is_direct else None
        self._lost = None

    def outlive(self) -> bool:
        """The connection is lost, but its session may live: whether the next one will end it first."""
        policy = self._policy
        # Pgpool says the server's number, and gives a session that its client has left to another one.
        if policy.pooler is None:
            self._lost = self.present
            # By then no request waits any more that would send its statement again.
            self._forget_at = self._clock() + 2 * policy.reconnect_deadline + policy.connect_timeout
        return self._lost is not None

    def _outliving(self) -> Backend | None:
        return self._lost if self._clock() < self._forget_at else None


def _ask(driver: Driver, connection: Any, sql: str, timeout: float) -> tuple[Any, ...]:
    try:
        return driver.ask(connection, sql, timeout)
    except Exception as error:
        if driver.status(connection) in (ACTIVE, UNKNOWN):
            raise
        # An answer, if not the one asked for: the role may not see sessions, or the server knows of none.
        logger.debug("the server does not tell of its sessions: %s", error)
        driver.rollback(connection)
        return _NOBODY, None, "0"
