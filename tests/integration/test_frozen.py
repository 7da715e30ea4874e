"""A host that freezes: its processes stand still, and its kernel acknowledges for them."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import Server, eventually
from tests.faults.faults import Faults, host_frozen
from tests.site.extra import extra_alias, extra_view
from tests.unit.fakes import Clock
from tools.postgres import Cluster, free_port
from wsgi_persist import Policy
from wsgi_persist.pins import knock
from wsgi_persist.worker import frozen as frozen_hosts
from wsgi_persist.worker import guard, registry
from wsgi_persist.worker.frozen import Guard
from wsgi_persist.worker.lifecycle import shut_down

ALIAS = "apart"
QUICK = {"network_timeout": 1.0, "connect_timeout": 2.0, "reconnect_deadline": 20.0}


@pytest.fixture
def alias(site: TestApp) -> Iterator[Callable[..., None]]:
    """Defines the alias by servers, all primaries: the first that answers is taken."""
    with extra_alias(ALIAS) as settings:

        def define(*clusters: Cluster, in_options: bool = False, **persist: Any) -> None:
            hosts = ",".join(cluster.address for cluster in clusters)
            ports = ",".join(str(cluster.port) for cluster in clusters)
            options: dict[str, Any] = {"sslmode": "disable", "target_session_attrs": "read-write"}
            if in_options:
                options |= {"host": hosts, "port": ports}
                hosts = ports = ""
            options["persist"] = {**QUICK, **persist}
            settings(HOST=hosts, PORT=ports, OPTIONS=options)

        yield define
        guard().end()
        frozen_hosts._guards.clear()


def run(sql: str) -> Any:
    from django.db import connections

    with connections[ALIAS].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


@pytest.fixture
def visit(site: TestApp) -> Callable[..., Any]:
    """A request whose view sends this; its answer."""
    from django.http import HttpResponse

    def visit(sql: str = "SELECT pg_catalog.inet_server_port()", status: int = 200) -> Any:
        with extra_view(lambda request: HttpResponse(str(run(sql)))):
            return site.get("/extra/", status=status)

    return visit


@pytest.mark.parametrize("in_options", [False, True], ids=["HOST", "OPTIONS"])
def test_a_host_that_freezes_is_left_for_another(
    in_options: bool,
    alias: Any,
    visit: Any,
    victim: Cluster,
    server: Server,
    caplog: pytest.LogCaptureFixture,
) -> None:
    alias(victim, server.cluster, in_options=in_options)
    assert visit().text == str(victim.port)
    with host_frozen(victim):
        assert visit().text == str(server.cluster.port)
    assert [r.getMessage().partition(" has been silent")[0] for r in caplog.records if "cut" in r.msg] == [
        f"pin 'apart': cut off backend {_backend(caplog)} in GET '/extra/': its host 127.0.0.1:{victim.port}"
    ]


def _backend(caplog: pytest.LogCaptureFixture) -> int:
    return next(int(r.getMessage().split()[-1]) for r in caplog.records if "opened backend" in r.getMessage())


def test_a_write_that_waits_there_is_told_as_unknown(
    alias: Any, visit: Any, victim: Cluster, server: Server
) -> None:
    alias(victim, server.cluster)
    visit()
    with host_frozen(victim):
        told = visit("INSERT INTO entry (note) VALUES ('frozen') RETURNING note", status=503)
        assert "Retry-After" not in told.headers
        assert visit().text == str(server.cluster.port)


def test_the_next_attempts_leave_it_out(
    alias: Any, visit: Any, victim: Cluster, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker of a frozen host has others to go to, and does not wait for it each time."""
    alias(victim, server.cluster)
    with host_frozen(victim):
        visit()
        assert f"host 127.0.0.1:{victim.port} answers nobody, and is left out for now" in caplog.text
        registry.process_scope().pins[ALIAS].drop("the test has it open another")
        began = time.monotonic()
        visit()
        # Not what is timed, but that libpq's two seconds were not waited for.
        assert time.monotonic() - began < QUICK["connect_timeout"]


def test_a_single_host_has_no_guard(alias: Any, visit: Any, server: Server) -> None:
    """There is nowhere else to go."""
    alias(server.cluster)
    visit()
    assert not _guards()


def test_the_guard_ends_with_the_worker(alias: Any, visit: Any, server: Server, victim: Cluster) -> None:
    alias(victim, server.cluster)
    visit()
    assert len(_guards()) == 1
    registry.process_scope().pins[ALIAS].drop("the test is over")
    shut_down("test")
    assert not _guards()
    registry.forget_all()  # a scope that was stopped keeps nothing


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_has_one_of_its_own(alias: Any, visit: Any, server: Server, victim: Cluster) -> None:
    alias(victim, server.cluster)
    visit()
    parents = guard()

    child = os.fork()
    if child == 0:
        guard().look_after(registry.process_scope().pin("new", "new", Policy()))
        os._exit(0 if guard() is not parents and len(_guards()) == 1 else 1)
    assert os.waitpid(child, 0) == (child, 0)


def _guards() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "wsgi_persist.guard"]


# Who waits for long, and is right.


def wake(server: Server) -> None:
    """End the query that sleeps, with an error."""
    others = "query LIKE %s AND pid <> pg_catalog.pg_backend_pid()"
    server(f"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE {others}", "%pg_sleep(%")


class Knocks:
    """Who was asked, and what is said of them."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.at_home: Callable[[], bool] = lambda: True

    def __call__(self, host: str, port: int, timeout: float) -> bool:
        self.asked.append((host, port))
        return self.at_home()


@pytest.fixture
def knocks() -> Knocks:
    return Knocks()


def looking(knocks: Knocks, clock: Callable[[], float] = time.monotonic) -> Guard:
    """After every pin, in no thread of its own."""
    found = Guard(knocks, clock)
    found._ended.set()
    for pin in registry.process_scope().pins.values():
        found.look_after(pin)
    return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def asleep(alias: Any, visit: Any, server: Server) -> Iterator[threading.Thread]:
    """A request that waits for the server, by TCP and for longer than network_timeout."""
    alias(server.cluster)
    visit()
    waiting = threading.Thread(target=visit, args=("SELECT pg_sleep(600)", "*"))
    waiting.start()
    eventually(server.sleeping, 1)
    time.sleep(1.1)
    yield waiting
    wake(server)
    waiting.join()


def test_a_busy_server_is_asked_now_and_then(
    asleep: threading.Thread, knocks: Knocks, clock: Clock, server: Server
) -> None:
    found = looking(knocks, clock)
    for _ in range(3):
        found.look()
    assert knocks.asked == [("127.0.0.1", server.cluster.port)]
    clock.now += 1.1
    found.look()
    assert len(knocks.asked) == 2
    assert server.sleeping() == 1


def test_an_answer_that_comes_meanwhile_counts(
    asleep: threading.Thread, knocks: Knocks, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    def at_home() -> bool:
        wake(server)
        asleep.join()
        return False

    knocks.at_home = at_home
    looking(knocks).look()
    assert knocks.asked
    assert "cut off" not in caplog.text
    assert registry.process_scope().pins[ALIAS].is_alive()


def test_a_unix_socket_is_not_asked(site: TestApp, knocks: Knocks, server: Server) -> None:
    """It has no times; and who shares the kernel is frozen with it."""
    waiting = threading.Thread(target=site.get, args=("/sleep/?seconds=600",), kwargs={"status": "*"})
    waiting.start()
    eventually(server.sleeping, 1)
    time.sleep(1.1)
    looking(knocks).look()
    wake(server)
    waiting.join()
    assert knocks.asked == []


# Asking.


def test_a_server_that_runs_is_at_home_and_says_nothing_of_it(victim: Cluster) -> None:
    before = victim.log.read_text()
    assert knock("127.0.0.1", victim.port, 2.0)
    assert victim.log.read_text() == before


def test_one_that_is_frozen_is_not(faults: Faults, victim: Cluster) -> None:
    with faults.frozen():
        assert not knock("127.0.0.1", victim.port, 0.3)


def test_a_host_where_nothing_runs_answers(driver: ModuleType) -> None:
    assert knock("127.0.0.1", free_port(), 2.0)


def test_who_accepts_and_says_nothing_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert not knock("127.0.0.1", mute.getsockname()[1], 0.3)


def test_what_this_machine_refuses_says_nothing_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", refused)
    assert knock("127.0.0.1", 5432, 0.3)


def test_a_name_of_several_addresses_is_at_home_if_one_is(
    victim: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        addresses = [("127.0.0.1", mute.getsockname()[1]), ("127.0.0.1", victim.port)]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **given: found)
        assert knock("db.example.org", 5432, 0.3)


@pytest.mark.parametrize("name", ["nobody.invalid", "a..b", "x" * 70])
def test_a_name_that_is_unknown_is_the_drivers_to_refuse(name: str) -> None:
    assert knock(name, 5432, 2.0)


def test_a_connection_that_cannot_be_looked_at_hinders_nobody(
    asleep: threading.Thread, knocks: Knocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be closed at any moment, and a tracing tool's proxy around it raises what it likes."""
    scope = registry.process_scope()
    broken = scope.pin("broken", "broken", Policy())
    monkeypatch.setattr(broken, "in_query", lambda: 1 // 0)
    looking(knocks).look()
    del scope.pins["broken"]
    assert len(knocks.asked) == 1


def test_who_has_a_single_host_is_left_alone(asleep: threading.Thread, knocks: Knocks, clock: Clock) -> None:
    """Also where another alias has several."""
    Guard(knocks, clock).look()
    assert knocks.asked == []
