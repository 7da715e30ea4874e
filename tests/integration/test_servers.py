"""The same code on other servers, each started for real: pins, threads, forks and a clean end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.conftest import Server, abandoned, eventually, site_environment
from tests.http import get, in_parallel
from tests.serving import ROOT, Running, started
from tools.postgres import free_port

APP = "tests.site.wsgi:application"
WSGIREF = """
import sys
from wsgiref.simple_server import make_server
from tests.site.wsgi import application
make_server("127.0.0.1", int(sys.argv[1]), application).serve_forever()
"""
SERVERS = {
    "gunicorn": ["-m", "gunicorn", "--bind=127.0.0.1:{port}", "--workers=1", APP],
    "gunicorn preload": ["-m", "gunicorn", "--bind=127.0.0.1:{port}", "--workers=1", "--preload", APP],
    "gunicorn gthread": ["-m", "gunicorn", "--bind=127.0.0.1:{port}", "--workers=1", "--threads=4", APP],
    "waitress": ["-m", "waitress", "--listen=127.0.0.1:{port}", "--threads=4", APP],
    "wsgiref": ["-c", WSGIREF, "{port}"],
    "runserver": ["-m", "django", "runserver", "--noreload", "127.0.0.1:{port}"],
    "runserver nothreading": [
        *("-m", "django", "runserver", "--noreload", "--nothreading", "127.0.0.1:{port}"),
    ],
}
ONE_AT_A_TIME = ["gunicorn", "gunicorn preload", "wsgiref", "runserver nothreading"]
THREADED = ["gunicorn gthread", "waitress"]


def serving(name: str, server: Server, log: Path, **environment: str) -> AbstractContextManager[Running]:
    return started([sys.executable, *SERVERS[name]], server, log, **environment)


@pytest.mark.parametrize("name", ONE_AT_A_TIME)
def test_one_backend_for_a_server_without_threads(name: str, server: Server, tmp_path: Path) -> None:
    with serving(name, server, tmp_path / "log") as running:
        first = get(running.port, "/pid/").text
        server.mark()
        for _ in range(20):
            assert get(running.port, "/three/").text == "three"
        assert (len(server.statements()), server.connections()) == (60, 0)
        assert get(running.port, "/pid/").text == first
        assert server.backends() == [int(first)]
    assert eventually(server.backends, [])


@pytest.mark.parametrize("name", THREADED)
def test_one_backend_for_each_thread(name: str, server: Server, tmp_path: Path) -> None:
    with serving(name, server, tmp_path / "log") as running:
        found = in_parallel(8, lambda: [get(running.port, "/busy/").json for _ in range(20)])
        answers = [answer for answers in found for answer in answers]
        assert all(answer["first"] == answer["second"] for answer in answers)
        of_thread = {(answer["thread"], answer["first"]) for answer in answers}
        assert len(of_thread) == len({thread for thread, _ in of_thread}) == 4
        assert sorted(backend for _, backend in of_thread) == server.backends()
        assert server.connections() == 4, "no thread ever reconnected"
    assert eventually(server.backends, [])


def test_thread_of_a_development_server_takes_its_pin_along(server: Server, tmp_path: Path) -> None:
    with serving("runserver", server, tmp_path / "log") as running:
        for _ in range(3):
            assert get(running.port, "/pid/").status == 200
            assert eventually(server.backends, [])


@pytest.mark.parametrize("name", [*ONE_AT_A_TIME, *THREADED])
def test_fork_leaves_the_parents_session_whole(name: str, server: Server, tmp_path: Path) -> None:
    with serving(name, server, tmp_path / "log") as running:
        if name in THREADED:  # the pins of all threads are inherited by a child
            in_parallel(8, lambda: [get(running.port, "/busy/") for _ in range(5)])
        get(running.port, "/pid/")
        server.mark()
        for path in ["/fork/"] * 20 + ["/fork-and-query/"] * 5:
            found = get(running.port, path)
            assert found.status == 200
            assert found.json["before"] == found.json["after"]
            assert found.json["child"] == 0
        expected = 0 if name in ONE_AT_A_TIME else 4
        assert server.connections() - 5 <= expected, "only the children that query connect"
        in_parallel(8, lambda: [get(running.port, "/busy/").json for _ in range(5)])
        lost = [line for line in server.log() if "unexpected EOF" in line or "FATAL" in line]
        assert not lost
    assert "ResourceWarning" not in (tmp_path / "log").read_text()


def test_prewarm_by_choice(server: Server, tmp_path: Path) -> None:
    options = '{"persist": {"prewarm": true}}'
    with serving("gunicorn", server, tmp_path / "log", SITE_OPTIONS=options) as running:
        assert eventually(lambda: len(server.backends()), 1)
        server.mark()
        assert get(running.port, "/pid/").text == str(server.backends()[0])
        assert server.connections() == 0
        assert server.statements() == ["SELECT pg_backend_pid()"], "nothing of ours"


def test_worker_that_stops_mid_request_closes_after_it(server: Server, tmp_path: Path) -> None:
    with serving("gunicorn", server, tmp_path / "log") as running:
        before = abandoned(server)
        answers: list[int] = []
        client = threading.Thread(
            target=lambda: answers.append(get(running.port, "/sleep/?seconds=1").status)
        )
        client.start()
        assert eventually(
            lambda: server("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"),
            [(1,)],
        )
        running.process.send_signal(signal.SIGTERM)
        client.join()
        running.process.wait(20)
        assert answers == [200]
    assert eventually(server.backends, [])
    assert abandoned(server) == before


def test_process_scope_refuses_a_threaded_server(server: Server, tmp_path: Path) -> None:
    options = '{"persist": {"scope": "process"}}'
    port_log = tmp_path / "log"
    port = free_port()
    command = [sys.executable, *(part.format(port=port) for part in SERVERS["waitress"])]
    given = {**os.environ, **site_environment(server.cluster, SITE_ALIASES="{}", SITE_OPTIONS=options)}
    with port_log.open("wb") as output:
        process = subprocess.Popen(command, env=given, cwd=ROOT, stdout=output, stderr=output)
    try:
        running = Running(process, port, port_log)
        give_up = time.monotonic() + 20
        while True:
            try:
                assert get(port, "/plain/").status == 500
                break
            except OSError:
                assert time.monotonic() < give_up, port_log.read_text()
                time.sleep(0.05)
        assert 'choose scope="thread"' in port_log.read_text()
    finally:
        running.stop()
