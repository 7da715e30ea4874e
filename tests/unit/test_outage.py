"""Waiting for a database, and not waiting for it: an injected clock, no sleep."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import psycopg
import psycopg2
import pytest

from tests.unit.fakes import Clock
from wsgi_persist.drivers import speaks_of_loss
from wsgi_persist.policy import Policy
from wsgi_persist.recovery.outage import LONGEST_PAUSE, LONGEST_WINDOW, SHORTEST_WINDOW, Outage
from wsgi_persist.worker.entrance import WorkerScope
from wsgi_persist.worker.scope import Scope

DOWN = psycopg2.OperationalError("connection refused\nIs the server running?")


class Database:
    """Something to connect to, which costs time on the clock when it is down."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.up_at = float("inf")
        self.cost = 0.0
        self.error: Exception = DOWN
        self.attempts: list[float] = []

    def __call__(self) -> str:
        self.attempts.append(self.clock.now)
        if self.clock.now >= self.up_at:
            return "connection"
        self.clock.now += self.cost
        raise self.error


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(clock: Clock) -> Database:
    return Database(clock)


@pytest.fixture
def request_of(clock: Clock, database: Database) -> Callable[[], Any]:
    """One request that connects: what it gets, or what it raises, and how long that took."""

    def sleep(seconds: float) -> None:
        assert seconds > 0
        clock.now += seconds

    outage = Outage("main", clock, sleep)

    def request() -> tuple[Any, float]:
        scope, began = Scope("request", clock), clock.now
        try:
            found: Any = outage.connect(database, scope, Policy(reconnect_deadline=5.0))
        except Exception as error:
            found = error
        assert (scope.assess() is not None) is isinstance(found, Exception)
        return found, clock.now - began

    return request


def test_restart_is_a_pause(request_of: Any, database: Database, clock: Clock) -> None:
    database.up_at = clock.now + 0.7
    found, took = request_of()
    assert found == "connection"
    assert 0.7 <= took <= 0.7 + LONGEST_PAUSE
    assert len(database.attempts) < 20


def test_request_waits_for_the_deadline_then_the_next_do_not(
    request_of: Any, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        error, took = request_of()
        assert (error, took) == (DOWN, pytest.approx(5.0))
        assert "pin 'main': cannot connect, waiting for up to 5.0 s: connection refused" in caplog.text
        tried = len(database.attempts)
        for _ in range(100):
            error, took = request_of()
            assert took == 0
            assert type(error) is psycopg2.OperationalError
            assert str(error).startswith("connection refused (out of reach since ")
    assert len(database.attempts) == tried
    assert caplog.text.count("out of reach: requests fail at once now") == 1


def test_one_attempt_in_each_window(request_of: Any, database: Database, clock: Clock) -> None:
    request_of()
    database.attempts.clear()
    for _ in range(1000):
        clock.now += 0.01
        request_of()
    assert 8 <= len(database.attempts) <= 13


def test_recovery_is_noticed_by_the_first_attempt_after_it(
    request_of: Any, database: Database, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    request_of()
    database.up_at = clock.now
    clock.now += SHORTEST_WINDOW * 1.1
    with caplog.at_level(logging.WARNING):
        assert request_of() == ("connection", 0)
        assert request_of() == ("connection", 0)
    assert "pin 'main': in reach again after" in caplog.text
    database.up_at = float("inf")
    assert request_of()[1] == pytest.approx(5.0)  # the next outage is waited for again


@pytest.mark.parametrize("cost", [0.001, 0.5, 4.0])
def test_attempts_take_a_third_of_the_time_at_most(
    cost: float, request_of: Any, database: Database, clock: Clock
) -> None:
    database.cost = cost
    request_of()
    began, spent = clock.now, 0.0
    while clock.now < began + 300:
        clock.now += 0.01
        spent += request_of()[1]
    assert spent <= (clock.now - began) / 3


def test_worker_is_away_for_no_longer_than_the_database(
    request_of: Any, database: Database, clock: Clock
) -> None:
    """One that was away for a moment only is in reach again soon, whatever the attempts have cost."""
    database.cost = 2.0
    request_of()
    database.up_at = began = clock.now
    while request_of()[0] != "connection":
        clock.now += 0.01
    assert clock.now - began <= 1.2 * SHORTEST_WINDOW


def test_refused_password_is_not_tried_again_soon(request_of: Any, database: Database, clock: Clock) -> None:
    """Accounts are locked after a few tries, and every worker tries."""
    database.error = psycopg2.OperationalError('FATAL:  password authentication failed for user "site"')
    assert request_of() == (database.error, 0)
    began = clock.now
    while clock.now < began + 120:
        clock.now += 0.01
        assert request_of()[1] == 0
    gaps = [after - before for before, after in pairwise(database.attempts)]
    assert len(gaps) < 10
    assert gaps[0] > SHORTEST_WINDOW
    assert LONGEST_WINDOW <= gaps[-1] <= 1.2 * LONGEST_WINDOW
    database.up_at = clock.now
    clock.now += 1.2 * LONGEST_WINDOW
    assert request_of()[0] == "connection"


def test_what_follows_the_loss_is_an_error_of_the_same_driver_and_a_loss(
    request_of: Any, database: Database
) -> None:
    """PgBouncer's word for a server that is down has a SQLSTATE, which belongs to its message alone."""
    database.error = psycopg.errors.ProtocolViolation("server login has been failing")
    for _ in range(2):
        error, _ = request_of()
        assert speaks_of_loss(error)
    assert type(error) is psycopg.OperationalError


def test_deadline_is_overrun_by_one_attempt_at_most(request_of: Any, database: Database) -> None:
    database.cost = 4.0
    assert request_of()[1] <= 5.0 + 4.0
    assert len(database.attempts) == 2


def test_all_of_a_request_waits_once(clock: Clock, database: Database) -> None:
    scope, sleep = Scope("request", clock), lambda seconds: setattr(clock, "now", clock.now + seconds)
    began = clock.now
    for name in ("main", "other", "third"):
        with pytest.raises(psycopg2.OperationalError):
            Outage(name, clock, sleep).connect(database, scope, Policy())
    assert clock.now - began == pytest.approx(5.0)


def test_worker_that_ends_does_not_wait(clock: Clock, database: Database) -> None:
    scope = WorkerScope("process", clock)
    boundary = scope.enter({})
    scope.stop()
    with pytest.raises(psycopg2.OperationalError):
        Outage("main", clock).connect(database, scope, Policy())
    assert len(database.attempts) == 1
    boundary.leave()


@pytest.mark.parametrize("error", [ValueError("a bug"), psycopg2.ProgrammingError("no such option")])
def test_what_waiting_does_not_mend_is_raised_at_once(error: Exception, clock: Clock) -> None:
    def fail() -> None:
        raise error

    scope = Scope("request", clock)
    with pytest.raises(type(error)):
        Outage("main", clock).connect(fail, scope, Policy())
    assert scope.assess() is None


def test_interrupted_attempt_does_not_block_the_next(clock: Clock, database: Database) -> None:
    outage = Outage("main", clock, lambda seconds: setattr(clock, "now", clock.now + seconds))
    with pytest.raises(psycopg2.OperationalError):
        outage.connect(database, Scope("request", clock), Policy())
    clock.now += 10

    def interrupted() -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        outage.connect(interrupted, Scope("request", clock), Policy())
    database.up_at = 0
    assert outage.connect(database, Scope("request", clock), Policy()) == "connection"


def test_thread_that_gets_through_ends_the_outage_that_another_declared(
    clock: Clock, database: Database
) -> None:
    def sleep(seconds: float) -> None:
        clock.now += seconds
        if database.up_at > clock.now:  # meanwhile, in another thread
            database.up_at = clock.now + 0.2
            with pytest.raises(psycopg2.OperationalError):
                outage.connect(database, Scope("request", clock), Policy(reconnect_deadline=0))
            database.up_at = clock.now

    outage = Outage("main", clock, sleep)
    for _ in range(2):
        assert outage.connect(database, Scope("request", clock), Policy()) == "connection"
    assert len(database.attempts) == 4


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_child_tries_though_a_thread_of_its_parent_did(clock: Clock, database: Database) -> None:
    def fork() -> str:
        child = os.fork()
        if not child:
            clock.now += 10
            with suppress(psycopg2.OperationalError):
                outage.connect(lambda: os._exit(42), Scope("request", clock), Policy())
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
        return "connection"

    outage = Outage("main", clock)
    with pytest.raises(psycopg2.OperationalError):
        outage.connect(database, Scope("request", clock), Policy(reconnect_deadline=0))
    clock.now += 10
    assert outage.connect(fork, Scope("request", clock), Policy()) == "connection"
