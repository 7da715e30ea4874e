"""The workers of a real Apache tell of themselves: where the virtual host says, and until they end."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Server, eventually
from tests.http import get
from tools import httpd
from tools.apache import Apache, public_folder
from wsgi_persist.status import Seen
from wsgi_persist.status.site import read_site

StartApache = Callable[..., Apache]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Of the daemons' user."""
    root = public_folder("status")
    (root / "shop").mkdir()
    if os.geteuid() == 0:
        user = httpd.daemon_user()
        os.chown(root / "shop", user.pw_uid, user.pw_gid)
    yield root / "shop"
    shutil.rmtree(root)


def workers(folder: Path) -> list[Seen]:
    site = read_site(folder)
    assert site.ignored == []
    return site.workers


def told(seen: Seen) -> tuple[str, list[str]]:
    return seen.state, [event.kind for event in seen.snapshot.events]


def test_virtual_host_says_where(apache: StartApache, server: Server, folder: Path) -> None:
    running = apache(defines={"PERSIST_STATUS": folder}, given={"modules": ["env"]})
    for _ in range(5):
        backend = int(get(running.port, "/pid/").text)
    time.sleep(1.1)  # what came at once after the last write is told with the next one
    get(running.port, "/pid/")
    (seen,) = workers(folder)
    worker = seen.snapshot.worker
    assert (worker.site, worker.pid, worker.scope) == ("site", running.daemon_pids()[0], "process")
    assert worker.server.startswith("mod_wsgi ")
    assert [pin.backend for pin in seen.snapshot.pins] == [backend]
    assert seen.snapshot.counters.requests == 6
    running.stop()
    (seen,) = workers(folder)
    assert (seen.state, seen.snapshot.stopped != "") == ("stopped", True)


def test_worker_that_is_killed_is_followed_by_another(
    apache: StartApache, server: Server, folder: Path
) -> None:
    """The warm-up is told before any request."""
    apache(PERSIST_STATUS=str(folder))
    assert eventually(lambda: list(map(told, workers(folder))), [("running", ["opened"])], timeout=20)
    (seen,) = workers(folder)
    os.kill(seen.snapshot.worker.pid, signal.SIGKILL)
    assert eventually(lambda: sorted(seen.state for seen in workers(folder)), ["dead", "running"], timeout=20)


def test_without_a_folder_nothing_is_told(apache: StartApache, server: Server, folder: Path) -> None:
    running = apache()
    get(running.port, "/pid/")
    running.stop()
    assert workers(folder) == []
    assert "status" not in running.error_text()
