"""Workers by the thread: each with a pin, a scope and an outage of its own, as if it were a process.

Run at a host of the tier; tells at its end when it tried to connect, and when each worker was served.
"""

from __future__ import annotations

import importlib
import json
import logging
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from wsgiref.util import setup_testing_defaults

from wsgi_persist import PersistMiddleware, Pin, Policy

PACE = 2.0  # seconds between a worker's requests, on average


class Worker:
    """:ivar tried: moments (monotonic: all processes of a machine have the same) of attempts to connect.
    :ivar answered: moments and statuses of the answers."""

    def __init__(self, connect: Callable[[], Any], pooler: str | None) -> None:
        self.tried: list[float] = []
        self.answered: list[tuple[float, str]] = []
        self._connect = connect
        policy = Policy(scope="thread", pooler=pooler)  # type: ignore[arg-type]
        self._pin = Pin(self._attempt, policy=policy)
        self._application = PersistMiddleware(self._page, pins=[self._pin])

    def run(self, stopped: threading.Event) -> None:
        stopped.wait(random.uniform(0.0, PACE))
        while not stopped.is_set():
            self._ask()
            stopped.wait(random.uniform(0.5, 1.5) * PACE)

    def _attempt(self) -> Any:
        self.tried.append(time.monotonic())
        return self._connect()

    def _page(self, environ: Any, start_response: Any) -> list[bytes]:
        with self._pin.cursor() as cursor:
            cursor.execute("SELECT 1")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"1"]

    def _ask(self) -> None:
        environ: dict[str, Any] = {}
        setup_testing_defaults(environ)
        environ["wsgi.multithread"] = True
        told: list[str] = []
        response = self._application(environ, lambda status, headers, *rest: told.append(status))
        try:
            list(response)
        finally:
            response.close()
        self.answered.append((time.monotonic(), told[-1][:3]))


def main(driver: str, dsn: str, workers: str, pooler: str) -> None:
    logging.disable(logging.CRITICAL)
    connect = importlib.import_module(driver).connect
    if driver == "psycopg":
        # As Django does: behind a pooler a prepared statement is in another session.
        connect = partial(connect, prepare_threshold=None)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    crowd = [Worker(lambda: connect(dsn), pooler or None) for _ in range(int(workers))]
    threads = [threading.Thread(target=worker.run, args=(stopped,)) for worker in crowd]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    json.dump([[worker.tried, worker.answered] for worker in crowd], sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
