"""A request that came in after the last write is seen nevertheless."""

from __future__ import annotations

import os
import signal
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_status_writer import ENVIRON, in_child
from wsgi_persist import PersistMiddleware, Policy, events
from wsgi_persist.status import Seen, read, start
from wsgi_persist.status.encoding import LARGEST, MARKS, SIZE_OF_MARKS
from wsgi_persist.status.mark import Mark, place
from wsgi_persist.status.site import read_site
from wsgi_persist.status.snapshot import UNNAMED
from wsgi_persist.worker import process_scope, registry

Visit = Callable[..., Any]


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder of a site on tmpfs, as /run is."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as found:
        (Path(found) / "shop").mkdir()
        yield Path(found) / "shop"


@pytest.fixture(params=["memory", "tmp_path"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def visit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visit]:
    """A request to a worker that has written just before; what it gives is done inside."""
    monkeypatch.setattr(start, "_writer", None)
    registry.forget_all()
    todo: list[Callable[[], object]] = []
    inside: list[object] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        inside.extend(work() for work in todo)
        return []

    wrapped: Any = PersistMiddleware(app, policy=Policy(status_dir=str(folder)))

    def visit(work: Callable[[], object] = lambda: None) -> object:
        todo[:] = [work]
        wrapped(dict(ENVIRON), print).close()
        return inside.pop()

    visit()
    yield visit
    events.listen(None)
    start._writer.close()  # type: ignore[attr-defined]


def requests(folder: Path) -> list[str]:
    return [inside.request for seen in read_site(folder).workers for inside in seen.snapshot.inside]


def test_request_is_seen_before_it_is_written(visit: Visit, memory: Path, folder: Path) -> None:
    """On a disk, where nothing can be marked, with the next write."""
    found: Any = visit(lambda: read_site(folder).workers[0].snapshot.inside)
    if folder is not memory:
        assert found == []
        return
    assert [inside.request for inside in found] == [UNNAMED]
    assert abs(found[0].since - time.time()) < 60
    assert requests(folder) == []


@pytest.mark.parametrize("folder", ["memory"], indirect=True)
class TestInMemory:
    def test_request_that_the_file_names_is_told_once(self, visit: Visit, folder: Path) -> None:
        process_scope().hurry()
        start._writer._due = 0.0  # type: ignore[attr-defined]
        assert visit(lambda: requests(folder)) == ["GET '/page/'"]
        assert requests(folder) == []

    def test_worker_that_was_killed_inside_is_seen_so(self, visit: Visit, folder: Path) -> None:
        pid = in_child(lambda: (visit(), visit(lambda: os.kill(os.getpid(), signal.SIGKILL))), signal.SIGKILL)
        seen = one(folder, pid)
        assert (seen.state, [inside.request for inside in seen.snapshot.inside]) == ("dead", [UNNAMED])

    def test_child_leaves_the_marks_of_its_parent_alone(self, visit: Visit, folder: Path) -> None:
        def fork() -> list[str]:
            in_child(visit, signal.SIGKILL)
            return [inside.request for inside in one(folder, os.getpid()).snapshot.inside]

        assert visit(fork) == [UNNAMED]

    def test_child_that_ends_its_parents_request_does_so_too(self, visit: Visit, folder: Path) -> None:
        def fork() -> list[str]:
            boundary = process_scope().present()
            in_child(boundary.leave, signal.SIGKILL)  # type: ignore[union-attr]
            return requests(folder)

        assert visit(fork) == [UNNAMED]

    def test_file_that_is_made_again_has_marks(self, visit: Visit, folder: Path) -> None:
        for path in folder.iterdir():
            path.unlink()
        visit(start._writer.left)  # type: ignore[attr-defined]
        assert visit(lambda: requests(folder)) == [UNNAMED]

    def test_lock_ends_with_the_file(self, visit: Visit, folder: Path) -> None:
        start._writer.close()  # type: ignore[attr-defined]
        assert [seen.state for seen in read_site(folder).workers] == ["dead"]

    def test_nobody_but_root_can_cut_the_file_off(self, visit: Visit, folder: Path) -> None:
        (path,) = folder.iterdir()
        assert path.stat().st_mode & 0o777 == 0o440

    @pytest.mark.parametrize("numbers", [[float("nan"), float("inf"), -1.0, 1e300], [0.0] * MARKS])
    def test_marks_that_are_none(self, numbers: list[float], visit: Visit, folder: Path) -> None:
        (path,) = folder.iterdir()
        path.chmod(0o640)
        with path.open("r+b") as file:
            file.seek(LARGEST)
            file.write(struct.pack(f"{len(numbers)}d", *numbers))
        (site,) = read(folder)
        assert (requests(folder), site.ignored) == ([], [])

    def test_marks_that_are_cut_short(self, visit: Visit, folder: Path) -> None:
        start._writer.close()  # type: ignore[attr-defined]
        registry.forget_all()
        (path,) = folder.iterdir()
        path.chmod(0o640)
        os.truncate(path, LARGEST + SIZE_OF_MARKS - 3)
        assert len(read_site(folder).workers) == 1


def one(folder: Path, pid: int) -> Seen:
    (found,) = [seen for seen in read_site(folder).workers if seen.snapshot.worker.pid == pid]
    return found


def test_each_scope_has_a_place_of_its_own_as_long_as_there_are_any() -> None:
    marks, places = [Mark(lambda: None) for _ in range(3)], [[9.0], [9.0]]
    marks[0].since[0] = 5.0
    place(marks, places)
    assert places == [[5.0], [0.0]]
    assert marks[2].since is not places[0]
    assert marks[2].since is not places[1]
    place(marks[1:], places)
    assert marks[2].since is places[0]
    assert marks[1].since is places[1]
