"""What one worker costs, counted: statements, round trips, connections, memory, system calls."""

from __future__ import annotations

import http.client
import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from tests.bench.burst import Driver
from tests.bench.plan import PAGES
from tests.bench.processes import memory, system_calls, wait_until_idle
from tests.bench.results import Counts
from tests.bench.stage import Stage
from tests.bench.turns import Turns
from tests.bench.variants import Variant
from tests.conftest import Server
from tests.faults.faults import wait_for
from tests.http import get
from tests.served import public_project
from tools.apache import Apache

# Each statement and each connection leaves a line.
SETTINGS = ("log_statement=all", "log_connections=on", "log_line_prefix=%p %a| ")
REQUESTS = 100
THREE = PAGES["three"]


class Counter:
    """:param starts: how often the site is started to see its first page."""

    def __init__(self, stage: Stage, drive: Driver, starts: int) -> None:
        self._stage = stage
        self._drive = drive
        self._starts = starts

    def counts(self, variant: Variant) -> Counts:
        driver = variant.drivers[0]
        server = Server(self._stage.cluster, importlib.import_module(driver))
        try:
            with Turns(("127.0.0.1", self._stage.cluster.port)) as turns, public_project() as project:
                address = self._stage.network_address(turns.port)
                firsts = []
                for number in range(self._starts):
                    with self._stage.site(variant, address, driver, 1, 1, project) as apache:
                        firsts.append(_first_page(apache, server))
                        if number == self._starts - 1:
                            found = self._of_worker(apache, server, turns)
        finally:
            server.connection.close()
        pages, opened = zip(*firsts, strict=True)
        return Counts(driver=driver, first_page=list(pages), first_opened=max(opened), **found)

    def _of_worker(self, apache: Apache, server: Server, turns: Turns) -> dict[str, Any]:
        self._drive(apache.url + THREE, 1, 1.5)  # memory as it is after some work
        (pid,) = apache.daemon_pids()
        with _client(apache) as ask:
            ask(1)
            server.mark()
            turns.count = 0
            ask(REQUESTS)
            trips = turns.count
            found = _of_server(server)
            once = system_calls(pid, partial(ask, REQUESTS))
            twice = system_calls(pid, partial(ask, 2 * REQUESTS))
        used = memory(pid)
        backends = server.backends()
        return {
            **found,
            "round_trips": trips / REQUESTS,
            "requests": REQUESTS,
            "pss": used["Pss"],
            "rss": used["Rss"],
            "backend": memory(backends[0])["Pss_Anon"] if backends else None,
            # The difference leaves out what attaching to the worker costs.
            "system_calls": None if once is None or twice is None else (twice - once) / REQUESTS,
        }


def _of_server(server: Server) -> dict[str, Any]:
    return {
        "statements": len(server.statements()) / REQUESTS,
        "opened": server.connections(),
        "open": len(server.backends()),
    }


def _first_page(apache: Apache, server: Server) -> tuple[float, int]:
    """Milliseconds, and how many connections were opened meanwhile."""
    wait_for(apache.daemon_pids)
    wait_until_idle(apache.daemon_pids()[0])
    server.mark()
    started = time.perf_counter()
    answer = get(apache.port, THREE)
    took = time.perf_counter() - started
    if answer.status != 200:
        raise RuntimeError(f"the first page is answered {answer.status}")
    return took * 1000, server.connections()


@contextmanager
def _client(apache: Apache) -> Iterator[Any]:
    """A function that asks so many times on one connection; each answer has to be good."""
    connection = http.client.HTTPConnection("127.0.0.1", apache.port, timeout=30)

    def ask(times: int) -> None:
        for _ in range(times):
            connection.request("GET", THREE)
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise RuntimeError(f"a page is answered {response.status}")

    yield ask
    connection.close()
