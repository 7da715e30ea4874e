"""Sending a statement again whose connection was lost, where that cannot repeat an effect."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple, Protocol

from wsgi_persist.drivers import driver_error, driver_of, first_line, has_ended, is_farewell, sqlstate
from wsgi_persist.events import tell
from wsgi_persist.pins import PinnedConnection, Session, Standing
from wsgi_persist.recovery.outcome import Fate, Mark, learn
from wsgi_persist.sql import UNMARK, Kind, Leaves, writes
from wsgi_persist.worker import Scope

logger = logging.getLogger("wsgi_persist.replay")

# How often a statement is sent again: it may be what brings the server down.
MOST = 3
# Seconds; what has run for less is sent again where nobody waits for the database, and beside itself.
SHORT = 1.0


class Sent(NamedTuple):
    """A statement as it was sent.

    :ivar query: the text, or what else the driver takes for one.
    :ivar standing: of its session, just before.
    :ivar autocommit: whether it was a transaction of its own.
    :ivar cursor: the driver's.
    :ivar left: how often it may be sent again.
    :ivar ran: for how many seconds, all times that it was sent taken together.
    """

    query: Any
    standing: Standing
    autocommit: bool
    cursor: Any
    left: int
    ran: float


class Owner(Protocol):
    """Who has leased the connection: Django's wrapper, or a plain pin."""

    def replace_connection(self) -> None:
        """Put a new one in its place, with the transaction's state as it was; raises in an outage."""

    def let_go(self) -> None:
        """Give the lost connection up, so that the next statement gets another."""


def recovers(owner: Owner, scope: Scope, pin: PinnedConnection, sent: Sent, error: Exception) -> bool:
    """Whether a new connection is there to send it on again, after *error*.

    :raises Exception: the database cannot be reached.
    """
    if pin.is_lost or not _was_lost(pin, error):
        return False
    session = pin.session
    assert session is not None
    in_flight = sent.autocommit and sent.standing in (Standing.FRESH, Standing.MARKED)
    unknown = _may_be_done(session, sent, in_flight)
    # What a transaction did that had not ended is undone by the server.
    session.wrote = False
    runs_on = not has_ended(error)
    if runs_on and not (unknown or scope.no_replay):
        runs_on = not pin.greeting.outlive()
    why_not = _refusal(scope, pin, sent, runs_on)
    _log(scope, pin, f"its statement is {f'not sent again ({why_not})' if why_not else 'sent again'}", error)
    tell("lost" if why_not else "replayed", pin.name, scope, why_not or first_line(error))
    if why_not is None:
        owner.replace_connection()
        return True
    scope.lost(pin.policy, unknown)
    if in_flight and _is_fresh(session, sent):
        owner.let_go()
    else:
        pin.lose()
    return False


def was_replaced(old: Any, new: Any) -> bool:
    """Whether a cursor's connection is the one that was lost before, so that its statement was never sent.

    Not told by identity: tracing tools hand out proxies of the one and of the other.
    """
    return driver_of(old).is_closed(old) and not driver_of(new).is_closed(new)


def survives_commit(
    owner: Owner, scope: Scope, pin: PinnedConnection, error: Exception, mark: Mark | None, was_sent: bool
) -> bool:
    """Whether nothing was lost with a COMMIT but the connection, which is a new one then.

    :param mark: what the transaction is known by, if it wrote.
    :param was_sent: whether the COMMIT itself was.
    :raises Exception: the database cannot be reached.
    """
    if pin.is_lost or not _was_lost(pin, error):
        return False
    session = pin.session
    assert session is not None
    wrote = session.wrote or scope.no_replay > 0
    changed = session.leaves is not Leaves.NOTHING or not session.is_unchanged()
    if session.wrote and not was_sent:
        pin.greeting.outlive()  # it would keep its locks, waiting for a client that is gone
        return _gives_up(scope, pin, error, Fate.ABORTED.value, unknown=False)
    if session.wrote and mark is not None:
        return _was_committed(owner, scope, pin, error, mark, changed)
    if wrote or changed or pin.policy.replay == "off":
        return _gives_up(scope, pin, error, "its COMMIT is not sent again", unknown=wrote)
    _log(scope, pin, "a COMMIT of nothing but reads", error)
    tell("replayed", pin.name, scope, "a COMMIT of nothing but reads")
    owner.replace_connection()
    return True


def _gives_up(scope: Scope, pin: PinnedConnection, error: Exception, what: str, unknown: bool) -> bool:
    _log(scope, pin, what, error)
    tell("lost", pin.name, scope, what)
    scope.lost(pin.policy, unknown)
    if pin.session is not None:
        pin.session.wrote = False
    pin.lose()
    return False


def _was_committed(
    owner: Owner, scope: Scope, pin: PinnedConnection, error: Exception, mark: Mark, changed: bool
) -> bool:
    """Whether the server says so, and the request can go on.

    :param changed: whether the session had state of its own, which the new one has not.
    """
    assert pin.session is not None
    backend, pin.session.wrote = pin.backend, False
    try:
        fate, why = learn(owner, scope, pin, mark)
    except Exception as unreachable:
        fate, why = Fate.UNKNOWN, first_line(unreachable)
    goes_on = fate is Fate.COMMITTED and not changed
    if fate is Fate.COMMITTED and changed:
        why = "and the session had state of its own, which is lost"
    what = f"{fate.value} ({why})" if why else fate.value
    _log(scope, pin, what, error, backend)
    tell("replayed" if goes_on else "lost", pin.name, scope, what)
    if fate is Fate.COMMITTED:
        scope.wrote = True
    if not goes_on:
        scope.lost(pin.policy, unknown=fate is Fate.UNKNOWN)
    return goes_on


def _was_lost(pin: PinnedConnection, error: Exception) -> bool:
    """Whether the leased connection is gone, and this exception came from that."""
    if sqlstate(error) is not None:
        return is_farewell(error)  # else the server has answered the statement
    return driver_error(error) is not None and not pin.is_alive()


def _may_be_done(session: Session, sent: Sent, in_flight: bool) -> bool:
    """Whether something may have been carried out for good with this statement, and nobody knows."""
    verdict = session.verdict_on(sent.query)
    if in_flight:
        return writes(verdict)
    # Its text may be a COMMIT, or hold one.
    return session.wrote and verdict.kind >= Kind.OTHER and verdict is not UNMARK


def _log(scope: Scope, pin: PinnedConnection, what: str, error: Exception, backend: int = 0) -> None:
    lost = backend or pin.backend
    logger.warning("pin %r: lost backend %d in %s, %s: %s", pin.name, lost, scope, what, first_line(error))


def _refusal(scope: Scope, pin: PinnedConnection, sent: Sent, runs_on: bool) -> str | None:
    """Why it must not be sent again.

    :param runs_on: whether the lost session may still run it then.
    """
    session = pin.session
    assert session is not None
    if pin.policy.replay == "off":
        return 'replay="off"'
    if scope.no_replay:
        return "inside no_replay()"
    if sent.standing is Standing.BUSY:
        return "its transaction had begun"
    if sent.standing is Standing.GONE:
        return "its connection was lost before"
    if not _is_fresh(session, sent):
        return "the session had state of its own"
    if getattr(sent.cursor, "name", None):
        return "it has a server-side cursor"
    if not sent.left:
        return "it was, several times"
    if sent.ran > (SHORT if runs_on else max(pin.policy.reconnect_deadline, SHORT)):
        return "it had run for too long"
    kind = session.verdict_on(sent.query).kind
    if kind >= Kind.OTHER:
        return "no rollback undoes it, or it is not understood"
    if sent.autocommit and kind is not Kind.READ:
        return "in autocommit, and it may write"
    return None


def _is_fresh(session: Session, sent: Sent) -> bool:
    return sent.standing is Standing.FRESH and session.is_unchanged()
