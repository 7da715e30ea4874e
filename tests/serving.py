"""A WSGI server as a process of its own, started with the tests' site and stopped by a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import Server, site_environment
from tests.http import get
from tools.postgres import free_port

ROOT = Path(__file__).parent.parent


class Running:
    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log
        # A quick end of gunicorn's threads waits for itself, if it interrupts one that is given work.
        self._ending = signal.SIGTERM if "gunicorn" in map(str, process.args) else signal.SIGINT

    def stop(self, how: signal.Signals | None = None) -> None:
        self.process.send_signal(how or self._ending)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not stop:\n{self.log.read_text()}") from None

    def kill(self) -> None:
        """With its workers, which would keep the port and their sessions."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def started(
    command: Sequence[str],
    server: Server,
    log: Path,
    folder: Path = ROOT,
    port: int | None = None,
    page: str = "/plain/",
    **environment: str,
) -> Iterator[Running]:
    """Once it answers. *command* has ``{port}`` where the port is due; it runs in *folder*.

    :param page: what it answers.
    """
    port = port or free_port()
    given = {**os.environ, **site_environment(server.cluster, SITE_ALIASES="{}", **environment)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [part.replace("{port}", str(port)) for part in command],
            env=given,
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    running = Running(process, port, log)
    try:
        wait_until_it_answers(running, page)
        yield running
    finally:
        if process.poll() is None:
            running.stop()


def wait_until_it_answers(running: Running, page: str, timeout: float = 20.0) -> None:
    give_up = time.monotonic() + timeout
    while True:
        try:
            assert get(running.port, page).status == 200
            return
        except OSError:
            assert running.process.poll() is None, running.log.read_text()
            assert time.monotonic() < give_up, running.log.read_text()
            time.sleep(0.05)
