"""Workers that are killed, time and again: their files go, and their counters stay."""

from __future__ import annotations

import os
import signal
from collections import deque
from dataclasses import replace
from pathlib import Path

from tests.page.scenes import Scene
from wsgi_persist.status import Counters
from wsgi_persist.status.files import LOCK, TOTALS
from wsgi_persist.status.site import read_site
from wsgi_persist.status.slot import Slot
from wsgi_persist.status.tidy import MOST, tidy

WORKERS, AT_ONCE = 1000, 8


def start(scene: Scene, folder: Path, number: int) -> int:
    """One that serves three requests, and is killed while it holds its file."""
    if pid := os.fork():
        return pid
    try:
        counters = Counters(requests=3, lost={"no_answer": 1})
        Slot(folder).write(replace(scene.usual("site", number, scene.now), counters=counters))
    finally:
        os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it is killed")


def test_thousand_killed_workers_leave_no_file_and_no_counter_goes_down(tmp_path: Path) -> None:
    scene, folder, before = Scene(tmp_path, 1_000_000.0), tmp_path / "site", 0
    folder.mkdir()
    running: deque[int] = deque()
    for number in range(WORKERS):
        running.append(start(scene, folder, number))
        if len(running) == AT_ONCE:
            os.waitpid(running.popleft(), 0)
        now = read_site(folder).counters().requests
        assert now >= before
        before = now
    for pid in running:
        os.waitpid(pid, 0)
    site = read_site(folder)
    assert (site.ignored, site.counters().requests) == ([], 3 * WORKERS)
    assert site.counters().lost == {"no_answer": WORKERS}
    assert len(site.workers) <= MOST + AT_ONCE
    tidy(site, kept=0.0)
    assert {path.name for path in folder.iterdir()} <= {TOTALS, LOCK}
    assert read_site(folder).counters().requests == 3 * WORKERS
