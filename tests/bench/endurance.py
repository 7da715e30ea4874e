"""One worker and very many requests: what has grown between the thousandth and the last."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.burst import Driver
from tests.bench.plan import PAGES
from tests.bench.processes import memory, wait_until_idle
from tests.bench.progress import Progress
from tests.bench.results import BACKEND, BLOCKS, FILES, OBJECTS, PSS, RSS, THREADS, Growth
from tests.bench.stage import Stage
from tests.bench.variants import OURS
from tests.http import get
from tools.apache import Apache

CENSUS = "/bench/census/"
FIRST = 1_000
# Seconds: of load before the first census, at a time, and between two lines of the progress.
SHORT, LONG = 0.5, 10.0
CLIENTS = 2
# Seconds of a request, as seen on a machine of two cores: for the estimate alone.
REQUEST = 0.001


class Census(NamedTuple):
    """What a worker has; Python's objects by their type; the pid of its backend."""

    found: dict[str, int]
    types: dict[str, int]
    backend: int


class Worker:
    """The one worker of a site, asked until it has answered so many requests."""

    def __init__(self, apache: Apache, drive: Driver) -> None:
        self._apache = apache
        self._drive = drive
        (self._pid,) = apache.daemon_pids()
        self.asked = 0
        self.errors = 0
        self.rate = 0.0

    def ask(self, seconds: float) -> None:
        burst = self._drive(self._apache.url + PAGES["three"], CLIENTS, seconds)
        self.asked += burst.requests + burst.errors
        self.errors += burst.errors
        self.rate = burst.rate

    def census(self) -> Census:
        """The second answer, as the first leaves traces."""
        self._answer()
        said = self._answer()
        if self._apache.daemon_pids() != [self._pid]:
            raise RuntimeError("the worker that was counted has ended")
        # It still has the connection to Apache for a moment.
        wait_until_idle(self._pid)
        own, used = Path(f"/proc/{self._pid}"), memory(self._pid)
        found = {
            OBJECTS: sum(said["types"].values()),
            BLOCKS: said["blocks"],
            FILES: len(list((own / "fd").iterdir())),
            THREADS: len(list((own / "task").iterdir())),
            RSS: used["Rss"],
            PSS: used["Pss"],
            BACKEND: memory(said["backend"])["Pss_Anon"],
        }
        return Census(found, said["types"], said["backend"])

    def _answer(self) -> Any:
        return get(self._apache.port, CENSUS).json


def growth(stage: Stage, drive: Driver, driver: str, requests: int, progress: Progress) -> Growth:
    """At least so many requests."""
    with stage.sites([OURS], stage.address("socket"), driver, 1) as sites:
        worker = Worker(sites[OURS.key], drive)
        while worker.asked < FIRST:
            worker.ask(SHORT)
        before, first = worker.census(), worker.asked
        while (left := requests - worker.asked) > 0:
            progress.say(f"{worker.asked:,} of {requests:,} requests to one worker, {worker.rate:.0f}/s")
            known = worker.asked
            worker.ask(min(LONG, left / worker.rate + SHORT))
            progress.done(REQUEST * (worker.asked - known))
        after = worker.census()
    return Growth(
        first,
        worker.asked,
        worker.errors,
        before.found,
        after.found,
        types=_changed(before.types, after.types),
        same_backend=before.backend == after.backend,
    )


def _changed(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """By how much, where there is a difference; the largest first."""
    by = {name: after.get(name, 0) - before.get(name, 0) for name in {*before, *after}}
    return {name: by[name] for name in sorted(by, key=lambda name: (-abs(by[name]), name)) if by[name]}
