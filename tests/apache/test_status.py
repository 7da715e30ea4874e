"""The workers of a real Apache tell of themselves: where the virtual host says, and until they end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Server, eventually
from tests.http import get
from tests.page.test_prometheus import prometheus, query
from tools import httpd
from tools.apache import Apache, public_folder
from wsgi_persist.status import RUNNING, Seen
from wsgi_persist.status.site import read_site

StartApache = Callable[..., Apache]
ROOT = Path(__file__).parent.parent.parent
PAGE = "/persist-status"


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


def alive(folder: Path) -> list[int]:
    """Process ids. For a moment there may be none: all restart at once."""
    return [seen.snapshot.worker.pid for seen in workers(folder) if seen.state == RUNNING]


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


def test_prometheus_sees_no_counter_go_down(
    apache: StartApache, server: Server, folder: Path, project: Path, tmp_path: Path
) -> None:
    """While workers restart as their requests are counted out, and are killed."""
    shutil.copy(ROOT / "deploy" / "persist_status.py", project)
    running = apache(
        2, "maximum-requests=30", defines={"PERSIST_STATUS_PAGE": PAGE}, PERSIST_STATUS=str(folder)
    )
    job = {
        "job_name": "wsgi_persist",
        "scrape_interval": "1s",
        "metrics_path": f"{PAGE}/metrics",
        "static_configs": [{"targets": [f"127.0.0.1:{running.port}"]}],
    }
    with prometheus({"scrape_configs": [job]}, tmp_path) as port:

        def scraped() -> float:
            return sum(float(each["value"][1]) for each in query(port, "wsgi_persist_requests_total"))

        def visited() -> float:
            assert get(running.port, "/pid/").status == 200
            return scraped()

        for _ in range(6):
            before = scraped()
            assert eventually(lambda before=before: visited() > before + 20, True, timeout=30)
            assert eventually(lambda: alive(folder) != [], True, timeout=20)
            for pid in alive(folder)[:1]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: scraped() == read_site(folder).counters().requests, True, timeout=20)
        states = {"running", "stopped", "dead"}
        assert eventually(lambda: {seen.state for seen in workers(folder)}, states, timeout=20)
        for counter in set(re.findall(r"wsgi_persist_\w+_total", get(running.port, f"{PAGE}/metrics").text)):
            found = {each["value"][1] for each in query(port, f"resets({counter}[10m])")}
            assert found <= {"0"}, counter
        assert query(port, "resets(wsgi_persist_requests_total[10m])") != []
