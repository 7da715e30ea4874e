"""Every planned end of a worker: what it does with its connection, idle and with a request in flight."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

import pytest

from tests.apache.conftest import StartApache
from tests.apache.ends import asked, backend_ends, last_words, only_worker, sessions_abandoned
from tests.conftest import Server, eventually
from tests.http import get
from tools.apache import Apache
from tools.httpd import Httpd

CLOSED = "1 connections closed, 0 requests in flight will close theirs"
IN_FLIGHT = "0 connections closed, 1 requests in flight will close theirs"
_mtimes = count(2_000_000_000)


def one_request(running: Apache) -> None:
    assert get(running.port, "/plain/").status == 200


def three_requests(running: Apache) -> None:
    assert [get(running.port, "/plain/").status for _ in range(3)] == [200] * 3


def touch(running: Apache) -> None:
    """The script, and a request that notices it: not the first one, with mod_wsgi before 6."""
    one_request(running)
    script = f"{running.defines['PERSIST_PROJECT']}/wsgi.py"
    os.utime(script, times=(next(_mtimes),) * 2)
    one_request(running)


def usr1(running: Apache) -> None:
    for pid in running.daemon_pids():
        os.kill(pid, signal.SIGUSR1)


def nothing(running: Apache) -> None:
    """It ends by itself."""


class End(NamedTuple):
    """
    :ivar reason: mod_wsgi's own.
    :ivar old_reason: that of mod_wsgi 4.9 and 5.0, which knows few; else the event's name.
    """

    act: Callable[[Apache], None]
    options: str
    reason: str
    old_reason: str = "process_stopping"


ENDS = {
    "apachectl stop": End(Apache.stop, "graceful-timeout=15", "shutdown_signal"),
    "apachectl restart": End(Apache.restart, "graceful-timeout=15", "shutdown_signal"),
    "apachectl graceful": End(Apache.graceful, "graceful-timeout=15", "shutdown_signal"),
    "SIGUSR1": End(usr1, "graceful-timeout=15", "graceful_signal", "graceful_signal"),
    "maximum-requests": End(three_requests, "maximum-requests=3", "maximum_requests"),
    "restart-interval": End(nothing, "restart-interval=1", "restart_interval", "restart_interval"),
    # The idle time counts from the first request.
    "inactivity-timeout": End(
        one_request, "inactivity-timeout=1", "inactivity_timeout", "inactivity_timeout"
    ),
    "script touched": End(touch, "graceful-timeout=15", "script_reload"),
}


class Busy(NamedTuple):
    """
    :ivar waits: whether mod_wsgi lets the request finish before it ends the worker.
    :ivar answers: whether Apache's own process lives to pass the answer on.
    """

    name: str
    reason: str
    waits: bool
    answers: bool


# What touching the script and maximum-requests end is idle by then: they come with a request.
BUSY = [
    Busy("apachectl stop", "shutdown_signal", waits=False, answers=False),
    Busy("apachectl restart", "shutdown_signal", waits=False, answers=False),
    Busy("apachectl graceful", "shutdown_signal", waits=False, answers=True),
    Busy("SIGUSR1", "graceful_signal", waits=True, answers=True),
    # mod_wsgi ends it by a signal to itself once the request is over, and has no other reason then.
    Busy("restart-interval", "shutdown_signal", waits=True, answers=True),
]


@pytest.fixture
def start(apache: StartApache, generation: Httpd) -> Callable[[str], Apache]:
    """An Apache with one worker, for the end of this name."""

    def start(name: str) -> Apache:
        # Under prefork, `restart` kills the workers of mod_wsgi before 6 with the SIGHUP that is meant for
        # Apache's own processes: see test_killed.py.
        mpm = "event" if generation.old and name == "apachectl restart" else "prefork"
        return apache(options=ENDS[name].options, given={"httpd": generation, "mpm": mpm})

    return start


@pytest.mark.parametrize("name", ENDS)
def test_idle(name: str, start: Callable[[str], Apache], server: Server, generation: Httpd) -> None:
    end = ENDS[name]
    running = start(name)
    with sessions_abandoned(server, 0):
        worker = only_worker(running, server)
        end.act(running)
        reason = end.old_reason if generation.old else end.reason
        assert last_words(running, worker) == f"({reason}): {CLOSED}"
        assert backend_ends(server, worker)


@pytest.mark.parametrize("busy", BUSY, ids=lambda busy: busy.name)
def test_with_a_request_in_flight(
    busy: Busy,
    start: Callable[[str], Apache],
    server: Server,
    generation: Httpd,
    notes: Callable[[], list[str]],
) -> None:
    running = start(busy.name)
    with sessions_abandoned(server, 0):
        worker = only_worker(running, server)
        with asked(running, "/write-slowly/?note=in flight") as answers:
            assert eventually(server.sleeping, 1)
            ENDS[busy.name].act(running)
        reason = busy.reason
        if generation.old and reason == "shutdown_signal":
            reason = "process_stopping"
        # The event MPM ends its own processes first, and those wait for their requests.
        waits = busy.waits or "mpm_event" in running.modules
        assert last_words(running, worker) == f"({reason}): {CLOSED if waits else IN_FLIGHT}"
        assert backend_ends(server, worker)
    assert notes() == ["in flight"]
    if busy.answers:
        assert [answer and answer.status for answer in answers] == [200]
    assert "Traceback" not in running.error_text()


def test_thread_that_looks_after_several_hosts_ends_too(
    apache: StartApache, server: Server, generation: Httpd
) -> None:
    running = apache(given={"httpd": generation}, SITE_HOST="127.0.0.1,127.0.0.1")
    with sessions_abandoned(server, 0):
        worker = only_worker(running, server)
        running.stop()
        assert last_words(running, worker).endswith(CLOSED)
        assert backend_ends(server, worker)
    assert "exit signal" not in running.error_text()


def test_interpreter_is_not_destroyed(apache: StartApache, server: Server, generation: Httpd) -> None:
    """Neither atexit nor a destructor runs then; mod_wsgi's event comes all the same."""
    running = apache(given={"httpd": generation, "extra": "WSGIDestroyInterpreter Off"})
    with sessions_abandoned(server, 0):
        worker = only_worker(running, server)
        running.stop()
        assert last_words(running, worker).endswith(CLOSED)
        assert backend_ends(server, worker)
