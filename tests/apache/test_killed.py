"""Ends of a worker that leave it no last word, or hardly one: killed, out of memory, stuck."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.apache.conftest import StartApache
from tests.apache.ends import asked, backend_ends, last_words, next_worker, only_worker, sessions_abandoned
from tests.conftest import Server, eventually
from tests.http import get
from tools.apache import Apache
from tools.httpd import Httpd

IN_FLIGHT = "0 connections closed, 1 requests in flight will close theirs"
STUCK = "/sleep/?seconds=600"


def kill(running: Apache) -> None:
    os.kill(running.daemon_pids()[0], signal.SIGKILL)


def run_out_of_memory(running: Apache) -> None:
    """The kernel's OOM killer sends SIGKILL too; the view sends it to itself."""
    assert get(running.port, "/killed/").status in (500, 502)


@pytest.mark.parametrize("end", [kill, run_out_of_memory])
def test_killed(
    end: Callable[[Apache], None], apache: StartApache, server: Server, generation: Httpd
) -> None:
    """The kernel closes its sockets, and an idle backend sees that at once."""
    running = apache(given={"httpd": generation})
    with sessions_abandoned(server, 1):
        worker = only_worker(running, server)
        end(running)
        assert backend_ends(server, worker)
    replacement = next_worker(running, server, worker)
    server.mark()
    assert get(running.port, "/process/").json == replacement_answer(replacement)
    assert server.connections() == 0
    assert f"worker site:{worker.pid} stops" not in running.error_text()


def replacement_answer(worker: tuple[int, int]) -> dict[str, int]:
    return dict(zip(("worker", "backend"), worker, strict=True))


def test_killed_during_a_query(apache: StartApache, server: Server) -> None:
    """A backend that computes looks at its socket when it has a result to send, not before."""
    running = apache()
    worker = only_worker(running, server)
    with asked(running, "/sleep/?seconds=2"):
        assert eventually(server.sleeping, 1)
        kill(running)
        assert eventually(lambda: worker.pid in running.daemon_pids(), False)
        assert worker.backend in server.backends()
    assert eventually(lambda: worker.backend in server.backends(), False)


def test_killed_during_a_query_that_watches_its_client(apache: StartApache, server: Server) -> None:
    """What PostgreSQL has against that."""
    running = apache(SITE_OPTIONS='{"options": "-c client_connection_check_interval=100"}')
    worker = only_worker(running, server)
    with asked(running, STUCK):
        assert eventually(server.sleeping, 1)
        kill(running)
        assert backend_ends(server, worker)


def test_stopped_during_a_long_query(apache: StartApache, server: Server, generation: Httpd) -> None:
    """Apache kills after 3 s; that the request was lost is known only then, too late to cancel."""
    running = apache(given={"httpd": generation})
    worker = only_worker(running, server)
    with asked(running, "/sleep/?seconds=7"):
        assert eventually(server.sleeping, 1)
        running.stop()
        assert IN_FLIGHT in last_words(running, worker)
        assert worker.backend in server.backends()
    assert eventually(lambda: worker.backend in server.backends(), False, timeout=30)


def test_deadlocked(apache: StartApache, server: Server, generation: Httpd) -> None:
    """No Python can run, so that there is no last word; shutdown-timeout ends it all the same."""
    running = apache(options="deadlock-timeout=1 shutdown-timeout=1", given={"httpd": generation})
    with sessions_abandoned(server, 1):
        worker = only_worker(running, server)
        with asked(running, "/deadlocked/"):
            assert eventually(lambda: worker.backend in server.backends(), False, timeout=30)
    next_worker(running, server, worker)
    assert f"worker site:{worker.pid} stops" not in running.error_text()


def test_restart_under_prefork_kills_old_workers(apache: StartApache, server: Server, debian: Httpd) -> None:
    """Apache signals its whole process group with SIGHUP, which mod_wsgi before 6 does not handle."""
    running = apache(given={"httpd": debian})
    with sessions_abandoned(server, 1):
        worker = only_worker(running, server)
        running.restart()
        assert backend_ends(server, worker)
    next_worker(running, server, worker)
    assert f"worker site:{worker.pid} stops" not in running.error_text()


def test_memory_limit(apache: StartApache, server: Server, generation: Httpd) -> None:
    """With virtual-memory-limit Python is told, and the worker lives on with its connection."""
    running = apache(options=f"virtual-memory-limit={2 << 30}", given={"httpd": generation})
    before = get(running.port, "/process/").json
    assert get(running.port, "/exhaust-memory/").status == 507
    assert get(running.port, "/process/").json == before


def test_stuck_query(apache: StartApache, server: Server, generation: Httpd) -> None:
    """Its request is lost, so the query is cancelled: its backend would compute on for nobody."""
    running = apache(options=overdue(generation), given={"httpd": generation})
    with sessions_abandoned(server, 0):
        worker = only_worker(running, server)
        with asked(running, STUCK) as answers:
            pass
        assert last_words(running, worker) == f"(request_timeout): {IN_FLIGHT}"
        assert backend_ends(server, worker)
    assert [answer and answer.status in (500, 504) for answer in answers] == [True]
    assert f"GET '/sleep/': cancelling its query in backend {worker.backend}\n" in running.error_text()
    next_worker(running, server, worker)


def test_stuck_in_python(apache: StartApache, server: Server, generation: Httpd) -> None:
    """Nobody can end it but shutdown-timeout, which kills: the kernel closes the socket."""
    options = f"{overdue(generation)} shutdown-timeout=1"
    running = apache(options=options, given={"httpd": generation})
    with sessions_abandoned(server, 1):
        worker = only_worker(running, server)
        with asked(running, "/busy/?seconds=600"):
            assert last_words(running, worker) == f"(request_timeout): {IN_FLIGHT}"
            assert backend_ends(server, worker)
    assert "cancelling its query" not in running.error_text()


@pytest.mark.usefixtures("mod_wsgi_6")
def test_stuck_query_beside_another(apache: StartApache, server: Server) -> None:
    """With threads, only the request that is overdue loses its query; the other one is finished."""
    running = apache(options="threads=2 request-timeout=1 interrupt-timeout=1 graceful-timeout=0")
    with asked(running, STUCK) as stuck:
        assert eventually(server.sleeping, 1)
        while not stuck:
            assert get(running.port, "/sleep/?seconds=0.3").status == 200
    assert [answer and answer.status in (500, 504) for answer in stuck] == [True]
    assert running.error_text().count("cancelling its query") == 1


def overdue(generation: Httpd) -> str:
    return "request-timeout=1" if generation.old else "request-timeout=1 interrupt-timeout=1"
