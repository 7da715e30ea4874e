"""Workers that end while visitors come at a fixed rate: who fails, and what is left.

``LOAD=full python -m pytest -s tests/apache/test_ends_under_load.py`` is the long version; both print
figures, and neither asserts on time.
"""

from __future__ import annotations

import os
import queue
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from itertools import cycle

import pytest

from tests.apache.conftest import StartApache
from tests.apache.test_ends import touch
from tests.conftest import Server, abandoned, eventually
from tests.http import get
from tools.apache import Apache

FULL = os.environ.get("LOAD") == "full"
RATE = 30  # requests a second
WORKERS = 2


class Load:
    """Requests that are due at fixed times, whether or not those before were answered."""

    def __init__(self, port: int, path: str = "/three/", clients: int = 32) -> None:
        self.answers: Counter[str] = Counter()
        self.latencies: list[float] = []
        self._due: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._over = threading.Event()
        self._clients = [threading.Thread(target=self._ask, args=(port, path)) for _ in range(clients)]
        self._clock = threading.Thread(target=self._tick)

    @property
    def failed(self) -> int:
        return self.answers.total() - self.answers["200"]

    def __str__(self) -> str:
        ranked = sorted(self.latencies)
        half, most = (1000 * ranked[int(part * len(ranked))] for part in (0.5, 0.99))
        counts = f"{self.answers.total()} requests, {self.failed} failed {dict(self.answers)}"
        return f"{counts}, median {half:.0f} ms, p99 {most:.0f} ms"

    def __enter__(self) -> Load:
        for thread in (*self._clients, self._clock):
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._clock.join()
        for _ in self._clients:
            self._due.put(None)
        for thread in self._clients:
            thread.join()

    def has_asked(self, number: int) -> bool:
        return eventually(lambda: self.answers.total() >= number, True, timeout=600)

    def _tick(self) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            self._due.put(due)
            due += 1 / RATE

    def _ask(self, port: int, path: str) -> None:
        while (due := self._due.get()) is not None and not self._over.is_set():
            try:
                answer = str(get(port, path).status)
            except (OSError, HTTPException) as error:
                answer = type(error).__name__
            self.answers[answer] += 1
            self.latencies.append(time.monotonic() - due)


def all_have_come(running: Apache, server: Server) -> bool:
    """As many workers as there should be, each with its connection and no more."""
    return eventually(
        lambda: (len(running.daemon_pids()), len(server.backends())), (WORKERS, WORKERS), timeout=30
    )


@contextmanager
def clean(running: Apache, server: Server, abandoned_at_most: int = 0) -> Iterator[None]:
    """Each worker that was started opened one connection, and closed it."""
    before = abandoned(server)
    assert all_have_come(running, server)
    yield
    assert all_have_come(running, server)
    running.stop()
    assert eventually(server.backends, [], timeout=3.0)
    assert abandoned(server) - before <= abandoned_at_most
    log = running.error_text()
    assert "Traceback" not in log
    opened_by = re.findall(r"\[pid (\d+).* opened backend", log)
    assert len(opened_by) == len(set(opened_by))


def end_amid(load: Load, end: Callable[[Apache], None], running: Apache, server: Server) -> None:
    """After a second of undisturbed service; returns when every worker is there again."""
    assert load.has_asked(load.answers.total() + RATE)
    before = running.daemon_pids()
    end(running)
    assert eventually(lambda: running.daemon_pids() == before, False)
    assert all_have_come(running, server)


def signal_one(number: signal.Signals) -> Callable[[Apache], None]:
    return lambda running: os.kill(running.daemon_pids()[0], number)


ENDS = {
    "graceful signal": signal_one(signal.SIGUSR1),
    "shutdown signal": signal_one(signal.SIGTERM),
    "script touched": touch,
}


def test_planned_ends(apache: StartApache, server: Server) -> None:
    ends = 100 if FULL else 6
    running = apache(WORKERS, "graceful-timeout=15")
    with clean(running, server):
        with Load(running.port) as load:
            for _, end in zip(range(ends), cycle(ENDS.values()), strict=False):
                end_amid(load, end, running, server)
        print(f"\n{ends} planned ends: {load}")
        assert load.failed == 0


def test_killed(apache: StartApache, server: Server) -> None:
    """A worker has one request at a time to take with it, and none after its replacement came."""
    kills = 30 if FULL else 3
    running = apache(WORKERS)
    with clean(running, server, abandoned_at_most=kills):
        with Load(running.port) as load:
            for _ in range(kills):
                end_amid(load, signal_one(signal.SIGKILL), running, server)
        print(f"\n{kills} workers killed: {load}")
        assert load.failed <= kills


def test_script_touched(apache: StartApache, server: Server) -> None:
    touches = 20 if FULL else 3
    running = apache(WORKERS)
    with clean(running, server):
        with Load(running.port) as load:
            for _ in range(touches):
                end_amid(load, touch, running, server)
        print(f"\nscript touched {touches} times: {load}")
        assert load.failed == 0


def test_maximum_requests(apache: StartApache, server: Server) -> None:
    limit, requests = (100, 60 * RATE) if FULL else (20, 120)
    running = apache(WORKERS, f"maximum-requests={limit}")
    with clean(running, server):
        with Load(running.port) as load:
            assert load.has_asked(requests)
        ended = running.error_text().count("stops (maximum_requests)")
        print(f"\nmaximum-requests={limit}: {ended} workers ended: {load}")
        assert load.failed == 0
        assert ended >= requests // limit - WORKERS


@pytest.mark.parametrize("engine", ["django.db.backends.postgresql", "wsgi_persist.backends.postgresql"])
def test_graceful(engine: str, apache: StartApache, server: Server) -> None:
    """Requests that wait in the old workers' socket are cut by Apache, whatever the engine."""
    times = 20 if FULL else 2
    running = apache(WORKERS, SITE_ENGINE=engine)
    before = abandoned(server)
    assert get(running.port, "/plain/").status == 200
    with Load(running.port, "/sleep/?seconds=0.02") as load:
        for _ in range(times):
            assert load.has_asked(load.answers.total() + RATE)
            running.graceful()
            # A process of the last generation may still take the first.
            assert eventually(lambda: get(running.port, "/plain/").status, 200)
    print(f"\napachectl graceful {times} times, {engine}: {load}")
    running.stop()
    assert eventually(server.backends, [], timeout=3.0)
    assert abandoned(server) == before
    # Cut by Apache; no page failed.
    assert "500" not in load.answers
    assert "Traceback" not in running.error_text()
