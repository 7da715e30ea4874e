"""Each worker of each server tells of itself in a file, and that it has stopped; their masters have none."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conftest import Server
from tests.http import get, in_parallel
from tests.servers.test_samples import EACH_WAY, keepers, serving
from wsgi_persist.status.site import read_site


@pytest.mark.parametrize(("command", "keep"), EACH_WAY)
def test_one_file_for_each_worker(command: list[str], keep: int, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    with serving(command, server, tmp_path, PERSIST_STATUS=str(folder)) as running:
        kept = keepers(running, keep)
        time.sleep(1.1)
        keepers(running, keep)  # what came at once after the last write is told with the next one
        in_parallel(8, lambda: get(running.port, "/plain/"))
        site = read_site(folder)
        assert site.ignored == []
        assert {seen.state for seen in site.workers} == {"running"}
        told = {
            (seen.snapshot.worker.pid, pin.backend) for seen in site.workers for pin in seen.snapshot.pins
        }
        assert told == {(place.worker, backend) for place, backend in kept.items()}
    site = read_site(folder)
    assert {seen.state for seen in site.workers} == {"stopped"}
    assert len(site.workers) == len({place.worker for place in kept})
