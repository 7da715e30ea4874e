"""Each process has one file of its own, however it is forked, killed or kept from writing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wsgi_persist import PersistMiddleware, Policy, events
from wsgi_persist.status import Counters, Site, Snapshot, read, start
from wsgi_persist.status.encoding import PLACE
from wsgi_persist.status.files import took_lock
from wsgi_persist.status.site import read_site
from wsgi_persist.status.tidy import MOST, tidy
from wsgi_persist.status.writer import Writer
from wsgi_persist.worker import process_scope, registry

ENVIRON = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/page/", "wsgi.multithread": False}


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    return []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    return tmp_path / "shop"


@pytest.fixture
def writer(folder: Path, clock: Clock) -> Iterator[Writer]:
    registry.forget_all()
    writer = Writer(folder, "shop")
    events.listen(writer)
    yield writer
    events.listen(None)
    writer.close()


class Clock:
    now = 5000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The writer's, for its pauses."""
    clock = Clock()
    monkeypatch.setattr("wsgi_persist.status.writer.monotonic", clock)
    return clock


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The places that were written, in turn."""
    found: list[int] = []
    put = os.pwrite

    def noting(fd: int, data: bytes, offset: int) -> int:
        found.append(offset)
        return put(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", noting)
    return found


def snapshot(folder: Path) -> Snapshot:
    (site,) = read(folder)
    assert site.ignored == []
    (seen,) = site.workers
    assert seen.state == "running"
    return seen.snapshot


def test_nothing_is_written_before_anything_happens(writer: Writer, folder: Path) -> None:
    assert list(folder.iterdir()) == []


def test_event_is_written_at_once(writer: Writer, folder: Path) -> None:
    events.tell("opened", "default", text="backend 4711")
    found = snapshot(folder)
    assert (found.worker.site, found.worker.pid, found.worker.scope) == ("shop", os.getpid(), "process")
    assert found.counters == Counters(opened=1)
    assert found.events[0].text == "backend 4711"


def test_file_is_for_its_owner_and_group(writer: Writer, folder: Path) -> None:
    events.tell("opened")
    (path,) = folder.iterdir()
    assert path.stat().st_mode & 0o137 == 0


def test_two_events_a_second_are_written(
    writer: Writer, folder: Path, clock: Clock, writes: list[int]
) -> None:
    for step in range(80):
        clock.now = 5000.0 + step / 8
        events.tell("opened")
    assert len(writes) == 21, "two at the start, as nothing was written before"
    assert writes[:4] == [0, PLACE, 0, PLACE]
    clock.now += 0.5
    writer.look(clock.now, ENVIRON)
    assert snapshot(folder).counters.opened == 80


def test_boundary_is_written_once_a_second(writer: Writer, clock: Clock, writes: list[int]) -> None:
    for step in range(80):
        now = clock.now = 5000.0 + step / 8
        assert now < writer.look(now, ENVIRON) <= now + 1.0
    assert len(writes) == 10


def test_request_is_shown_while_it_is_inside_and_not_longer(writer: Writer, folder: Path) -> None:
    boundary = process_scope().enter(ENVIRON)
    (inside,) = snapshot(folder).inside
    assert inside.request == "GET '/page/'"
    assert abs(inside.since - time.time()) < 60
    boundary.leave()
    assert snapshot(folder).inside == []


def test_busy_worker_writes_twice_a_second(writer: Writer, clock: Clock, writes: list[int]) -> None:
    scope = process_scope()
    scope._clock = clock
    for step in range(2000):
        clock.now = 5000.0 + step / 500
        boundary = scope.enter(ENVIRON)
        events.tell("answered_503")
        boundary.leave()
    assert len(writes) <= 2 * 4 + 1, "its last request has to be seen leaving"


def test_usual_request_reads_the_clock_once_and_writes_nothing(
    writer: Writer, clock: Clock, writes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = process_scope()
    process_scope().enter(ENVIRON).leave()
    readings: list[float] = []

    def read() -> float:
        readings.append(clock.now)
        return clock.now

    scope._clock = read
    monkeypatch.setattr("wsgi_persist.status.writer.monotonic", read)
    monkeypatch.setattr(time, "time", read)
    writes.clear()
    for _ in range(100):
        scope.enter(ENVIRON).leave()
    assert (len(readings), writes) == (100, [])


def test_numbers_alone_are_not_written(writer: Writer, folder: Path) -> None:
    events.tell("reset")
    assert list(folder.iterdir()) == []
    events.tell("opened")
    assert snapshot(folder).counters.reset == 1


def test_requests_are_counted(folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "_writer", None)
    registry.forget_all()
    wrapped = PersistMiddleware(app, policy=Policy(status_dir=str(folder)))
    try:
        for _ in range(3):
            wrapped(dict(ENVIRON), print).close()  # type: ignore[attr-defined]
        start._writer.left()  # type: ignore[attr-defined]
        assert snapshot(folder).counters.requests == 3
    finally:
        events.listen(None)
        start._writer.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("given", [None, ""])
def test_without_a_folder_nobody_listens(given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "_writer", None)
    monkeypatch.delenv("PERSIST_STATUS", raising=False)
    if given is not None:
        monkeypatch.setenv("PERSIST_STATUS", given)
    wrapped = PersistMiddleware(app)
    assert events._listener is None
    assert wrapped._app is app


def test_forked_child_has_a_file_of_its_own(writer: Writer, folder: Path) -> None:
    events.tell("opened")
    pid = in_child(lambda: events.tell("outage"), signal.SIGKILL)
    (site,) = read(folder)
    states = {seen.snapshot.worker.pid: (seen.state, seen.snapshot.counters) for seen in site.workers}
    assert states == {
        os.getpid(): ("running", Counters(opened=1)),
        pid: ("dead", Counters(outages=1)),
    }


def test_child_without_a_request_has_none(writer: Writer, folder: Path) -> None:
    events.tell("opened")
    in_child(lambda: events.tell("stopped", text="atexit"), signal.SIGKILL)
    assert len(list(folder.iterdir())) == 1
    assert snapshot(folder).stopped == ""


def test_child_that_lives_on_does_not_keep_the_worker_alive(folder: Path, clock: Clock) -> None:
    read_end, write_end = os.pipe()

    def fork_and_die() -> None:
        events.listen(Writer(folder, "shop"))
        events.tell("opened")
        if os.fork() == 0:
            os.close(write_end)
            os.read(read_end, 1)  # until the test is over
            os._exit(0)

    in_child(fork_and_die, signal.SIGKILL)
    os.close(read_end)
    (site,) = read(folder)
    assert [seen.state for seen in site.workers] == ["dead"]
    os.close(write_end)


def in_child(work: Callable[[], object], end: signal.Signals) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.kill(os.getpid(), end)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -end
    return pid


def test_orderly_end_is_told(writer: Writer, folder: Path) -> None:
    events.tell("opened")
    events.tell("stopped", text="shutdown_signal")
    assert snapshot(folder).stopped == "shutdown_signal"
    writer.close()
    (site,) = read(folder)
    assert [seen.state for seen in site.workers] == ["stopped"]


def test_file_that_was_removed_is_made_again(writer: Writer, folder: Path, clock: Clock) -> None:
    events.tell("opened")
    for path in folder.iterdir():
        path.unlink()
    clock.now += 1
    events.tell("opened")
    assert snapshot(folder).counters.opened == 2


def test_descriptor_that_is_another_files_by_now_is_left_alone(
    writer: Writer, folder: Path, clock: Clock, tmp_path: Path
) -> None:
    """As after a daemon has closed all that it inherited."""
    events.tell("opened")
    fd = writer._slot._fd
    (tmp_path / "other").write_text("untouched")
    with (tmp_path / "other").open("r+") as other:
        os.dup2(other.fileno(), fd)
        clock.now += 1
        events.tell("opened")
        os.close(fd)
        clock.now += 1
        events.tell("opened")
    assert (tmp_path / "other").read_text() == "untouched"
    assert sorted(seen.state for seen in read(folder)[0].workers) == ["dead", "running"]
    os.close(writer._slot._fd)
    clock.now += 1
    events.tell("opened")
    assert len(read(folder)[0].workers) == 3


def test_large_snapshot_is_cut_to_its_place(writer: Writer, folder: Path, clock: Clock) -> None:
    for number in range(60):
        events.tell("lost", request=f"{number}" + "\U0001f600" * 500, text="\U0001f600" * 500)
    clock.now += 1
    events.tell("lost", request="the last")
    found = snapshot(folder)
    assert found.events[-1].request == "the last"
    assert 10 < len(found.events) < 50
    assert all(path.stat().st_size <= 2 * PLACE for path in folder.iterdir())


@pytest.mark.parametrize("fault", ["missing", "file", "foreign", "full"])
def test_what_cannot_be_written_is_one_line(
    fault: str,
    writer: Writer,
    folder: Path,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if fault == "foreign":
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
    elif fault == "full":
        monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: 7)
    else:
        folder.rmdir()
        if fault == "file":
            folder.touch()
    for _ in range(5):
        clock.now += 11
        events.tell("opened")
        process_scope().enter(ENVIRON).leave()
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("the status of this worker cannot be written: [Errno ")
    assert not caplog.records[0].exc_info
    monkeypatch.undo()
    assert [path for path in folder.parent.rglob("*") if path.is_file()] == (
        [folder] if fault == "file" else []
    )


def test_fault_of_ours_ends_no_request(
    writer: Writer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("wsgi_persist.status.writer.pins", fail)
    process_scope().enter(ENVIRON).leave()
    assert caplog.messages == ["the status of this worker cannot be written: a fault"]
    assert caplog.records[0].exc_info


def test_event_in_the_midst_of_a_write_waits_for_nothing(writer: Writer, folder: Path, clock: Clock) -> None:
    """As when the garbage collector ends a response there."""
    writer._account.counters = lambda requests: (  # type: ignore[method-assign]
        events.tell("outage"),
        Counters(requests=requests),
    )[1]
    events.tell("opened")
    del writer._account.counters
    clock.now += 1
    events.tell("opened")
    assert snapshot(folder).counters == Counters(opened=2, outages=1)


# ##### What the dead leave #####


def killed(folder: Path, requests: int = 1) -> None:
    def work() -> None:
        writer = Writer(folder, "shop")
        writer._requests = requests
        writer.hear("opened", "default", "", "", {})

    in_child(work, signal.SIGKILL)


def gone_by(folder: Path) -> tuple[int, int, int]:
    (site,) = read(folder)
    return len(site.workers), site.gone.workers, site.counters().requests


def test_dead_worker_is_shown_for_a_while_then_counted(folder: Path, clock: Clock) -> None:
    killed(folder, requests=5)
    assert gone_by(folder) == (1, 0, 5)
    (site,) = read(folder)
    assert site.workers[0].snapshot.events[-1].kind == "opened"
    tidy(site, kept=-1.0)
    assert gone_by(folder) == (0, 1, 5)
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "totals"]


def test_thousand_killed_workers_leave_no_file_and_every_count(folder: Path, clock: Clock) -> None:
    most = 0
    for number in range(1, 1001):
        killed(folder)
        if number % 10 == 0:
            site = read_site(folder)
            assert site.counters().requests == site.counters().opened == number
            most = max(most, len(site.workers))
    assert most <= MOST + 1, "each that starts removes what others have left"
    tidy(read_site(folder), kept=-1.0)
    assert gone_by(folder) == (0, 1000, 1000)
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "totals"]


def test_sum_never_goes_down_while_others_tidy(folder: Path, clock: Clock) -> None:
    """Two processes tidy as fast as they can, one reads."""
    for _ in range(30):
        killed(folder)
    children = [forked_tidier(folder) for _ in range(2)]
    seen = []
    for _ in range(200):
        site = read_site(folder)
        seen.append(site.counters().requests)
        if not site.workers:
            break
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    assert set(seen) == {30}
    assert gone_by(folder) == (0, 30, 30)


def forked_tidier(folder: Path) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            while (site := read_site(folder)).workers:
                tidy(Site(site.name, folder, site.workers[:1], site.gone, []), kept=-1.0)
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def test_who_is_killed_while_it_tidies_counts_nobody_twice(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(folder)
    monkeypatch.setattr("wsgi_persist.status.tidy._remove", lambda folder, names: None)
    tidy(read_site(folder), kept=-1.0)
    monkeypatch.undo()
    assert gone_by(folder) == (0, 1, 1)
    killed(folder)
    tidy(read_site(folder), kept=-1.0)
    assert gone_by(folder) == (0, 2, 2)
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "totals"]


def test_running_worker_is_never_removed(writer: Writer, folder: Path) -> None:
    events.tell("opened")
    tidy(read_site(folder), kept=-1.0)
    assert snapshot(folder).counters.opened == 1


def test_one_tidies_at_a_time(folder: Path, clock: Clock) -> None:
    killed(folder)
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    assert took_lock(fd)
    tidy(read_site(folder), kept=-1.0)
    assert gone_by(folder) == (1, 0, 1)
    os.close(fd)


def test_totals_that_cannot_be_read_are_not_written_over(folder: Path, clock: Clock) -> None:
    killed(folder)
    (folder / "totals").write_bytes(b"another format")
    (site,) = read(folder)
    assert len(site.ignored) == 1
    with pytest.raises(ValueError, match="not a snapshot"):
        tidy(site, kept=-1.0)
    assert (folder / "totals").read_bytes() == b"another format"
    assert len(read_site(folder).workers) == 1


def test_draft_of_a_killed_worker_is_removed(folder: Path, clock: Clock) -> None:
    killed(folder)
    old, new = folder / ".worker-1-1", folder / ".worker-2-2"
    for draft in (old, new):
        draft.touch()
    os.utime(old, (1, 1))
    tidy(read_site(folder), kept=-1.0)
    assert (old.exists(), new.exists()) == (False, True)
