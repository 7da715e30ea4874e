"""What became of a transaction whose COMMIT was lost: the server is asked."""

from __future__ import annotations

import enum
import functools
import logging
import time
from typing import NamedTuple, Protocol

from wsgi_persist.drivers import IN_TRANSACTION, below, driver_error
from wsgi_persist.pins import OURS, STARTED, Backend, PinnedConnection, Server
from wsgi_persist.recovery.outage import FIRST_PAUSE, rest
from wsgi_persist.worker import Scope

logger = logging.getLogger("wsgi_persist.outcome")

# A number of 64 bits, which PostgreSQL has had since 13.
_NUMBER = f"""{OURS} SELECT pg_catalog.pg_current_xact_id_if_assigned(),
    pg_catalog.pg_current_wal_insert_lsn(), pg_catalog.pg_last_wal_replay_lsn()"""
# What a server has not written to its log before it crashes is forgotten, and with it the number: the next
# transaction gets it again. A COMMIT's place in the log is behind the position that was asked for before it.
_FATE = f"""{OURS} SELECT CASE
    WHEN recovered IS NULL AND {{1}} OR recovered = {{2}} OR recovered >= '{{0.position}}'
        THEN pg_catalog.pg_xact_status('{{0.number}}')
    WHEN recovered IS NOT NULL THEN 'aborted' END"""
_RECOVERED = " FROM pg_catalog.pg_last_wal_replay_lsn() AS recovered"
# The client is gone before it sent COMMIT, and the server does not know yet. A session that carries out a
# COMMIT, or waits for a standby with it, is left alone: ended, it would have committed here alone. So is one
# in another transaction: a pooler has given it to another client.
_END = f""", (SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid))
    FROM pg_catalog.pg_stat_activity WHERE pid = {{0.backend.pid}}
    AND {STARTED} = '{{0.backend.started}}' AND state = 'idle in transaction'
    AND backend_xid = '{{0.number}}'::pg_catalog.xid8::pg_catalog.xid)"""


class Fate(enum.Enum):
    COMMITTED = "its COMMIT was carried out"
    ABORTED = "its COMMIT was not carried out: nothing of that transaction was saved"
    UNKNOWN = "whether its COMMIT was carried out is not known"


class Mark(NamedTuple):
    """What a transaction is known by when its connection is gone.

    :ivar number: of the transaction, on that server.
    :ivar position: of the server's log, before its COMMIT.
    :ivar backend: its session, if that is known to be nobody else's.
    """

    number: str
    position: str
    server: Server
    backend: Backend | None


class Owner(Protocol):
    def replace_connection(self) -> None: ...


def mark_of(pin: PinnedConnection | None) -> Mark | None:
    """Of the transaction that is about to be committed; None where it wrote nothing, or is not to be known.

    :raises Exception: the driver's; COMMIT was not sent.
    """
    if pin is None or pin.session is None or not (pin.session.wrote and _may_ask(pin)):
        return None
    connection, driver = below(pin.connection), pin.driver
    server = pin.greeting.server
    if server is None:
        _say_that_it_stays_unknown(pin.name)
    if driver is None or server is None or driver.status(connection) != IN_TRANSACTION:
        return None
    number, position, recovered = driver.fetch(connection, _NUMBER)
    if number is None:
        return None
    # A pooler keeps its clients while the server crashes: what the greeting heard may be of a former life.
    return Mark(number, position, server._replace(recovered=recovered), pin.greeting.present)


@functools.cache  # once for each pin
def _say_that_it_stays_unknown(name: str) -> None:
    logger.info("pin %r: a lost COMMIT stays unknown: this server does not tell, or not this role", name)


def _may_ask(pin: PinnedConnection) -> bool:
    """By default only where a round trip was saved before."""
    session, wanted = pin.session, pin.policy.commit_outcome
    if session is None or wanted is True:
        return session is not None and session.transaction is not None and session.transaction.has_saved
    return wanted == "always"


def learn(owner: Owner, scope: Scope, pin: PinnedConnection, mark: Mark) -> tuple[Fate, str]:
    """Ask on a new connection, for as long as the request may wait; and why, if it stays unknown.

    :raises Exception: the database cannot be reached.
    """
    owner.replace_connection()
    trouble, pause = scope.in_trouble(), FIRST_PAUSE
    while True:
        began = time.monotonic()
        fate, why = _told(pin, mark)
        if fate is not None:
            return fate, why
        trouble.waited += time.monotonic() - began
        left = pin.policy.reconnect_deadline - trouble.waited
        if left <= 0 or trouble.is_urgent():
            return Fate.UNKNOWN, why
        pause = rest(trouble, pause, left, time.sleep)
        if not pin.is_alive():
            owner.replace_connection()


def _told(pin: PinnedConnection, mark: Mark) -> tuple[Fate | None, str]:
    """None where it may be told later."""
    server = pin.greeting.server
    if server is None or server.timeline != mark.server.timeline:
        return Fate.UNKNOWN, "this is another server, or another timeline of it"
    status = _ask(pin, mark, server)
    if status in ("committed", "aborted"):
        return Fate[status.upper()], ""
    if status == "in progress":
        return None, "it is still under way"
    why = status or "the server does not know that transaction any more"
    return (Fate.UNKNOWN if pin.is_alive() else None), why


def _ask(pin: PinnedConnection, mark: Mark, server: Server) -> str | None:
    assert pin.driver is not None
    assert pin.session is not None
    before = mark.server
    recovered = "NULL" if before.recovered is None else f"'{before.recovered}'"
    sql = _FATE.format(mark, server.life == before.life, recovered)
    sql += ("" if mark.backend is None else _END.format(mark)) + _RECOVERED
    try:
        found = pin.driver.ask(below(pin.connection), sql, pin.policy.connect_timeout)[0]
    except Exception as error:
        if driver_error(error) is None:
            raise
        return f"the server does not tell: {error}".strip().splitlines()[0]
    finally:
        pin.session.wrote = False  # a watched cursor may have told of this very question
    return None if found is None else str(found)
