"""The check without a round trip, against everything that a server does to an idle connection."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import Server
from tests.front import Front, error, notice, parameter_status
from wsgi_persist import Pin
from wsgi_persist.worker import registry

TRANSPORTS = {"default": "Unix socket", "tcp": "TCP", "tls": "TLS"}
transports = pytest.mark.parametrize("using", TRANSPORTS, ids=TRANSPORTS.values())


@pytest.fixture
def pid_over(site: TestApp) -> Callable[[str], int]:
    return lambda using: int(site.get(f"/pid/?using={using}").text)


def wait_readable(pin: Any, timeout: float = 5.0) -> None:
    """Until the server has sent something; nothing is taken from the socket."""
    poller = select.poll()
    poller.register(pin.fd, select.POLLIN)
    assert poller.poll(timeout * 1000), "the server sent nothing"


@transports
def test_transport_is_what_it_says(using: str, site: TestApp, pinned: Callable[[str], Any]) -> None:
    site.get(f"/pid/?using={using}")
    info = pinned(using).connection.info
    encrypted = info.ssl_in_use if hasattr(info, "ssl_in_use") else info.pgconn.ssl_in_use
    found = (info.host.startswith("/"), bool(encrypted))
    assert found == {"default": (True, False), "tcp": (False, False), "tls": (False, True)}[using]


@transports
def test_backend_terminated_between_requests_100_times(
    using: str, site: TestApp, server: Server, pinned: Callable[[str], Any], notes: Callable[[], list[str]]
) -> None:
    """The next request comes as soon as the FATAL is sent, and begins with an autocommit write."""
    wanted = []
    for number in range(100):
        pid = int(site.get(f"/pid/?using={using}").text)
        server("SELECT pg_terminate_backend(%s)", pid)
        wait_readable(pinned(using))
        wanted.append(str(number))
        assert int(site.get(f"/write/?using={using}&note={number}").text) != pid
    assert notes() == wanted


@transports
def test_farewell_long_before_the_end(
    using: str, site: TestApp, server: Server, pinned: Callable[[str], Any], notes: Callable[[], list[str]]
) -> None:
    """A backend with temporary tables drops them between its FATAL and its end."""
    tables = "; ".join(f"CREATE TEMPORARY TABLE t{n} (id int PRIMARY KEY)" for n in range(100))
    for number in range(3):
        pid = int(site.get(f"/pid/?using={using}").text)
        pinned(using).connection.cursor().execute(tables)
        server("SELECT pg_terminate_backend(%s)", pid)
        wait_readable(pinned(using))
        assert int(site.get(f"/write/?using={using}&note={number}").text) != pid
    assert notes() == ["0", "1", "2"]


@transports
def test_notifications_survive_and_reach_the_application(
    using: str, pid_over: Callable[[str], int], server: Server, pinned: Callable[[str], Any], driver: Any
) -> None:
    pid = pid_over(using)
    connection = pinned(using).connection
    connection.cursor().execute("LISTEN news")
    server("NOTIFY news, 'hello'")
    wait_readable(pinned(using))
    assert pid_over(using) == pid
    if driver.__name__ == "psycopg2":
        payloads = [notification.payload for notification in connection.notifies]
    else:
        payloads = [n.payload for n in connection.notifies(timeout=1, stop_after=1)]
    assert payloads == ["hello"]


@transports
def test_busy_channel_is_pinged(
    using: str, pid_over: Callable[[str], int], server: Server, pinned: Any
) -> None:
    pid = pid_over(using)
    pinned(using).connection.cursor().execute("LISTEN news")
    for number in range(200):
        server(f"NOTIFY news, '{number}'")
        assert pid_over(using) == pid


@pytest.fixture
def front(server: Server) -> Iterator[Front]:
    front = Front(("127.0.0.1", server.cluster.port))
    yield front
    front.close()


@pytest.fixture
def visit(front: Front, server: Server, driver: Any) -> Iterator[Callable[[], int]]:
    """One request to a plain application behind the front; gives its backend."""
    pin = Pin(
        lambda: driver.connect(**server.cluster.dsn(host="127.0.0.1", port=front.port, sslmode="disable"))
    )

    def visit() -> int:
        boundary = registry.process_scope().enter({"REQUEST_METHOD": "GET", "PATH_INFO": "/"})
        try:
            with pin.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                return int(cursor.fetchone()[0])
        finally:
            boundary.leave()

    yield visit
    registry.process_scope().pins.pop(pin).stop()


@pytest.mark.parametrize(
    "message",
    [
        parameter_status("TimeZone", "Europe/Paris"),
        notice("NOTICE", "NOTICE", "mind the gap"),
        notice("WARNING", "ПРЕДУПРЕЖДЕНИЕ", "in the server's language"),
        parameter_status("TimeZone", "UTC") + notice("LOG", "LOG", "two at once"),
    ],
    ids=["parameter", "notice", "localised", "both"],
)
def test_message_of_a_healthy_server_survives(
    message: bytes, front: Front, visit: Callable[[], int], server: Server
) -> None:
    pid = visit()
    front.say(message)
    time.sleep(0.05)
    assert visit() == pid
    assert visit() == pid


@pytest.mark.parametrize("severity", ["FATAL", "PANIC"])
def test_farewell_without_an_end_is_believed(severity: str, front: Front, visit: Callable[[], int]) -> None:
    pid = visit()
    front.say(error(severity, severity, "terminating connection", "57P01"))
    time.sleep(0.05)
    assert visit() != pid


def test_farewell_in_another_language(front: Front, visit: Callable[[], int], server: Server) -> None:
    """psycopg2 gives the text alone, so a ping decides: here the backend is about to end."""
    pid = visit()
    front.say(error("FATAL", "ВАЖНО", "terminating connection", "57P01"))
    server("SELECT pg_terminate_backend(%s)", pid)
    time.sleep(0.05)
    assert visit() != pid


def test_end_without_a_word(front: Front, visit: Callable[[], int]) -> None:
    pid = visit()
    front.hang_up()
    time.sleep(0.05)
    assert visit() != pid


@transports
def test_server_reloaded_between_requests(using: str, pid_over: Callable[[str], int], server: Server) -> None:
    pid = pid_over(using)
    try:
        server("ALTER SYSTEM SET datestyle = 'SQL, DMY'")
        server.cluster.reload()
        for _ in range(5):
            time.sleep(0.02)
            assert pid_over(using) == pid
    finally:
        server("ALTER SYSTEM RESET datestyle")
        server.cluster.reload()


@transports
def test_notices_on_an_idle_connection_survive(
    using: str, pid_over: Callable[[str], int], server: Server, pinned: Any
) -> None:
    """PostgreSQL logs to an idle client where client_min_messages is low enough."""
    pid = pid_over(using)
    cursor = pinned(using).connection.cursor()
    cursor.execute("SET client_min_messages = debug1")
    try:
        server.cluster.reload()
        time.sleep(0.2)
        assert pid_over(using) == pid
    finally:
        cursor.execute("RESET client_min_messages")


@transports
def test_server_restarted_between_requests(
    using: str, pid_over: Callable[[str], int], server: Server
) -> None:
    pid = pid_over(using)
    server.connection.close()
    server.cluster.restart()
    server.connection = server.connect(application_name="observer")
    assert pid_over(using) != pid


def test_idle_longer_than_idle_check_is_pinged_when_used(
    site: TestApp, server: Server, pinned: Any, clock: Any
) -> None:
    pid = int(site.get("/pid/").text)
    clock.advance(29.0)
    server.mark()
    site.get("/pid/")
    assert server.statements() == ["SELECT pg_backend_pid()"]
    clock.advance(31.0)
    server.mark()
    site.get("/plain/")
    assert server.statements() == []
    assert int(site.get("/pid/").text) == pid
    assert server.statements() == ["SELECT 1", "SELECT pg_backend_pid()"]


def test_older_than_max_age_is_replaced(site: TestApp, server: Server, clock: Any) -> None:
    pid = int(site.get("/pid/").text)
    clock.advance(0.89 * 3600)
    assert int(site.get("/pid/").text) == pid
    clock.advance(0.12 * 3600)
    assert int(site.get("/pid/").text) != pid


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The clock of the process scope, which the test moves."""

    class Clock:
        now = time.monotonic()

        def advance(self, seconds: float) -> None:
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(registry.process_scope(), "_clock", lambda: clock.now)
    return clock
