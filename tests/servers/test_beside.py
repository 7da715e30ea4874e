"""Requests beside downloads that do not end, on servers that close responses late."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from itertools import chain, count, takewhile
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.conftest import Server, eventually
from tests.faults.faults import Faults
from tests.http import get, in_parallel
from tests.integration.test_session import KINDS
from tests.servers.test_samples import APP, UWSGI, needs_uwsgi
from tests.serving import Running, started
from tools.postgres import Cluster

pytestmark = pytest.mark.usefixtures("what_leaks")

WRITES = 1_000
BJOERN = (
    "import bjoern; from tests.site.wsgi import application; bjoern.run(application, '127.0.0.1', {port})"
)
needs_bjoern = pytest.mark.skipif(
    find_spec("bjoern") is None, reason="bjoern is not installed (libev-dev, and: pip install bjoern)"
)
LATE = [sys.executable, "-m", "tests.servers.late", "{port}"]
WAITRESS = [sys.executable, "-m", "waitress", "--listen=127.0.0.1:{port}", APP]
OF_UWSGI = [str(UWSGI), "--http-socket=127.0.0.1:{port}", f"--module={APP}", "--need-app", "--die-on-term"]


def of(server: str, command: list[str], *paths: str, marks: Any = ()) -> Any:
    """A parameter: how a server is started, and what is downloaded from it meanwhile."""
    return pytest.param(command, paths, id=server, marks=marks)


each_server = pytest.mark.parametrize(
    ("command", "downloads"),
    [
        of("late, 1 thread", [*LATE, "1"], "/file/", "/stream/", "/stream-from-cursor/"),
        of("late, 8 threads", [*LATE, "8"], "/file/", "/stream/", "/stream-from-cursor/"),
        of("waitress, 1 thread", [*WAITRESS[:-1], "--threads=1", APP], "/file/"),
        of("waitress, 8 threads", [*WAITRESS[:-1], "--threads=8", APP], "/file/"),
        of(
            "bjoern",
            [sys.executable, "-c", BJOERN],
            "/file/",
            "/stream/",
            "/stream-from-cursor/",
            marks=needs_bjoern,
        ),
        of("uWSGI, 1 thread", OF_UWSGI, marks=needs_uwsgi),
        of(
            "uWSGI, 8 threads",
            [*OF_UWSGI, "--threads=8"],
            "/file/",
            "/stream-from-cursor/",
            marks=needs_uwsgi,
        ),
    ],
)


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A server with some downloads under way, of which nobody takes more than the first bytes."""
    (tmp_path / "file").write_bytes(bytes(1 << 26))
    large = {"/file/": f"?name={tmp_path}/file", "/stream/": "?pieces=1000&padding=1000000"}

    @contextmanager
    def serving(command: list[str], server: Server, downloads: tuple[str, ...]) -> Iterator[Running]:
        with started(command, server, tmp_path / "log") as running, ExitStack() as clients:
            for path in downloads:
                query = large.get(path, "?padding=1000000")
                clients.enter_context(download(running.port, path + query))
            yield running

    return serving


@contextmanager
def download(port: int, path: str) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        assert client.recv(12).endswith(b"200")
        yield client


def run(port: int, statements: list[str]) -> int:
    return get(port, "/run/?" + urlencode([("sql", statement) for statement in statements])).status


@each_server
def test_state_never_crosses(command: Any, downloads: Any, serving: Any, server: Server) -> None:
    with serving(command, server, downloads) as running:
        clean = get(running.port, "/session/").text
        for kind, (statements, _) in KINDS.items():
            assert run(running.port, statements) == 200
            assert {get(running.port, "/session/").text for _ in range(8)} == {clean}, kind
        running.kill()


@each_server
def test_every_write_that_was_answered_200_is_saved_once(
    command: Any, downloads: Any, serving: Any, server: Server, notes: Any
) -> None:
    numbers = count()

    def write() -> list[str]:
        saved = []
        for number in takewhile(lambda number: number < WRITES, numbers):
            if number % 20 == 0:  # among requests that leave a transaction or a search_path
                get(running.port, "/manual-transaction/?note=left")
                run(running.port, ["SET search_path = 'pg_catalog'"])
            how = "write-in-atomic" if number % 2 else "write"
            if get(running.port, f"/{how}/?note={number}").status == 200:
                saved.append(str(number))
        return saved

    with serving(command, server, downloads) as running:
        answered = list(chain.from_iterable(in_parallel(8, write)))
        running.kill()
    assert sorted(answered) == sorted(map(str, range(WRITES)))
    assert sorted(notes()) == sorted(answered)


@each_server
def test_server_restarted_five_times(
    command: Any, downloads: Any, serving: Any, victim: Cluster, driver: ModuleType
) -> None:
    """No request fails that would not with none beside it: reads wait for the server, and are sent again."""
    server = Server(victim, driver)
    server.connection.close()
    faults = Faults(victim, driver)
    statuses: list[int] = []

    def read() -> None:
        statuses.extend(get(running.port, "/pid/").status for _ in range(5))

    with serving(command, server, downloads) as running:
        for _ in range(5):
            in_parallel(4, read)
            faults.restart()
            in_parallel(4, read)
        running.kill()
    assert statuses == [200] * 200


def test_answers_that_overlap_on_a_thread_share_its_connection(
    serving: Any, server: Server, tmp_path: Path
) -> None:
    with serving([*LATE, "1"], server, ()) as running:
        found = in_parallel(8, lambda: {get(running.port, "/pid/").text for _ in range(75)})
        assert [{str(backend) for backend in server.backends()}] * 8 == found
        assert server.connections() == 1
        running.kill()
    assert "WARNING" not in (tmp_path / "log").read_text()


def test_download_that_ends_leaves_its_thread_one_connection(
    serving: Any, server: Server, tmp_path: Path
) -> None:
    with serving([*LATE, "1"], server, ()) as running:
        for _ in range(3):
            with download(running.port, "/stream/?pieces=1000&padding=1000000"):
                assert {get(running.port, "/pid/").status for _ in range(20)} == {200}
                assert len(server.backends()) == 2
            assert eventually(lambda: len(server.backends()), 1)
        running.kill()
    told = "GET '/stream/' keeps its connections until its response is closed"
    assert (tmp_path / "log").read_text().count(told) == 1


def test_download_that_waitress_gives_up_is_over(serving: Any, server: Server, tmp_path: Path) -> None:
    command = [*WAITRESS[:-1], "--threads=1", "--channel-timeout=1", "--cleanup-interval=1", APP]
    with serving(command, server, ()) as running:

        def is_open() -> bool:
            files = Path(f"/proc/{running.process.pid}/fd").iterdir()
            return str(tmp_path / "file") in map(os.path.realpath, files)

        first = get(running.port, "/pid/").text
        with download(running.port, f"/file/?name={tmp_path}/file") as client:
            while is_open():
                # Too slow; and waitress closes what is too slow when it can be written to again.
                assert {get(running.port, "/pid/").text for _ in range(20)} == {first}
                time.sleep(2.5)
                client.recv(1 << 26, socket.MSG_WAITALL | socket.MSG_DONTWAIT)
        assert server.connections() == 1
        running.kill()
    assert not re.search("WARNING wsgi_persist|ERROR|Traceback", (tmp_path / "log").read_text())
