"""What a worker tells of itself agrees with what PostgreSQL and the visitors saw, on real servers."""

from __future__ import annotations

import getpass
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import Server, eventually, site_environment
from tests.http import get, in_parallel
from tests.integration.test_servers import SERVERS
from tests.page.test_answers import ask
from tests.serving import ROOT, Running, started
from tests.site.extra import extra_view
from wsgi_persist import events
from wsgi_persist.status import Counters, Seen, Snapshot, StatusPage, read
from wsgi_persist.status.writer import Writer
from wsgi_persist.worker import process_scope

PASSWORD = "hunter2-is-no-password"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    return tmp_path / "shop"


@pytest.fixture
def snapshot(site: TestApp, folder: Path) -> Iterator[Callable[[], Snapshot]]:
    """What the worker tells now; it hears all that the test does with the site."""
    writer = Writer(folder, "shop")
    events.listen(writer)
    process_scope().hurry()

    def snapshot() -> Snapshot:
        writer.left()
        ((seen,),) = [site.workers for site in read(folder)]
        return seen.snapshot

    yield snapshot
    events.listen(None)
    writer.close()


@pytest.fixture
def visit(site: TestApp) -> Callable[..., Any]:
    """A request whose view does this work."""
    from django.http import HttpResponse

    def visit(work: Callable[[], Any], status: int = 200, **given: Any) -> Any:
        with extra_view(lambda request: HttpResponse(str(work()))):
            return site.request("/extra/", status=status, **given)

    return visit


def query(sql: str, params: Any = None) -> Any:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone()[0] if cursor.description else None


def lost_in_transaction(server: Server) -> None:
    from django.db import transaction

    with transaction.atomic():
        server.terminate(query("SELECT pg_backend_pid()"))
        query("SELECT 1")


def kinds(snapshot: Snapshot) -> list[str]:
    return [event.kind for event in snapshot.events]


def test_pin_is_the_session_that_the_server_has(site: TestApp, server: Server, snapshot: Any) -> None:
    for _ in range(3):
        site.get("/pid/")
    (pin,) = [pin for pin in snapshot().pins if pin.opened]  # others are of earlier tests
    assert (pin.pin, pin.scope, pin.state, pin.leases) == ("default", "process", "open", 3)
    assert server.backends() == [pin.backend]
    ((started,),) = server(
        "SELECT extract(epoch FROM backend_start)::float8 FROM pg_stat_activity WHERE pid = %s", pin.backend
    )
    assert abs(pin.opened - started) < 5
    assert pin.opened <= pin.used <= time.time() + 1


def test_request_is_shown_while_it_is_inside(visit: Any, folder: Path, snapshot: Any) -> None:
    shown: list[Seen] = []
    visit(lambda: shown.extend(read(folder)[0].workers))
    (inside,) = shown[0].snapshot.inside
    assert inside.request == "GET '/extra/'"
    assert read(folder)[0].workers[0].snapshot.inside == []


def test_lost_while_idle(site: TestApp, server: Server, snapshot: Any) -> None:
    server.terminate(int(site.get("/pid/").text))
    site.get("/pid/")
    found = snapshot()
    assert found.counters == Counters(opened=2, lost={"closed_by_server": 1})
    assert kinds(found) == ["opened", "broke", "opened"]


def test_lost_in_a_read_that_is_sent_again(visit: Any, server: Server, snapshot: Any) -> None:
    def work() -> None:
        server.terminate(query("SELECT pg_backend_pid()"))
        query("SELECT 1")

    visit(work)
    found = snapshot()
    assert found.counters == Counters(opened=2, lost={"in_request": 1}, replayed_statements=1)
    assert kinds(found) == ["opened", "replayed", "broke", "opened"]
    assert {event.request for event in found.events} == {"", "GET '/extra/'"}


def test_lost_in_a_transaction(visit: Any, server: Server, snapshot: Any) -> None:
    visit(lambda: lost_in_transaction(server), 503)
    found = snapshot()
    assert found.counters == Counters(opened=1, lost={"in_request": 1}, answered_503=1)
    assert set(kinds(found)) == {"opened", "lost", "broke", "answered_503"}
    assert next(event for event in found.events if event.kind == "lost").text == "its transaction had begun"


def test_session_state_is_told_without_its_values(visit: Any, snapshot: Any) -> None:
    for value in (64000, 65000):
        visit(lambda value=value: query(f"SET work_mem = {value}"))
    found = snapshot()
    assert (found.counters.reset, found.counters.closed_for_good) == (2, 0)
    (leak,) = found.leaks
    assert (leak.request, leak.kind, leak.count) == ("GET '/extra/'", "SET", 2)
    assert leak.statement == "SET work_mem = $1"
    visit(lambda: query("SET my.own = 1"))
    assert snapshot().counters.closed_for_good == 1


def test_transaction_left_open(site: TestApp, snapshot: Any) -> None:
    site.get("/raw-begin/?note=undone")
    found = snapshot()
    assert found.counters.rolled_back == 1
    assert [(leak.request, leak.kind) for leak in found.leaks] == [("GET '/raw-begin/'", "transaction")]


def test_outage_is_told_until_it_is_over(snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from wsgi_persist.policy import Policy
    from wsgi_persist.recovery import Outage

    def refuse() -> None:
        raise ConnectionRefusedError("refused")

    boundary = process_scope().enter({"REQUEST_METHOD": "GET", "PATH_INFO": "/page/"})
    monkeypatch.setattr("wsgi_persist.recovery.outage.speaks_of_loss", lambda error: True)
    outage, now = Outage("default"), time.time()
    with pytest.raises(ConnectionRefusedError):
        outage.connect(refuse, process_scope(), Policy(reconnect_deadline=0.0))
    found = snapshot()
    assert found.counters.outages == 1
    assert found.outages[0].pin == "default"
    assert now <= found.outages[0].since < found.outages[0].next_try
    outage._next_try = 0.0
    outage.connect(lambda: None, process_scope(), Policy())
    assert snapshot().outages == []
    boundary.leave()


def test_request_within_a_request(site: TestApp, snapshot: Any) -> None:
    site.get("/nested/")
    assert snapshot().counters.own_scopes >= 1


def test_nothing_secret_is_told(visit: Any, server: Server, folder: Path, snapshot: Any) -> None:
    def work() -> None:
        query("SELECT %s", [PASSWORD])
        query(f"SELECT '{PASSWORD}'")
        query(f"SELECT set_config('my.own', '{PASSWORD}', false)")
        query(f'SET my.token TO "{PASSWORD}"')
        lost_in_transaction(server)

    headers = {
        "Cookie": f"sessionid={PASSWORD}",
        "Authorization": f"Basic {PASSWORD}",
        "User-Agent": PASSWORD,
    }
    visit(work, 503, method="POST", headers=headers, body=PASSWORD.encode())
    events.tell("outage", "default", text=f"postgresql://me:{PASSWORD}@host/db is no good")
    visit(lambda: query("SET work_mem = 1234"), environ={"QUERY_STRING": PASSWORD})
    snapshot()
    (path,) = folder.iterdir()
    data = path.read_bytes()
    assert b"/extra/" in data
    assert PASSWORD.encode() not in data
    assert b"hunter2" not in data
    page = StatusPage(folder)
    shown = [ask(page)[2], ask(page, "/metrics")[2]]
    page.stop()
    assert "/extra/" in shown[0]
    assert not any(PASSWORD in text or "hunter2" in text for text in shown)


# ##### In servers' own processes #####


def serving(name: str, server: Server, folder: Path, **given: str) -> Any:
    command = [sys.executable, *SERVERS[name]]
    return started(command, server, folder.parent / "log", PERSIST_STATUS=str(folder), **given)


def workers(folder: Path) -> list[Seen]:
    return [seen for site in read(folder) for seen in site.workers]


def states(folder: Path) -> list[str]:
    return sorted(seen.state for seen in workers(folder))


def requests(folder: Path) -> int:
    return sum(site.counters().requests for site in read(folder))


def last_word(running: Running, folder: Path) -> int:
    """Requests that the file knows of, once it tells of all."""
    time.sleep(1.1)
    get(running.port, "/plain/")
    return requests(folder)


@pytest.mark.parametrize("name", ["gunicorn", "gunicorn preload", "wsgiref"])
def test_worker_of_a_server(name: str, server: Server, folder: Path) -> None:
    with serving(name, server, folder) as running:
        backend = int(get(running.port, "/pid/").text)
        for _ in range(9):
            get(running.port, "/pid/")
        assert last_word(running, folder) >= 10
        (seen,) = workers(folder)
        assert seen.state == "running"
        assert [pin.backend for pin in seen.snapshot.pins] == [backend]
        assert seen.snapshot.worker.server.lower().startswith(("gunicorn", "wsgiserver"))
        assert (seen.snapshot.worker.pid == running.process.pid) is (name == "wsgiref")
        assert get(running.port, "/fork-and-query/").status == 200
        assert len(workers(folder)) == 1, "a child that serves nothing has no file"
    (seen,) = workers(folder)
    assert seen.state == "stopped"
    assert seen.snapshot.stopped == "atexit"
    assert seen.snapshot.pins[0].state == "stopped"


def test_threads_share_the_file_of_their_process(server: Server, folder: Path) -> None:
    with serving("waitress", server, folder) as running:
        in_parallel(8, lambda: [get(running.port, "/busy/") for _ in range(10)])
        last_word(running, folder)
        (seen,) = workers(folder)
        assert seen.snapshot.worker.scope == "thread"
        assert sorted(pin.backend for pin in seen.snapshot.pins if pin.opened) == server.backends()
        assert seen.snapshot.counters.requests >= 80
        assert seen.snapshot.inside == [] or seen.snapshot.inside[0].request == "GET '/plain/'"


def test_killed_worker_is_dead_and_its_counters_stay(server: Server, folder: Path) -> None:
    with serving("gunicorn", server, folder) as running:
        for _ in range(5):
            get(running.port, "/pid/")
        before = last_word(running, folder)
        (seen,) = workers(folder)
        os.kill(seen.snapshot.worker.pid, signal.SIGKILL)
        assert eventually(lambda: states(folder), ["dead"])
        assert before <= requests(folder) <= before + 1, "the last one was counted when it left"
        assert get(running.port, "/pid/").status == 200
        assert states(folder) == ["dead", "running"]
        assert requests(folder) >= before


def test_command_asks_the_database_of_the_project(server: Server, folder: Path) -> None:
    with serving("gunicorn", server, folder) as running:
        get(running.port, "/pid/")
        last_word(running, folder)
        found = command(server, folder, "--json")
        (seen,) = workers(folder)
        (pin,) = seen.snapshot.pins
        (database,) = found["databases"]
        assert database["error"] == ""
        assert database["max_connections"] == int(server("SHOW max_connections")[0][0])
        (session,) = [each for each in database["sessions"] if each["backend"] == pin.backend]
        assert session["state"] == "idle"
        assert session["application_name"] == f"wsgi_persist:{seen.snapshot.worker.pid}"


def command(server: Server, folder: Path, *options: str) -> Any:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "wsgi_persist", "status", str(folder)),
            *("--project", str(ROOT), "--wsgi", "tests/site/wsgi.py", "--user", getpass.getuser(), *options),
        ],
        env={**os.environ, **site_environment(server.cluster, SITE_ALIASES="{}")},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_sum_of_a_site_is_that_of_its_visitors(server: Server, folder: Path) -> None:
    """Workers are killed meanwhile; of each, at most what it did in its last second is not told."""
    seen: list[int] = []
    with serving("gunicorn", server, folder) as running:
        for _ in range(3):
            for _ in range(20):
                assert get(running.port, "/plain/").status == 200
            last_word(running, folder)
            seen.append(requests(folder))
            pid = next(each.snapshot.worker.pid for each in workers(folder) if each.state == "running")
            os.kill(pid, signal.SIGKILL)
            assert eventually(lambda: "running" in states(folder), False)
    assert seen == sorted(seen)
    assert len(workers(folder)) == 3


def test_numbers_are_those_of_visitors_and_of_the_server(server: Server, folder: Path) -> None:
    """Sessions are ended under load, in transactions and between; a worker's last word is complete."""
    paths = ["/three/", "/busy/?seconds=0.03", "/pid/", "/plain/"]
    end_all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'wsgi%'"
    statuses: Counter[int] = Counter()
    is_over = threading.Event()

    def harm() -> None:
        while not is_over.wait(0.1):
            server(end_all)

    with serving("gunicorn", server, folder, SITE_DATABASE='{"ATOMIC_REQUESTS": true}') as running:
        statuses[get(running.port, "/plain/").status] += 1
        harmer = threading.Thread(target=harm)
        harmer.start()
        for _ in range(60):
            for path in paths:
                statuses[get(running.port, path).status] += 1
        is_over.set()
        harmer.join()
        get(running.port, "/pid/")
        statuses[200] += 1
    (seen,) = workers(folder)
    counters = seen.snapshot.counters
    assert set(statuses) == {200, 503}
    # One more is that of whoever waits until the server answers.
    assert counters.requests == sum(statuses.values()) + 1
    assert counters.answered_503 == statuses[503]
    killed = sum("terminating connection due to administrator command" in line for line in server.log())
    lost = sum(counters.lost.values())
    assert lost > 5
    assert counters.opened == lost + 1
    # The others were ended before their worker had them.
    assert server.connections() - counters.opened == killed - lost
