"""The life of a mod_wsgi daemon: preloaded, serving, forking, stopping."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.conftest import Server, abandoned, eventually
from tests.http import get, in_parallel
from tools.apache import Apache

StartApache = Callable[..., Apache]


def warm(running: Apache, opened: int = 1) -> Apache:
    """Wait until the workers have opened so many connections since Apache was first started."""
    assert eventually(lambda: running.error_text().count("opened backend"), opened, timeout=30)
    return running


def test_sixty_pages_of_three_statements(apache: StartApache, server: Server) -> None:
    port = warm(apache()).port
    server.mark()
    for _ in range(60):
        assert get(port, "/three/").text == "three"
    assert (len(server.statements()), server.connections()) == (180, 0)


def test_preloaded_workers_open_nothing_for_their_first_request(apache: StartApache, server: Server) -> None:
    port = warm(apache(processes=2), 2).port
    opened = server.backends()
    server.mark()
    seen: dict[int, int] = {}
    while len(seen) < 2:
        answers = in_parallel(4, lambda: get(port, "/process/").json)
        seen.update((answer["worker"], answer["backend"]) for answer in answers)
    assert server.connections() == 0
    assert sorted(seen.values()) == opened == server.backends()


def test_session_is_named_after_group_and_worker(apache: StartApache, server: Server) -> None:
    running = warm(apache())
    names = [name for (name,) in server("SELECT application_name FROM pg_stat_activity") if "persist" in name]
    assert names == [f"wsgi_persist:site:{running.daemon_pids()[0]}"]


def test_twenty_forking_views(apache: StartApache, server: Server) -> None:
    port = apache().port
    backend = int(get(port, "/pid/").text)
    for _ in range(20):
        answer = get(port, "/fork/")
        assert answer.status == 200
        assert answer.json == {"before": backend, "after": backend, "child": 0}
    assert get(port, "/fork-and-query/").json == {"before": backend, "after": backend, "child": 0}
    assert eventually(server.backends, [backend])


def test_four_threads_under_load(apache: StartApache, server: Server) -> None:
    port = apache(options="threads=4").port
    found = in_parallel(8, lambda: [get(port, "/busy/").json for _ in range(40)])
    answers = [answer for answers in found for answer in answers]
    assert all(answer["first"] == answer["second"] for answer in answers)
    of_thread = {(answer["thread"], answer["first"]) for answer in answers}
    assert len(of_thread) == len({backend for _, backend in of_thread}) == 4
    assert len(server.backends()) == server.connections() == 4


def test_process_scope_with_threads_is_refused_when_the_script_is_loaded(
    apache: StartApache, server: Server
) -> None:
    running = apache(options="threads=4", SITE_OPTIONS='{"persist": {"scope": "process"}}')
    assert get(running.port, "/plain/").status == 500
    assert "mod_wsgi's threads=4): set threads=1 in WSGIDaemonProcess" in running.error_text()


def test_database_down_at_start(apache: StartApache, server: Server) -> None:
    server.connection.close()
    server.cluster.stop()
    try:
        running = apache()
        assert get(running.port, "/plain/").status == 200
        assert get(running.port, "/pid/").status == 503
        assert "not opened at start, the first request that needs it will try again" in running.error_text()
    finally:
        server.cluster.start()
        server.connection = server.connect(application_name="observer")
    assert eventually(lambda: get(running.port, "/pid/").status, 200)
    assert server.backends() == [int(get(running.port, "/pid/").text)]


def test_stopped_under_load_twenty_times(apache: StartApache, server: Server) -> None:
    """Pages of 50 ms and 2 ms from four clients; nothing that we do cuts one."""
    before = abandoned(server)
    for _ in range(20):
        running = apache(processes=2)
        with load(running.port):
            warm(running, 2)
            assert eventually(lambda: server.sleeping() > 0, True)
            running.stop()
            assert eventually(server.backends, [], timeout=3.0)
        log = running.error_text()
        assert log.count("connections closed") == 2, log
        assert "Traceback" not in log
    assert abandoned(server) == before


def test_request_in_flight_at_the_stop_is_finished(apache: StartApache, server: Server) -> None:
    before = abandoned(server)
    running = warm(apache())
    client = threading.Thread(target=lambda: quietly_get(running.port, "/write-slowly/?note=in flight"))
    client.start()
    assert eventually(server.sleeping, 1)
    running.stop()
    client.join()
    assert eventually(server.backends, [], timeout=3.0)
    assert server("SELECT note FROM entry") == [("in flight",)]
    assert "0 connections closed, 1 requests in flight will close theirs" in running.error_text()
    assert abandoned(server) == before


@pytest.mark.usefixtures("mod_wsgi_6")
def test_request_interrupted_at_any_bytecode(apache: StartApache, server: Server) -> None:
    """mod_wsgi raises RequestTimeout, a BaseException, wherever the request's thread is; a worker that is not
    done with that in time it kills, which a busy machine must not bring about here."""
    running = apache(options="request-timeout=1 interrupt-timeout=30")
    for number in range(5):
        answer = get(running.port, f"/query-for-ever/?note={number}")
        assert answer.status in (500, 504)
        assert get(running.port, "/sql/?sql=SELECT 42").text == "42"
        assert get(running.port, f"/write/?note=after {number}").status == 200
    assert server("SELECT note FROM entry ORDER BY id") == [(f"after {number}",) for number in range(5)]


@pytest.mark.usefixtures("mod_wsgi_6")
def test_restart_leaves_no_backend_behind(apache: StartApache, server: Server) -> None:
    before = abandoned(server)
    running = apache(processes=2)
    for number, change in enumerate((running.restart, running.graceful), start=1):
        warm(running, 2 * number)
        change()
        assert get(running.port, "/pid/").status == 200
    warm(running, 6)
    running.stop()
    assert eventually(server.backends, [], timeout=3.0)
    assert abandoned(server) == before


def test_files_are_still_sent_by_the_server(apache: StartApache, server: Server) -> None:
    running = apache()
    first = get(running.port, "/pid/").text
    name = Path(get_settings_file(running))
    assert get(running.port, f"/file-sent-by-server/?name={name}").text == name.read_text()
    assert eventually(lambda: "file closed after 0 reads" in running.error_text(), True)
    assert get(running.port, "/file/").text == "a file"
    assert get(running.port, "/pid/").text == first


def get_settings_file(running: Apache) -> str:
    return f"{running.defines['PERSIST_PROJECT']}/tests/site/settings.py"


@contextmanager
def load(port: int, clients: int = 4) -> Iterator[None]:
    """Requests without a pause; the server may go away under them."""
    stop = threading.Event()

    def run(path: str) -> None:
        while not stop.is_set():
            quietly_get(port, path)

    paths = ["/sleep/?seconds=0.05", "/three/"] * (clients // 2)
    threads = [threading.Thread(target=run, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def quietly_get(port: int, path: str) -> None:
    """Apache may be gone, or cut the answer: what counts is what the worker did."""
    try:
        get(port, path)
    except (OSError, HTTPException):
        time.sleep(0.01)
