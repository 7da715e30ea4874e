"""Connecting: wait while that may help, then fail at once for a while."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from wsgi_persist.drivers import first_line, plain_class, refuses_login, speaks_of_loss
from wsgi_persist.events import tell
from wsgi_persist.policy import Policy
from wsgi_persist.worker import Scope, Trouble

logger = logging.getLogger("wsgi_persist.outage")

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.75
SHORTEST_WINDOW = 0.8
LONGEST_WINDOW = 30.0  # of a server that refuses the password


class Outage:
    """What this process knows of one database's being out of reach; shared by its threads.

    A worker waits once, not once per request: while it sleeps for a dead database, pages that need
    none wait, too.

    :param clock: monotonic, seconds.
    """

    def __init__(
        self,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._name = name
        self._clock = clock
        self._sleep = sleep
        self._error: tuple[type[BaseException], str] | None = None  # of the last attempt
        self._since = 0.0
        self._window = 0.0
        self._next_try = 0.0
        self._trying = threading.Lock()
        self._pid = os.getpid()

    def connect(self, attempt: Callable[[], T], scope: Scope, policy: Policy) -> T:
        """What *attempt* gives. Outside an outage it is repeated until the request has waited for
        ``reconnect_deadline``; within, it is tried once in each window.

        :raises Exception: what the last attempt raised, or another of its class and words.
        """
        try:
            return self._connect(attempt, scope.in_trouble(), policy.reconnect_deadline)
        except Exception as error:
            if speaks_of_loss(error):
                scope.lost(policy, unknown=False)
            raise

    def _connect(self, attempt: Callable[[], T], trouble: Trouble, deadline: float) -> T:
        if self._error is None:
            return self._insist(attempt, trouble, deadline)
        if self._pid != os.getpid():
            self._pid, self._trying = os.getpid(), threading.Lock()  # the parent's may be held for good
        if self._clock() < self._next_try or not self._trying.acquire(blocking=False):
            raise self._refusal()
        try:
            return self._try(attempt)
        finally:
            self._trying.release()

    def _insist(self, attempt: Callable[[], T], trouble: Trouble, deadline: float) -> T:
        pause = FIRST_PAUSE
        while True:
            began = self._clock()
            try:
                found = attempt()
                self._error = None  # another thread may have lost patience meanwhile
                return found
            except Exception as error:
                if not speaks_of_loss(error):
                    raise
                cost = self._clock() - began
                trouble.waited += cost
                left = deadline - trouble.waited
                if left <= 0 or trouble.is_urgent() or refuses_login(error):
                    self._begin(error, cost)
                    raise
                if pause == FIRST_PAUSE:
                    self._say_that_it_waits(error, left)
            pause = rest(trouble, pause, left, self._sleep)

    def _try(self, attempt: Callable[[], T]) -> T:
        began = self._clock()
        try:
            found = attempt()
        except Exception as error:
            if speaks_of_loss(error):
                self._extend(error, self._clock() - began)
            raise
        self._error = None
        tell("in_reach", self._name)
        logger.warning("pin %r: in reach again after %.1f s", self._name, self._clock() - self._since)
        return found

    def _begin(self, error: Exception, cost: float) -> None:
        self._since, self._window = self._clock(), SHORTEST_WINDOW
        self._extend(error, cost)
        tell("outage", self._name, text=first_line(error))
        logger.error(
            "pin %r: out of reach: requests fail at once now, but for one attempt in about %.1f s: %s",
            self._name,
            self._next_try - self._since,
            first_line(error),
        )

    def _extend(self, error: Exception, cost: float) -> None:
        """Until the next try."""
        now = self._clock()
        if refuses_login(error):
            self._window = min(2 * self._window, LONGEST_WINDOW)
        else:
            # Attempts take a third of a worker's time, yet one that was short is not made long by that.
            self._window = max(SHORTEST_WINDOW, min(2 * cost, now - self._since))
        self._next_try = now + self._window * random.uniform(1.0, 1.1)
        tell("postponed", self._name, text=first_line(error), window=self._next_try - now)
        # Not the error itself: its traceback keeps the request's frames alive, and its class may say a
        # SQLSTATE that belongs to the server's message.
        self._error = plain_class(error), first_line(error)

    def _refusal(self) -> BaseException:
        kind, text = self._error or (ConnectionError, "out of reach")
        return kind(f"{text} (out of reach since {self._clock() - self._since:.1f} s; not tried again yet)")

    def _say_that_it_waits(self, error: Exception, left: float) -> None:
        logger.warning(
            "pin %r: cannot connect, waiting for up to %.1f s: %s", self._name, left, first_line(error)
        )


def rest(trouble: Trouble, pause: float, left: float, sleep: Callable[[float], None]) -> float:
    """Wait for any part of *pause*, so that workers that wait together do not try together, and no longer
    than what is *left*; how long the next one is. In seconds."""
    nap = min(pause * random.random(), left)
    sleep(nap)
    trouble.waited += nap
    return min(pause * 2, LONGEST_PAUSE)
