"""The files of deploy/ for servers other than Apache, each started for real: workers and threads, a
preloading master, recycling, reload, and a stop in the middle of a request."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import Server, eventually
from tests.http import get, in_parallel
from tests.serving import ROOT, Running, started
from tools.postgres import free_port

SAMPLES = ("gunicorn.conf.py", "uwsgi.ini", "waitress_serve.py")
APP = "tests.site.wsgi:application"
UWSGI = Path(sys.executable).with_name("uwsgi")
needs_uwsgi = pytest.mark.skipif(
    not UWSGI.exists(), reason="no uWSGI beside this Python: pip install uwsgi, which needs a C compiler"
)
COMMANDS = {
    "gunicorn": [sys.executable, "-m", "gunicorn", "--config=gunicorn.conf.py", APP],
    "uwsgi": [str(UWSGI), "--ini=uwsgi.ini"],
    "waitress": [sys.executable, "waitress_serve.py", "--listen=127.0.0.1:{port}", "--threads=4", APP],
}
UWSGI_RECYCLES = ["--max-requests=5", "--max-requests-delta=0", "--min-worker-lifetime=0"]
PREWARM = '{"persist": {"prewarm": true}}'


class Place(NamedTuple):
    """Who keeps a connection: a thread of a worker."""

    worker: int
    thread: int


def of(server: str, *options: str, keep: int = 2) -> Any:
    """A parameter: the command of a server, and how many connections it keeps."""
    marks = [needs_uwsgi] if server == "uwsgi" else []
    return pytest.param([*COMMANDS[server], *options], keep, id=" ".join([server, *options]), marks=marks)


def serving(
    command: list[str], server: Server, folder: Path, **environment: str
) -> AbstractContextManager[Running]:
    """The samples are edited as an operator would, and two workers are enough here."""
    port = free_port()
    for name in SAMPLES:
        text = (ROOT / "deploy" / name).read_text()
        text = text.replace("workers = 4", "workers = 2").replace("processes = 4", "processes = 2")
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("mysite.wsgi:application", APP)
        (folder / name).write_text(text)
    return started(command, server, folder / "log", folder, port, **environment)


def keepers(running: Running, wanted: int, timeout: float = 20.0) -> dict[Place, int]:
    """The backend of each thread of each worker, once so many have answered."""
    found: dict[Place, int] = {}
    give_up = time.monotonic() + timeout
    while len(found) < wanted:
        assert time.monotonic() < give_up, f"{len(found)} of {wanted} answered: {running.log.read_text()}"
        for answer in in_parallel(2 * wanted, lambda: get(running.port, "/busy/").json):
            assert answer["first"] == answer["second"]
            place = Place(answer["worker"], answer["thread"])
            assert found.setdefault(place, answer["first"]) == answer["first"], "it kept its connection"
    return found


def lost(server: Server) -> int:
    """Sessions that ended without a word, idle or in the middle of a query, as the server counts them."""
    sql = "SELECT sessions_abandoned + sessions_fatal FROM pg_stat_database WHERE datname = 'site'"
    return int(server(sql)[0][0])


def workers_of(server: Server) -> dict[int, int]:
    """The worker that opened each backend, by the name of its session."""
    rows = server(
        "SELECT pid, application_name FROM pg_stat_activity WHERE application_name LIKE %s", "wsgi%"
    )
    return {pid: int(name.rpartition(":")[2]) for pid, name in rows}


EACH_WAY = [
    of("gunicorn"),
    of("gunicorn", "--preload"),
    of("gunicorn", "--threads=2", keep=4),
    of("uwsgi"),
    of("uwsgi", "--threads=2", keep=4),
    of("uwsgi", "--lazy-apps", "--skip-atexit-teardown"),
    of("waitress", keep=4),
]


@pytest.mark.parametrize(("command", "keep"), EACH_WAY)
def test_each_keeps_its_own_until_a_stop_that_waits(
    command: list[str], keep: int, server: Server, tmp_path: Path
) -> None:
    before = lost(server)
    with serving(command, server, tmp_path) as running:
        kept = keepers(running, keep)
        assert workers_of(server) == {backend: place.worker for place, backend in kept.items()}
        assert server.connections() == keep
        answers: list[int] = []
        client = threading.Thread(
            target=lambda: answers.append(get(running.port, "/sleep/?seconds=0.5").status)
        )
        client.start()
        assert eventually(server.sleeping, 1)
        running.stop(signal.SIGTERM)
        client.join()
    assert answers == [200]
    assert eventually(server.backends, [])
    assert lost(server) == before


@pytest.mark.parametrize(("command", "keep"), EACH_WAY)
def test_each_ends_with_the_thread_that_looks_after_several_hosts(
    command: list[str], keep: int, server: Server, tmp_path: Path
) -> None:
    before = lost(server)
    with serving(command, server, tmp_path, SITE_HOST="127.0.0.1,127.0.0.1") as running:
        keepers(running, keep)
        running.stop(signal.SIGTERM)
    assert eventually(server.backends, [])
    assert lost(server) == before


@pytest.mark.parametrize(
    ("command", "keep"),
    [of("gunicorn"), of("uwsgi"), of("uwsgi", "--threads=2", keep=4)],
)
def test_reload(command: list[str], keep: int, server: Server, tmp_path: Path) -> None:
    before = lost(server)
    with serving(command, server, tmp_path) as running:
        old = set(keepers(running, keep).values())
        running.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: old & set(server.backends()), set(), timeout=20)
        new = keepers(running, keep)
        assert sorted(new.values()) == server.backends()
        running.stop(signal.SIGTERM)
    assert eventually(server.backends, [])
    assert lost(server) == before


@pytest.mark.parametrize(
    ("command", "keep"),
    [
        of("gunicorn", "--max-requests=5", "--max-requests-jitter=0"),
        of("uwsgi", *UWSGI_RECYCLES, "--threads=2", keep=4),
    ],
)
def test_recycled_workers(command: list[str], keep: int, server: Server, tmp_path: Path) -> None:
    before = lost(server)
    with serving(command, server, tmp_path) as running:
        seen: set[int] = set()

        def four_workers_have_answered() -> bool:
            seen.add(get(running.port, "/process/").json["worker"])
            return len(seen) >= 4

        assert eventually(four_workers_have_answered, True, timeout=30)
        assert eventually(lambda: len(server.backends()) <= keep, True)
        assert lost(server) == before
        # uWSGI may replace a worker although it was told to stop meanwhile, and then never stops.
        running.kill()
    assert eventually(server.backends, [])


@needs_uwsgi
def test_worker_that_uwsgi_lets_go_when_it_is_idle(server: Server, tmp_path: Path) -> None:
    before = lost(server)
    command = [*COMMANDS["uwsgi"], "--cheaper=1", "--cheaper-initial=2"]
    with serving(command, server, tmp_path) as running:
        keepers(running, 2)
        assert eventually(lambda: len(server.backends()), 1, timeout=20)
        assert lost(server) == before


@pytest.mark.parametrize(("command", "keep"), [of("gunicorn", "--preload"), of("uwsgi")])
def test_connection_of_a_preloading_master_stays_its_own(
    command: list[str], keep: int, server: Server, tmp_path: Path
) -> None:
    """prewarm=True is a mistake there: it is of no use, but no worker must touch it."""
    with serving(command, server, tmp_path, SITE_OPTIONS=PREWARM) as running:
        (masters,) = server.backends()
        kept = keepers(running, keep)
        master = running.process.pid
        assert workers_of(server) == {masters: master} | {kept[place]: place.worker for place in kept}
    assert eventually(server.backends, [])


@needs_uwsgi
def test_worker_that_loads_the_application_itself_keeps_what_it_opened(
    server: Server, tmp_path: Path
) -> None:
    """Without a master uWSGI calls the hook for forks where it did not fork."""
    command = [str(UWSGI), "--http-socket=127.0.0.1:{port}", f"--module={APP}"]
    with serving(command, server, tmp_path, SITE_OPTIONS=PREWARM) as running:
        opened = server.backends()
        assert list(keepers(running, 1).values()) == opened == server.backends()


REFUSED = "this server runs requests in greenlets"


@pytest.mark.parametrize(
    "command",
    [
        pytest.param([*COMMANDS["gunicorn"], "--worker-class=gevent"], id="gevent"),
        pytest.param([*COMMANDS["uwsgi"], "--async=2", "--ugreen"], id="uwsgi async", marks=needs_uwsgi),
    ],
)
def test_greenlets_are_refused(command: list[str], server: Server, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=REFUSED), serving(command, server, tmp_path):
        pass


def test_greenlets_that_take_over_later_are_refused(server: Server, tmp_path: Path) -> None:
    command = [*COMMANDS["gunicorn"], "--worker-class=gevent", "--preload"]
    with pytest.raises(AssertionError), serving(command, server, tmp_path):
        pass  # it answers 500
    assert REFUSED in (tmp_path / "log").read_text()


def test_eventlet_is_refused() -> None:
    script = (
        "import eventlet; eventlet.monkey_patch(); from wsgi_persist import PersistMiddleware as p; p(print)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert f"{REFUSED} (eventlet)" in done.stderr
