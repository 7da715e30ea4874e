"""``wsgi-persist status``: the worst worker first, JSON for programs, one line for monitoring."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_status_reader import SNAPSHOT
from wsgi_persist.__main__ import main
from wsgi_persist.command.table import WIDTH, span, table
from wsgi_persist.status import Counters, Event, Inside, Leak, OutageState, Snapshot, read
from wsgi_persist.status.encoding import encoded

Add = Callable[..., Path]
BUSY = "have been busy with one request for more than 10 s"
AWAY = "The database of 'default' has been out of reach for 20 s"


@pytest.fixture(autouse=True)
def no_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of this process may have one, whose database would be asked."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)


@pytest.fixture
def add(tmp_path: Path) -> Iterator[Add]:
    """Adds a worker, which runs if *lock* is true."""
    held: list[int] = []

    def add(pid: int, *, site: str = "shop", lock: bool = True, **changes: Any) -> Path:
        worker = dataclasses.replace(SNAPSHOT.worker, pid=pid, host="elsewhere", started=time.time() - 100)
        well = {
            "inside": [],
            "outages": [],
            "events": [],
            "leaks": [],
            "written": time.time(),
            "worker": worker,
        }
        path = tmp_path / site / f"worker-{pid}-1"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(dataclasses.replace(SNAPSHOT, **{**well, **changes})))
        if lock:
            held.append(os.open(path, os.O_RDWR))
            fcntl.flock(held[-1], fcntl.LOCK_EX)
        return tmp_path

    yield add
    for fd in held:
        os.close(fd)


def fault(kind: str) -> dict[str, Any]:
    now = time.time()
    return {
        "OUTAGE": {"outages": [OutageState("default", now - 20, now, "connection refused")]},
        "SLOW": {"inside": [Inside("GET '/slow/'", now - 40)]},
        "TROUBLE": {"events": [Event(now - 5, "answered_503", "", "GET '/'", "")]},
        "leaks": {"leaks": [Leak("GET '/leak/'", "SET", "SET work_mem = $1", 3)]},
        "ok": {"inside": [Inside("GET '/quick/'", now)]},
    }[kind]


def shown(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["status", str(folder), *options]) == 0
    return capsys.readouterr().out


def test_worst_is_first(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    for pid, kind in enumerate(["ok", "leaks", "TROUBLE", "SLOW", "OUTAGE"], 1):
        folder = add(pid, **fault(kind))
    add(6, lock=False)
    add(7, lock=False, stopped="shutdown_signal")
    lines = shown(folder, capsys).splitlines()
    states = [line.split()[0] for line in lines[2:9]]
    assert states == ["OUTAGE", "SLOW", "DEAD", "TROUBLE", "leaks", "ok", "stopped"]
    assert lines[0] == "shop: 49 requests, 14 connections lost, 0 replays, 0 answered 503"
    assert "40s GET '/slow/'" in lines[3]
    assert "shutdown_signal" in lines[8]
    assert any("left 3 times by GET '/leak/' (SET) SET work_mem = $1" in line for line in lines)
    assert any("answered_503" in line for line in lines)


def test_it_fits_a_terminal_whatever_visitors_send(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    path = "GET '/<script>\x1b[2J\n" + "x" * 3000
    now = time.time()
    folder = add(
        4_000_000,
        site="a-site-with-a-name-that-is-as-long-as-a-name-of-a-file-may-be-and-then-some-more",
        inside=[Inside(path, 1.0)],
        counters=Counters(requests=10**15, answered_503=10**9),
        events=[Event(now, "lost", path, path, path)],
        leaks=[Leak(path, path, path, 10**12)],
    )
    text = shown(folder, capsys)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_folder_without_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(tmp_path / "absent", capsys) == f"No worker tells of itself below {tmp_path / 'absent'}.\n"


def test_what_is_ignored_is_one_line_each(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    folder = add(1)
    (folder / "shop" / "worker-2-2").write_bytes(b"x" * 1000)
    (folder / "shop" / "other").touch()
    for options in ([], ["--json"]):
        assert main(["status", str(folder), *options]) == 0
        found = capsys.readouterr()
        if not options:
            assert found.err.splitlines() == [
                f"wsgi-persist: {folder / 'shop'}: 'other' is ignored: no name of a snapshot",
                f"wsgi-persist: {folder / 'shop'}: 'worker-2-2' is ignored: not a snapshot",
            ]
    assert len(json.loads(found.out)["sites"][0]["ignored"]) == 2


def test_json_has_all(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    folder = add(1, **fault("SLOW"))
    found = json.loads(shown(folder, capsys, "--json"))
    (site,) = read(folder)
    assert set(found) == {"format", "time", "sites", "databases"}
    (told,) = found["sites"]
    assert told["counters"] == vars(site.counters())
    assert (told["name"], told["gone"], told["ignored"]) == ("shop", 0, [])
    (worker,) = told["workers"]
    assert worker.pop("state") == "running"
    assert worker.pop("file") == "worker-1-1"
    assert set(worker) == {field.name for field in dataclasses.fields(Snapshot)}
    assert worker["inside"][0]["request"] == "GET '/slow/'"


@pytest.mark.parametrize(
    ("kinds", "status", "line"),
    [
        (["ok", "ok"], 0, "OK - 2 workers of 1 sites"),
        (["ok", "leaks"], 0, "OK - 2 workers of 1 sites"),
        (
            ["ok", "TROUBLE"],
            1,
            "WARNING - shop: 1 worker lost a connection or failed a request in the last 5 min",
        ),
        (["ok", "SLOW"], 1, f"WARNING - shop: 1 of 2 workers {BUSY}"),
        (["SLOW", "SLOW"], 2, f"CRITICAL - shop: All 2 workers {BUSY}"),
        (["ok", "OUTAGE"], 2, f"CRITICAL - shop: {AWAY}, as 1 of 2 workers found: connection refused"),
        (["ok", "DEAD"], 1, "WARNING - shop: 1 worker ended without a word: pid 2"),
        (["DEAD"], 2, "CRITICAL - shop: No worker runs"),
        (["ok", "junk"], 1, "WARNING - shop: 'junk' is ignored: no name of a snapshot"),
        ([], 2, "CRITICAL - No worker tells of itself"),
    ],
)
def test_check(
    kinds: list[str],
    status: int,
    line: str,
    add: Add,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for pid, kind in enumerate(kinds, 1):
        if kind == "junk":
            (tmp_path / "shop" / "junk").touch()
        else:
            add(pid, lock=False) if kind == "DEAD" else add(pid, **fault(kind))
    assert main(["status", str(tmp_path), "--check"]) == status
    assert capsys.readouterr().out == f"{line}\n"


def test_trouble_is_over_after_a_while(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    folder = add(1, events=[Event(time.time() - 400, "answered_503", "", "GET '/'", "")])
    assert main(["status", str(folder), "--check"]) == 0


def test_outage_that_is_just_over_is_trouble(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    told = [Event(now - 900, "outage", "default", "", ""), Event(now - 5, "in_reach", "default", "", "")]
    assert main(["status", str(add(1, events=told)), "--check"]) == 1


def test_check_is_one_line_whatever_the_driver_says(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    for pid in range(1, 9):
        folder = add(pid, outages=[OutageState(f"tenant{pid}", now - pid, now, "refused\n\tby host")])
    assert main(["status", str(folder), "--check"]) == 2
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert line.count("refused??by host; ") == 5
    assert line.endswith("; and 3 more\n")


def test_watch_draws_until_it_is_interrupted(
    add: Add, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("wsgi_persist.command.status.time.sleep", sleep)
    folder = add(1)
    assert shown(folder, capsys, "--watch").count("\x1b[H\x1b[2J") == 3
    assert naps == [1.0, 1.0, 1.0]


def test_two_ways_to_show_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--watch", "--json"]) == 2
    assert capsys.readouterr().err == "wsgi-persist: --watch and --json: give one\n"


def test_folder_of_the_environment(
    add: Add, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSIST_STATUS", str(add(1)))
    assert main(["status", "--check"]) == 0


def test_query_in_the_database_tells_what_the_file_does_not(add: Add) -> None:
    session = {"backend": 4711, "state": "active", "seconds": 40.0}
    database = {
        "alias": "default",
        "error": "",
        "max_connections": 100,
        "sessions": [session, {"backend": 7, "state": "idle", "seconds": 50.0}],
        "idle_in_transaction": 1,
        "oldest_transaction": 300.0,
    }
    lines = table(read(add(1)), [database, {"alias": "other", "error": "refused"}], time.time())
    assert "40s in a query" in lines[2]
    assert lines[-2] == ("database of default: 2 of 100 connections, 1 idle in transaction, oldest 5m")
    assert lines[-1] == "database of other: refused"


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0s"), (59, "59s"), (119.9, "119s"), (120, "2m"), (7200, "2h"), (10**6, "11d")]
)
def test_spans_are_short(seconds: float, text: str) -> None:
    assert span(seconds) == text
