"""Snapshots are read whole, by lock and start time, and nothing else in their folder does any harm."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import random
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wsgi_persist.status import (
    Counters,
    Event,
    Inside,
    Leak,
    OutageState,
    PinState,
    Snapshot,
    Totals,
    Worker,
    added,
    read,
)
from wsgi_persist.status.encoding import LARGEST, PLACE, SIZE_OF_MARKS, decoded, encoded
from wsgi_persist.status.files import start_of
from wsgi_persist.status.shape import Malformed

SNAPSHOT = Snapshot(
    worker=Worker(
        "shop", os.getpid(), start_of(os.getpid()), socket.gethostname(), "a", "0.1.0", "process", 1.5
    ),
    written=2.5,
    inside=[Inside("GET '/page/'", 2.0)],
    pins=[PinState("default", "process", "leased", 4711, 1.0, 2, 3, 4, 2.0)],
    counters=Counters(requests=7, lost={"server": 2}),
    outages=[OutageState("other", 2.0, 2.4, "connection refused")],
    events=[Event(1.0, "opened", "default", "", "backend 4711")],
    leaks=[Leak("GET '/page/'", "SET", "SET work_mem = $1", 3)],
    stopped="",
)
NAME = "worker-4711-1500"
MOST = LARGEST + SIZE_OF_MARKS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    return tmp_path / "shop"


@pytest.fixture
def held(folder: Path) -> Iterator[int]:
    """The file of a worker that runs."""
    (folder / NAME).write_bytes(encoded(SNAPSHOT))
    fd = os.open(folder / NAME, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    yield fd
    os.close(fd)


def ignored(folder: Path) -> list[str]:
    (site,) = read(folder)
    assert site.workers == []
    return site.ignored


def body(snapshot: Any) -> Any:
    return json.loads(json.dumps(snapshot, default=vars))


def with_body(text: bytes) -> bytes:
    return b"wsgi_persist 1 %08x %08x %08x\n" % (0, len(text), zlib.crc32(text)) + text


def test_snapshot_comes_back_as_it_was() -> None:
    assert decoded(Snapshot, encoded(SNAPSHOT)) == SNAPSHOT


def test_newer_of_two_places_counts() -> None:
    old, new = encoded(SNAPSHOT, 7), encoded(dataclasses.replace(SNAPSHOT, written=3.5), 8)
    for first, second in ((old, new), (new, old)):
        assert decoded(Snapshot, first.ljust(PLACE, b"x") + second).written == 3.5


def test_worker_killed_while_it_wrote_is_as_it_was_before() -> None:
    torn = encoded(dataclasses.replace(SNAPSHOT, written=3.5), 8)[:-10].ljust(PLACE, b"x")
    assert decoded(Snapshot, torn + encoded(SNAPSHOT, 7)) == SNAPSHOT


def test_what_a_longer_one_left_behind_is_passed_over() -> None:
    assert decoded(Snapshot, encoded(SNAPSHOT) + b'"}') == SNAPSHOT


def test_every_length_but_the_whole_is_refused() -> None:
    data = encoded(SNAPSHOT)
    for length in range(len(data)):
        with pytest.raises(Malformed):
            decoded(Snapshot, data[:length])


def test_random_bytes_are_refused() -> None:
    source = random.Random(7)
    for length in [0, 1, 45, 46, 500] * 200:
        with pytest.raises(Malformed):
            decoded(Snapshot, source.randbytes(length))


def test_every_flipped_byte_is_refused_or_makes_no_difference() -> None:
    data = encoded(SNAPSHOT)
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 0x11]) + data[at + 1 :]
        with contextlib.suppress(Malformed):
            assert decoded(Snapshot, changed) == SNAPSHOT


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"surplus": 1}, "not a Snapshot"),
        ({"written": "now"}, "no time"),
        ({"written": True}, "no time"),
        ({"written": 1e300}, "no time"),
        ({"written": -1}, "no time"),
        ({"written": None}, "no time"),
        ({"inside": {}}, "no list"),
        ({"inside": [7]}, "not a Inside"),
        ({"events": [None] * 5000}, "no list"),
        ({"stopped": "x" * 5000}, "no text"),
        ({"stopped": "\ud800"}, "no text in it"),
        ({"stopped": 7}, "no text"),
        ({"counters": {**body(Counters()), "opened": 1.5}}, "no whole number"),
        ({"counters": {**body(Counters()), "opened": 2**64}}, "no whole number"),
        ({"counters": {**body(Counters()), "lost": {"server": -1}}}, "no whole number"),
        ({"counters": {**body(Counters()), "lost": []}}, "no mapping"),
    ],
)
def test_other_shapes_are_refused(change: dict[str, Any], why: str) -> None:
    text = json.dumps({**body(SNAPSHOT), **change}).encode()
    with pytest.raises(Malformed, match=why):
        decoded(Snapshot, with_body(text))


@pytest.mark.parametrize("text", [b"", b"[]", b"7", b"[" * 60_000, b'{"a": ' * 10_000, b"1" * 60_000, b"NaN"])
def test_other_json_is_refused(text: bytes) -> None:
    with pytest.raises(Malformed):
        decoded(Snapshot, with_body(text))


def test_part_that_is_missing_is_refused() -> None:
    for name in body(SNAPSHOT):
        found = body(SNAPSHOT)
        del found[name]
        with pytest.raises(Malformed, match="not a Snapshot"):
            decoded(Snapshot, with_body(json.dumps(found).encode()))


def test_counters_are_added_one_by_one() -> None:
    one, other = Counters(requests=1, lost={"a": 1, "b": 2}), Counters(requests=2, lost={"b": 3, "c": 4})
    assert added([one, other, Counters()]) == Counters(requests=3, lost={"a": 1, "b": 5, "c": 4})
    assert added([]) == Counters()


def test_running_worker(folder: Path, held: int) -> None:
    (site,) = read(folder.parent)
    assert (site.name, site.ignored) == ("shop", [])
    assert [(seen.state, seen.file, seen.snapshot) for seen in site.workers] == [("running", NAME, SNAPSHOT)]
    assert read(folder) == [site]


def test_worker_without_its_lock_is_dead(folder: Path) -> None:
    (folder / NAME).write_bytes(encoded(SNAPSHOT))
    assert read(folder)[0].workers[0].state == "dead"


def test_worker_that_said_that_it_stops(folder: Path) -> None:
    (folder / NAME).write_bytes(encoded(dataclasses.replace(SNAPSHOT, stopped="atexit")))
    assert read(folder)[0].workers[0].state == "stopped"


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"start": 1}, "dead"),
        ({"start": 0}, "running"),
        ({"pid": 2**22 + 1}, "dead"),
        ({"pid": 2**40}, "running"),
        ({"host": "another", "pid": 2**22 + 1}, "running"),
    ],
)
def test_lock_that_a_child_keeps_is_no_life(
    folder: Path, held: int, change: dict[str, Any], state: str
) -> None:
    worker = dataclasses.replace(SNAPSHOT.worker, **change)
    os.pwrite(held, encoded(dataclasses.replace(SNAPSHOT, worker=worker)), 0)
    assert read(folder)[0].workers[0].state == state


def test_folder_that_is_not_there_has_no_site(tmp_path: Path) -> None:
    assert read(tmp_path / "absent") == []
    assert read(tmp_path) == []


def test_those_that_are_gone_are_counted_once(folder: Path) -> None:
    (folder / NAME).write_bytes(encoded(SNAPSHOT))
    gone = Totals(3, Counters(requests=100), [NAME])
    (folder / "totals").write_bytes(encoded(gone))
    (site,) = read(folder)
    assert site.workers == [], "it is counted there, and its file is about to be removed"
    assert site.counters() == Counters(requests=100)
    (folder / "totals").write_bytes(encoded(dataclasses.replace(gone, folded=[])))
    assert read(folder)[0].counters().requests == 107


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a snapshot"),
        (encoded(SNAPSHOT)[:-1], "cut short or damaged"),
        (encoded(SNAPSHOT).replace(b" 1 ", b" 2 ", 1), "format '2', and this reads 1"),
        (random.Random(7).randbytes(5000), "not a snapshot"),
        (b"x" * (MOST + 1), f"{MOST + 1} bytes, and {MOST} are allowed"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", [NAME, "totals"])
def test_bad_file_is_one_line(folder: Path, name: str, data: bytes, why: str) -> None:
    (folder / name).write_bytes(data)
    assert ignored(folder) == [f"{name!r} is ignored: {why}"]


def test_hundred_megabytes_are_not_read(folder: Path) -> None:
    (folder / NAME).touch()
    os.truncate(folder / NAME, 100_000_000)
    assert ignored(folder) == [f"{NAME!r} is ignored: 100000000 bytes, and {MOST} are allowed"]


def test_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(encoded(SNAPSHOT))
    (folder / NAME).symlink_to(tmp_path / "elsewhere")
    (folder / "totals").symlink_to(tmp_path / "elsewhere")
    assert ignored(folder) == [
        f"{name!r} is ignored: Too many levels of symbolic links" for name in ("totals", NAME)
    ]


def test_linked_folder_is_no_site(folder: Path, held: int) -> None:
    (folder.parent / "other").symlink_to(folder)
    found = read(folder.parent)
    assert [(site.name, len(site.workers)) for site in found] == [(folder.parent.name, 0), ("shop", 1)]
    assert found[0].ignored == ["'other' is ignored: no name of a snapshot"]


def test_fifo_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / NAME)
    assert ignored(folder) == [f"{NAME!r} is ignored: not a plain file"]


def test_folder_in_its_place(folder: Path) -> None:
    (folder / NAME).mkdir()
    assert ignored(folder) == [f"{NAME!r} is ignored: not a plain file"]


def test_file_of_another_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / NAME).write_bytes(encoded(SNAPSHOT))
    monkeypatch.setattr("wsgi_persist.status.site._owner", lambda folder: 4711)
    assert ignored(folder) == [
        f"{NAME!r} is ignored: of user {os.getuid()}, while its folder is of user 4711"
    ]


def test_name_that_is_none(folder: Path) -> None:
    for name in ("core", "worker-1-2.bak", "\n" * 200, os.fsdecode(b"\xff")):
        (folder / name).touch()
    (folder / ".lock").touch()
    found = ignored(folder)
    assert len(found) == 4
    assert all("\n" not in line and len(line) < 300 and line.isascii() for line in found)


def test_bad_file_does_not_hide_the_others(folder: Path, held: int) -> None:
    (folder / "worker-1-1").write_bytes(b"")
    (site,) = read(folder)
    assert [seen.file for seen in site.workers] == [NAME]
    assert len(site.ignored) == 1
