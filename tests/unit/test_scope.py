"""The boundary and the state machine, on a fake connection and an injected clock."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.fakes import Clock, FakeConnection
from wsgi_persist import Policy
from wsgi_persist.drivers import ACTIVE, IN_TRANSACTION, UNKNOWN
from wsgi_persist.pins.pin import MOVES, PinnedConnection, State
from wsgi_persist.worker import Boundary, entrance, registry
from wsgi_persist.worker.entrance import MOST_BESIDE, WorkerScope
from wsgi_persist.worker.scope import current

REQUEST = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/app", "PATH_INFO": "/page\r\nfaked line"}


@pytest.fixture(autouse=True)
def nothing_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "_said", set())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def scope(clock: Clock) -> Iterator[WorkerScope]:
    scope = WorkerScope("process", clock)
    yield scope
    if scope.owner is not None:
        scope.leave()
    scope.stop()


@pytest.fixture
def use(scope: WorkerScope) -> Callable[..., PinnedConnection]:
    """Lease the pin inside a request, opening a connection if there is none."""

    def use(connection: FakeConnection | None = None, **policy: Any) -> PinnedConnection:
        pin = scope.pin("key", "name", Policy(reset="never", replay="off", **policy))
        if scope.lease(pin, None) is None:
            pin.hold(connection or FakeConnection(), "settings", scope.now)
            assert scope.lease(pin, None) is pin.connection
        return pin

    return use


def visit(scope: WorkerScope, work: Callable[[], Any] = lambda: None) -> Any:
    boundary = scope.enter(REQUEST)
    try:
        return work()
    finally:
        boundary.leave()


def test_connection_is_kept_between_requests(scope: WorkerScope, use: Any) -> None:
    pin = visit(scope, use)
    first = pin.connection
    assert pin.state is State.OPEN
    for _ in range(3):
        assert visit(scope, use).connection is first
    assert (pin.opened, pin.leases, first.said) == (1, 4, [])


def test_boundary_reads_the_clock_once_and_polls_once(scope: WorkerScope, use: Any, clock: Clock) -> None:
    visit(scope, use)
    polls: list[int] = []
    poll = scope._watch.poll
    scope._watch.poll = lambda timeout: polls.append(timeout) or poll(timeout)  # type: ignore[method-assign,assignment,func-returns-value,return-value]
    before = clock.readings
    visit(scope, use)
    assert (clock.readings - before, polls) == (1, [0])


def test_request_is_current_on_its_own_thread_only(scope: WorkerScope) -> None:
    assert current() is None
    boundary = scope.enter(REQUEST)
    assert current() is scope
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(current()))
    thread.start()
    thread.join()
    boundary.leave()
    assert seen == [None]
    assert current() is None


def test_request_within_a_request_is_never_waited_for(
    scope: WorkerScope, caplog: pytest.LogCaptureFixture
) -> None:
    outer = scope.enter(REQUEST)
    for _ in range(2):
        inner = scope.enter({"REQUEST_METHOD": "GET", "PATH_INFO": "/inner"})
        assert inner.scope is not scope
        assert current() is scope, "it is current while its code runs"
        assert inner.run(current) is inner.scope
        inner.leave()
    assert current() is scope
    outer.leave()
    outer.leave()
    assert current() is None
    told = "GET '/app/page\\r\\nfaked line' makes requests to itself: they get connections of their own"
    assert [record.message for record in caplog.records] == [told], "once for each cause"


def test_end_of_a_request_is_its_end_although_one_within_it_was_not_closed(
    scope: WorkerScope, use: Any
) -> None:
    outer = scope.enter(REQUEST)
    pin = use()
    inner = scope.enter({**REQUEST})
    outer.leave()
    assert pin.state is State.OPEN
    assert current() is None
    inner.leave()
    assert visit(scope, use) is pin


def waiting(boundary: Any, **attributes: Any) -> Any:
    """Its application has returned."""
    vars(boundary).update(attributes, runs_on=0)
    return boundary


def test_lease_of_a_spent_response_ends_when_its_thread_goes_on(scope: WorkerScope, use: Any) -> None:
    late = waiting(scope.enter(REQUEST), is_spent=True)
    pin = use()
    pin.connection.status = IN_TRANSACTION
    next_one = scope.enter({**REQUEST})
    assert next_one.scope is current() is scope
    assert (pin.state, pin.connection.said) == (State.OPEN, ["rollback"])
    assert use() is pin
    assert late.run(current) is late.scope is not scope, "what it still runs is kept apart"
    late.leave()
    assert (current(), pin.state) == (scope, State.LEASED)
    next_one.leave()
    assert pin.state is State.OPEN


def test_response_that_may_go_on_takes_its_connection_along(
    scope: WorkerScope, use: Any, caplog: pytest.LogCaptureFixture
) -> None:
    late = waiting(scope.enter(REQUEST))
    pin = use()
    assert visit(scope, use) is not pin
    assert late.run(use_in_current) is pin.connection
    assert (pin.state, pin.connection.closed) == (State.LEASED, 0)
    assert "keeps its connections until its response is closed" in caplog.text
    connection = pin.connection
    late.leave()
    assert connection.closed == 1


def use_in_current() -> Any:
    inside = current()
    assert inside is not None
    return inside.pins["key"].connection


def test_connections_that_unclosed_responses_keep_are_bounded(
    scope: WorkerScope, use: Any, caplog: pytest.LogCaptureFixture
) -> None:
    kept, responses = [], []
    for _ in range(MOST_BESIDE + 3):
        responses.append(waiting(scope.enter({**REQUEST})))
        kept.append(use().connection)
    assert [connection.closed for connection in kept] == [1, 1] + [0] * (MOST_BESIDE + 1)
    assert caplog.text.count("loses its connections: 8 later responses keep some") == 2
    for response in responses:
        response.leave()
    assert {connection.closed for connection in kept[:-1]} == {1}


@pytest.mark.parametrize("spent", [True, False])
def test_response_closed_by_another_thread_leaves_the_next_request_alone(
    spent: bool, scope: WorkerScope, use: Any
) -> None:
    """It looked whose turn it is just before the thread went on to its next request."""
    late = waiting(scope.enter(REQUEST), is_spent=spent)
    use()
    close = threading.Thread(target=late.leave)
    with scope.claims:
        close.start()
        next_one = scope.enter({**REQUEST})
        pin = use()
    close.join()
    assert (current(), pin.state) == (scope, State.LEASED)
    next_one.leave()


def test_request_that_comes_in_while_another_thread_ends_the_last(scope: WorkerScope, use: Any) -> None:
    late = waiting(scope.enter(REQUEST))
    pin = use()
    late.scope = None  # claimed, and its leases are still to be ended
    beside = scope.enter({**REQUEST})
    assert beside.scope not in (None, scope)
    assert pin.state is State.LEASED
    beside.leave()
    scope.leave()
    assert visit(scope, use) is pin


def test_wrapped_twice_is_one_request(scope: WorkerScope, caplog: pytest.LogCaptureFixture) -> None:
    environ = {**REQUEST}
    outer = scope.enter(environ)
    inner = scope.enter(environ)
    assert current() is scope
    inner.leave()
    assert current() is scope
    outer.leave()
    assert not caplog.records


def test_request_beside_another_has_pins_that_end_with_it(scope: WorkerScope) -> None:
    outer = scope.enter(REQUEST)
    inner = scope.enter({**REQUEST})
    assert inner.scope is not None
    pin = inner.scope.pin("key", "name", Policy(reset="never", replay="off"))
    connection = FakeConnection()
    pin.hold(connection, None, 0.0)
    assert inner.run(inner.scope.lease, pin, None) is connection
    inner.leave()
    assert connection.closed == 1
    assert current() is scope
    outer.leave()


def test_boundary_that_nobody_left(scope: WorkerScope, caplog: pytest.LogCaptureFixture) -> None:
    scope.enter(REQUEST)
    assert scope.owner is None
    assert "thrown away without close()" in caplog.text


def test_response_closed_by_another_thread_frees_the_boundary(scope: WorkerScope, use: Any) -> None:
    boundary = scope.enter(REQUEST)
    pin = use()
    thread = threading.Thread(target=boundary.leave)
    thread.start()
    thread.join()
    assert pin.state is State.OPEN
    assert current() is None
    assert visit(scope, use) is pin


def test_open_transaction_is_rolled_back_and_named(
    scope: WorkerScope, use: Any, caplog: pytest.LogCaptureFixture
) -> None:
    boundary = scope.enter(REQUEST)
    pin = use()
    pin.connection.status = IN_TRANSACTION
    pin.connection.autocommit = False
    boundary.leave()
    assert pin.connection.said == ["rollback"]
    assert pin.connection.autocommit is True
    assert "rolled back a transaction left open by GET '/app/page\\r\\nfaked line'" in caplog.text


@pytest.mark.parametrize("fault", ["interrupted", "lost", "rollback fails"])
def test_session_that_cannot_be_cleaned_is_dropped(fault: str, scope: WorkerScope, use: Any) -> None:
    boundary = scope.enter(REQUEST)
    pin = use()
    connection = pin.connection
    if fault == "interrupted":
        connection.status = ACTIVE
    elif fault == "lost":
        connection.closed, connection.status = 2, UNKNOWN
    else:
        connection.status, connection.fails = IN_TRANSACTION, {"rollback"}
    boundary.leave()
    assert pin.state is State.EMPTY
    assert connection.closed
    assert visit(scope, use).connection is not connection


def test_holder_that_fails_to_let_go_loses_the_connection(
    scope: WorkerScope, use: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Holder:
        def detach(self) -> None:
            raise ValueError("a subclass's close() fails")

    boundary = scope.enter(REQUEST)
    pin = use()
    pin.holder = Holder()
    boundary.leave()
    assert pin.state is State.EMPTY
    assert "a subclass's close() fails" in caplog.text


def test_timeout_injected_while_leaving_frees_the_boundary(scope: WorkerScope, use: Any) -> None:
    class Holder:
        def detach(self) -> None:
            raise KeyboardInterrupt

    boundary = scope.enter(REQUEST)
    pin = use()
    pin.holder = Holder()
    with pytest.raises(KeyboardInterrupt):
        boundary.leave()
    assert pin.state is State.EMPTY
    assert visit(scope, use).state is State.OPEN


def test_interrupted_holder_lets_go(scope: WorkerScope, use: Any) -> None:
    """The timeout came before the holder could, and its wrapper must not keep a dropped pin."""
    detached: list[str] = []

    class Holder:
        def detach(self) -> None:
            detached.append("detached")
            if len(detached) == 1:
                raise KeyboardInterrupt

    boundary = scope.enter(REQUEST)
    pin = use()
    scope._leased[-1] = (pin, Holder())
    pin.holder = scope._leased[-1][1]
    with pytest.raises(KeyboardInterrupt):
        boundary.leave()
    assert detached == ["detached", "detached"]
    assert pin.state is State.EMPTY


def test_forgotten_pin_spares_the_file_that_has_its_number(
    scope: WorkerScope, use: Any, monkeypatch: Any
) -> None:
    pin = visit(scope, use)
    monkeypatch.setattr("wsgi_persist.pins.pin.neutralise", lambda fd: pytest.fail("another's file"))
    monkeypatch.setattr(pin.connection, "fileno", lambda: -1)
    pin.forget()
    assert pin.state is State.FORGOTTEN


def test_error_in_the_check_frees_the_boundary(scope: WorkerScope, use: Any, monkeypatch: Any) -> None:
    pin = visit(scope, use)
    pin.connection.server_sends()
    monkeypatch.setattr(PinnedConnection, "examine", lambda self: {}["missing"])
    with pytest.raises(KeyError):
        scope.enter(REQUEST)
    assert current() is None
    monkeypatch.undo()
    assert visit(scope, use) is pin


class Interrupted(Boundary):
    """By a timeout that the server injects, at the worst moment."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "scope" and value is not None:
            raise KeyboardInterrupt


def test_request_interrupted_on_its_way_in_does_not_end_the_next(scope: WorkerScope) -> None:
    interrupted = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        scope.enter(REQUEST, interrupted)
    following = scope.enter(REQUEST)
    interrupted.leave()
    assert current() is scope
    following.leave()


def test_readable_socket_is_examined_not_trusted(scope: WorkerScope, use: Any) -> None:
    pin = visit(scope, use)
    first = pin.connection
    first.server_sends("WARNING:  mind the gap")
    visit(scope)
    assert (pin.state, first.said) == (State.OPEN, ["poll", "SELECT 1"])
    assert first.notices == ["WARNING:  mind the gap"], "the application's own list"
    first.server_sends("FATAL:  terminating connection due to administrator command")
    visit(scope)
    assert (pin.state, first.closed) == (State.EMPTY, 1)


@pytest.mark.parametrize("fails", ["poll", "SELECT 1"])
def test_check_that_fails_drops(fails: str, scope: WorkerScope, use: Any) -> None:
    pin = visit(scope, use)
    pin.connection.fails = {fails}
    pin.connection.server_sends("NOTICE:  hm")
    visit(scope)
    assert pin.state is State.EMPTY


def test_descriptor_that_nobody_keeps_is_unregistered(scope: WorkerScope, use: Any) -> None:
    pin = visit(scope, use)
    scope._watch._pins.clear()
    pin.connection.server_sends()
    visit(scope)
    visit(scope)


def test_idle_connection_is_pinged_by_a_request_that_uses_it(
    scope: WorkerScope, use: Any, clock: Clock
) -> None:
    pin = visit(scope, use)
    clock.now += 30
    visit(scope)
    assert pin.connection.said == []
    visit(scope, use)
    visit(scope, use)
    assert pin.connection.said == ["SELECT 1"]


def test_idle_connection_is_pinged_every_time(scope: WorkerScope, use: Any, clock: Clock) -> None:
    pin = visit(scope, lambda: use(max_age=None))
    for _ in range(3):
        clock.now += 31
        visit(scope, use)
    assert pin.connection.said == ["SELECT 1"] * 3


def test_ping_that_fails_is_a_reconnect(scope: WorkerScope, use: Any, clock: Clock) -> None:
    pin = visit(scope, use)
    pin.connection.fails = {"SELECT 1"}
    clock.now += 31
    visit(scope, use)
    assert (pin.state, pin.opened) == (State.OPEN, 2)


def test_age_is_jittered_and_kept(scope: WorkerScope, use: Any, clock: Clock) -> None:
    pin = visit(scope, lambda: use(max_age=100.0, idle_check=1000.0))
    assert 90 <= pin.expires_at - clock.now <= 100
    clock.now += 89
    assert visit(scope, use).opened == 1
    clock.now += 11
    visit(scope)
    assert pin.state is State.EMPTY


def test_no_age_limit(scope: WorkerScope, use: Any, clock: Clock) -> None:
    pin = visit(scope, lambda: use(max_age=None, idle_check=10.0))
    clock.now += 1e9
    visit(scope, use)
    assert pin.opened == 1


def test_stop_closes_what_is_idle_and_refuses_no_request(scope: WorkerScope, use: Any) -> None:
    pin = visit(scope, use)
    connection = pin.connection
    assert scope.stop() == 1
    assert (pin.state, connection.closed) == (State.STOPPED, 1)
    assert scope.stop() == 0
    late = scope.enter(REQUEST)
    assert late.scope is not scope
    late.leave()


def test_stop_leaves_the_request_in_flight_to_its_own_boundary(scope: WorkerScope, use: Any) -> None:
    boundary = scope.enter(REQUEST)
    pin = use()
    connection = pin.connection
    assert scope.stop() == 0
    assert (pin.state, connection.closed) == (State.LEASED, 0)
    boundary.leave()
    assert (pin.state, connection.closed) == (State.STOPPED, 1)


def test_stop_reaches_what_a_response_gave_back_that_is_not_closed(scope: WorkerScope, use: Any) -> None:
    late = waiting(scope.enter(REQUEST), is_spent=True)
    connection = use().connection
    scope.stop()
    scope.enter({**REQUEST}).leave()
    assert connection.closed == 1
    late.leave()


def test_close_that_fails_is_logged_not_raised(
    scope: WorkerScope, use: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    pin = visit(scope, use)
    pin.connection.fails = {"close"}
    pin.drop("the test says so")
    assert "closing failed: close fails" in caplog.text


def test_close_idle_spares_other_connections_and_other_threads(scope: WorkerScope, use: Any) -> None:
    pin = visit(scope, use)
    scope.close_idle("key", pin.serial + 1, "another")
    scope.close_idle("other key", pin.serial, "another")
    assert pin.state is State.OPEN
    boundary = scope.enter(REQUEST)
    thread = threading.Thread(target=scope.close_idle, args=("key", pin.serial, "from outside"))
    thread.start()
    thread.join()
    assert pin.state is State.OPEN
    boundary.leave()
    scope.close_idle("key", pin.serial, "asked")
    assert pin.state is State.EMPTY


def test_illegal_moves_raise(scope: WorkerScope, use: Any) -> None:
    pin = visit(scope, use)
    pin.stop()
    with pytest.raises(RuntimeError, match=r"cannot go from State.STOPPED to State.LEASED"):
        pin.lease(None, 0.0)
    assert set(MOVES) == set(State)


def test_unknown_driver_is_refused(scope: WorkerScope) -> None:
    pin = scope.pin("key", "name", Policy())
    with pytest.raises(TypeError, match="not a connection of a known driver"):
        pin.hold(object(), None, 0.0)
    assert pin.state is State.EMPTY


def test_thread_that_ends_closes_its_pins() -> None:
    kept: list[FakeConnection] = []
    responses: list[Any] = []  # as servers keep them in cycles

    def serve() -> None:
        scope = registry.thread_scope()
        assert registry.thread_scope() is scope
        boundary = scope.enter(REQUEST)
        responses.append(boundary)
        pin = scope.pin("key", "name", Policy(reset="never", replay="off"))
        kept.append(FakeConnection())
        pin.hold(kept[0], None, scope.now)
        scope.lease(pin, None)
        boundary.leave()

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    assert kept[0].closed == 1


def test_repr_tells_the_state(scope: WorkerScope, use: Any) -> None:
    assert repr(visit(scope, use)) == "<pin 'name': idle, backend 4711, 1 leases>"
