"""The state machine of one pinned connection."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Callable
from typing import Any

from wsgi_persist.drivers import ACTIVE, UNKNOWN, Driver, below, driver_of, neutralise, quietly_close
from wsgi_persist.errors import LeakedStateError
from wsgi_persist.events import NEVER, tell
from wsgi_persist.pins.greeting import Greeting
from wsgi_persist.pins.liveness import Watch, answers, is_alive_though_readable, is_readable
from wsgi_persist.pins.session import Session
from wsgi_persist.pins.state import MOVES, Claim, Holder, State
from wsgi_persist.policy import Policy

logger = logging.getLogger("wsgi_persist.pin")

_serials = itertools.count(1)


class PinnedConnection:
    """One connection that a scope keeps for one database.

    Not thread-safe: whoever calls holds the scope's boundary. Times are readings of the scope's
    monotonic clock, in seconds.

    :ivar made_for: what the connection was opened with; who leases compares it.
    :ivar backend: process id of the server's side; 0 before the first connection.
    :ivar greeting: the first words on a new connection, before it is held.
    :ivar serial: tells connections apart within the process; 0 before the first.
    :ivar leases: how often the present connection was leased.
    :ivar opened: how many connections this pin has had; ``checks`` and ``pings``: how often it was tried.
    :ivar in_block: by whom the present request has begun a transaction, if it has with a plain pin.
    :ivar claim: what it is kept for, if that may end before the process does.
    :ivar is_lost: whether the application was told that the leased connection is gone.
    """

    def __init__(self, name: str, policy: Policy, watch: Watch, clock: Callable[[], float]) -> None:
        self.name = name
        self.policy = policy
        self.state = State.EMPTY
        self.connection: Any = None
        self.driver: Driver | None = None
        self.made_for: object = None
        self.fd = -1
        self.backend = 0
        self.serial = 0
        self.opened = self.checks = self.pings = 0
        self.leases = 0
        self.opened_at = self.expires_at = self.used_at = 0.0
        self.suspect = self.is_lost = False
        self.in_block: object = None
        self.claim: Claim | None = None
        self.holder: Holder | None = None
        self.session: Session | None = None
        self.greeting = Greeting(name, policy, clock)
        self._wrote = False
        self._watch = watch
        self._clock = clock

    def __repr__(self) -> str:
        return f"<pin {self.name!r}: {self.state.value}, backend {self.backend}, {self.leases} leases>"

    def hold(self, connection: Any, made_for: object, now: float) -> None:
        """Keep a connection that was just opened.

        :raises TypeError: its driver is unknown.
        """
        self.driver = driver_of(connection)
        self.session = Session(self.driver, below(connection), self.name, self.policy, self._clock)
        self._move(State.OPEN)
        self.connection = connection
        self.made_for = made_for
        self.fd = connection.fileno()
        self.backend = self.driver.backend_pid(connection)
        self.serial = next(_serials)
        self.opened += 1
        self.leases = 0
        self.used_at = self.opened_at = now
        self.expires_at = now + _jittered(self.policy.max_age)
        self.suspect = self.is_lost = False
        self._watch.add(self.fd, self, self._due())
        logger.info("pin %r: opened backend %d", self.name, self.backend)
        tell("opened", self.name, text=f"backend {self.backend}")

    def lease(self, holder: Holder | None, now: float) -> Any:
        """The live connection for this request, or None when there is none and one must be opened."""
        self.used_at = now
        if self.suspect:
            self._ping()
        if self.state is State.EMPTY:
            return None
        self._move(State.LEASED)
        self.holder = holder
        self.leases += 1
        return self.connection

    def give_back(self, request: object) -> LeakedStateError | None:
        """End the lease: idle again and as good as new, dropped where that cannot be had.

        :param request: its text is in the log when the request left something behind.
        :return: what to raise when every lease has ended.
        """
        self._wrote, self.in_block = False, None
        if self.state is not State.LEASED:
            return None  # dropped meanwhile
        session = self.session
        assert session is not None
        reason = self._let_go() or session.bring_to_rest(request, self.used_at)
        if reason:
            self.drop(reason)
        else:
            self._move(State.OPEN)
        return session.reports.complaint

    def move_to(self, watch: Watch) -> None:
        """Another scope keeps the leased connection from now on."""
        self._watch.remove(self.fd)
        self._watch = watch

    def abandon(self, holder: Holder | None, reason: str) -> None:
        """End a lease that something interrupted, wherever that was: nothing is trusted any more."""
        self.holder = holder
        self.in_block = None
        self._let_go()
        if self.connection is not None:
            self.drop(reason)

    def examine(self) -> None:
        """The socket of the idle connection became readable."""
        assert self.driver is not None
        self.checks += 1
        if not is_alive_though_readable(self.driver, self.connection, self.policy.connect_timeout):
            self.drop("the server closed it")

    def is_alive(self) -> bool:
        """Whether the server is still there, asked between two statements."""
        assert self.driver is not None
        if self.driver.is_closed(self.connection) or self.driver.status(self.connection) == UNKNOWN:
            return False
        # psycopg2 does not always notice: then the end of the stream is still to be read.
        return not is_readable(self.fd) or is_alive_though_readable(
            self.driver, self.connection, self.policy.connect_timeout
        )

    def lose(self) -> None:
        """The application is told that the leased connection is gone; it keeps it, closed."""
        self.is_lost = True
        self._watch.remove(self.fd)
        self.fd = -1  # the number is given to the next file or socket
        quietly_close(self.connection, self.name)

    def has_written(self) -> bool:
        """Whether the present request may have completed anything but reads here."""
        session = self.session
        return self._wrote or (session is not None and (session.wrote or session.completed))

    def inspect(self, now: float) -> float:
        """Act on the deadlines that have passed; the time when to look again."""
        if self.state is State.OPEN and now >= self.expires_at:
            self.drop(f"older than max_age={self.policy.max_age} s")
        if self.connection is None:
            return NEVER
        # Pinged when leased, so that a request without a query never pays.
        self.suspect = now >= self.used_at + self.policy.idle_check
        return self._due()

    def in_query(self) -> Any:
        """The connection, if it waits for the answer to a query. Any thread."""
        connection, driver = self.connection, self.driver
        if connection is None or driver is None or driver.status(connection) != ACTIVE:
            return None
        return connection

    def drop(self, reason: str) -> None:
        """Close the connection, whatever its condition."""
        logger.info(
            "pin %r: closed backend %d after %d leases: %s", self.name, self.backend, self.leases, reason
        )
        tell("closed", self.name, text=reason, backend=self.backend)
        self._close(State.EMPTY)

    def stop(self) -> None:
        """Close for good."""
        if self.connection is None:
            self._move(State.STOPPED)
        else:
            self._close(State.STOPPED)

    def forget(self) -> None:
        """In a forked child: leave the session to the parent, whatever the child does from now on."""
        if self.state is State.FORGOTTEN:
            return
        if self._has_its_socket():
            neutralise(self.fd)
        self._move(State.FORGOTTEN)
        self._let_go()

    def _has_its_socket(self) -> bool:
        """A lost connection has closed it, and its number may be another file's by now."""
        try:
            return self.connection is not None and self.connection.fileno() == self.fd
        except Exception:
            return False

    def _due(self) -> float:
        if self.suspect:
            return self.expires_at
        return min(self.expires_at, self.used_at + self.policy.idle_check)

    def _ping(self) -> None:
        assert self.driver is not None
        self.suspect = False
        self.pings += 1
        self._watch.expect(self._due())
        if not answers(self.driver, self.connection, self.policy.connect_timeout):
            self.drop(f"no answer after more than idle_check={self.policy.idle_check} s")

    def _let_go(self) -> str | None:
        holder, self.holder = self.holder, None
        if holder is None:
            return None
        try:
            holder.detach()
        except Exception:
            logger.exception("pin %r: the backend's close() failed at the end of a request", self.name)
            return "its wrapper may still hold it"
        return None

    def _close(self, state: State) -> None:
        # First: the number of a closed descriptor is given to the next file or socket.
        self._watch.remove(self.fd)
        self._wrote = self.has_written()
        connection, self.connection = self.connection, None
        self.holder = self.session = None
        self._move(state)
        quietly_close(connection, self.name)

    def _move(self, state: State) -> None:
        if state not in MOVES[self.state]:
            raise RuntimeError(f"pin {self.name!r} cannot go from {self.state} to {state}")
        self.state = state


def _jittered(max_age: float | None, uniform: Callable[[float, float], float] = random.uniform) -> float:
    return NEVER if max_age is None else max_age * uniform(0.9, 1.0)
