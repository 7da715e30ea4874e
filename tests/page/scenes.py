"""Runtime folders as workers leave them: who is busy, who was killed, what was lost."""

from __future__ import annotations

import fcntl
import os
import random
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

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
)
from wsgi_persist.status.encoding import encoded
from wsgi_persist.status.files import TOTALS, name_of_file, start_of

LEAKS = [
    Leak("GET '/report/'", "SET", "SET work_mem = $1", 31),
    Leak("POST '/import/'", "temporary table", "CREATE TEMP TABLE rows (id int)", 4),
]


class Scene:
    """Files of workers below *folder*. A worker runs as long as this process does: theirs are locked by it,
    and all have its pid."""

    def __init__(self, folder: Path, now: float) -> None:
        self.folder = folder
        self.now = now
        self._held: list[int] = []
        self._random = random.Random(16)

    def worker(self, site: str, number: int, *, dead: bool = False, **given: Any) -> Path:
        """One whose snapshot has these parts."""
        started = self.now - 3000 - number
        snapshot = replace(self.usual(site, number, started), **given)
        folder = self.folder / site
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name_of_file(snapshot.worker.pid, started)
        path.write_bytes(encoded(snapshot))
        if not dead:
            self._held.append(os.open(path, os.O_RDWR))
            fcntl.flock(self._held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        return path

    def usual(self, site: str, number: int, started: float) -> Snapshot:
        pid, now = os.getpid(), self.now
        name = site.encode("ascii", "replace").decode()
        where = (start_of(pid), socket.gethostname(), "mod_wsgi 6.0.0", "0.1.0", "process")
        worker = Worker(name, pid, *where, started)
        opened, leases = now - 60 - self._random.random() * 1500, self._random.randrange(100, 9000)
        pin = PinState("default", "process", "open", 4000 + number, opened, leases, 2, 1, now - 1)
        event = Event(opened, "opened", "default", "", f"backend {4000 + number}")
        counters = Counters(requests=leases, opened=2, closed={"max_age": 1})
        return Snapshot(worker, now - 0.5, [], [pin], counters, [], [event], [], "")

    def busy(self, site: str, number: int, request: str, seconds: float, **given: Any) -> Path:
        return self.worker(site, number, inside=[Inside(request, self.now - seconds)], **given)

    def out_of_reach(self, site: str, number: int, seconds: float) -> Path:
        since = self.now - seconds
        told = 'connection to server at "10.0.0.5", port 5432 failed: Connection refused'
        lost = "the server closed it"
        return self.worker(
            site,
            number,
            pins=[PinState("default", "process", "empty", 0, None, 0, 0, 0, None)],
            outages=[OutageState("default", since, self.now + 1.2, told)],
            counters=Counters(900, 1, {"closed_by_server": 1}, answered_503=12, outages=1),
            events=[
                Event(since - 0.1, "broke", "default", "GET '/'", lost),
                Event(since, "outage", "default", "GET '/'", told),
            ],
        )

    def gone(self, site: str, totals: Totals) -> None:
        (self.folder / site / TOTALS).write_bytes(encoded(totals))

    def close(self) -> None:
        for fd in self._held:
            os.close(fd)
