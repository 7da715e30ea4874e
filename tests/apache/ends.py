"""What the tests of a worker's end share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import NamedTuple

from tests.conftest import Server, abandoned, eventually
from tests.http import Answer, get
from tools.apache import Apache


class Worker(NamedTuple):
    pid: int
    backend: int


def only_worker(running: Apache, server: Server) -> Worker:
    """As soon as it has its connection; the server lists a backend before the client has it."""
    assert eventually(lambda: len(server.backends()), 1, timeout=30)
    worker = Worker(running.daemon_pids()[0], server.backends()[0])
    assert eventually(lambda: f"opened backend {worker.backend}\n" in running.error_text(), True)
    return worker


def next_worker(running: Apache, server: Server, last: Worker) -> Worker:
    """The one that Apache starts in its place, likewise."""

    def has_come() -> bool:
        workers, backends = running.daemon_pids(), server.backends()
        return len(workers) == len(backends) == 1 and last.pid not in workers and last.backend not in backends

    assert eventually(has_come, True, timeout=30)
    return only_worker(running, server)


def last_words(running: Apache, worker: Worker) -> str:
    """What the worker logged of its connections when it ended."""
    start = f"worker site:{worker.pid} stops "
    assert eventually(lambda: start in running.error_text(), True, timeout=30)
    lines = [line for line in running.error_text().splitlines() if start in line]
    assert len(lines) == 1
    return lines[0].partition(start)[2]


def backend_ends(server: Server, worker: Worker) -> bool:
    return eventually(lambda: worker.backend in server.backends(), False, timeout=3.0)


@contextmanager
def sessions_abandoned(server: Server, wanted: int) -> Iterator[None]:
    """How many sessions end meanwhile without a word, by the server's own account."""
    before = abandoned(server)
    yield
    assert eventually(lambda: abandoned(server) - before, wanted)


@contextmanager
def asked(running: Apache, path: str) -> Iterator[list[Answer | None]]:
    """A request in flight; None for an answer that never came."""
    answers: list[Answer | None] = []
    client = threading.Thread(target=lambda: answers.append(answer_or_none(running.port, path)))
    client.start()
    try:
        yield answers
    finally:
        client.join()


def answer_or_none(port: int, path: str) -> Answer | None:
    try:
        return get(port, path)
    except (OSError, HTTPException):
        return None
