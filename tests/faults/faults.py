"""What happens to a PostgreSQL server, and to the workers in front of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from tools.apache import Apache, children
from tools.postgres import Cluster

FAST = signal.SIGINT
IMMEDIATE = signal.SIGQUIT
OBSERVER = "observer"
OTHERS = f"FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> '{OBSERVER}'"


@contextmanager
def host_frozen(cluster: Cluster) -> Iterator[None]:
    """All its processes stand still, as with their host."""
    every = [cluster.pid, *children(cluster.pid)]
    for pid in every:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in every:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


class Faults:
    """Each method returns when the damage is done, and, where it is short, when it is over.

    :param driver: the module psycopg2 or psycopg.
    :param dbname: the database whose sessions are meant.
    """

    def __init__(self, cluster: Cluster, driver: ModuleType, dbname: str = "site") -> None:
        self.cluster = cluster
        self._driver = driver
        self._dbname = dbname

    # ##### The server #####

    def restart(self, how: signal.Signals = FAST) -> None:
        """FAST ends each session with a word (FATAL 57P01), IMMEDIATE with another (57P02)."""
        self.cluster.restart(how)

    def kill_postmaster(self) -> None:
        """As ``kill -9``, or the machine's memory run out; then started again, with a recovery."""
        self.kill()
        self.cluster.start()

    def kill(self) -> None:
        orphans = children(self.cluster.pid)
        self.cluster.stop(signal.SIGKILL)
        for pid in orphans:
            # They notice by themselves, but one in a long query does so late, and bars the start.
            _end(pid)

    def crash_neighbour(self) -> None:
        """A backend of somebody else's dies; the server ends all sessions and recovers."""
        with closing(self.connect()) as neighbour, closing(self.connect()) as witness:
            os.kill(_scalar(neighbour, "SELECT pg_backend_pid()"), signal.SIGKILL)
            wait_for(lambda: self._is_broken(witness))
        self.cluster.wait_ready()

    @contextmanager
    def stopped(self, how: signal.Signals = FAST) -> Iterator[None]:
        """Down while the block runs."""
        self.cluster.stop(how)
        try:
            yield
        finally:
            self.cluster.start()

    @contextmanager
    def frozen(self, pid: int | None = None) -> Iterator[None]:
        """The process *pid*, or else the postmaster, stands still: its sockets answer nothing."""
        pid = pid or self.cluster.pid
        _signal(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pid, signal.SIGCONT)

    # ##### Its sessions #####

    def backends(self) -> list[int]:
        """Process ids of the client sessions, the observer's left out."""
        with closing(self.connect()) as admin, admin.cursor() as cursor:
            cursor.execute(f"SELECT pid {OTHERS} ORDER BY pid")
            return [pid for (pid,) in cursor.fetchall()]

    def busy(self, sql: str = "") -> int:
        """How many of them run a statement in whose text this is."""
        with closing(self.connect()) as admin:
            running = f"{OTHERS} AND state = 'active' AND strpos(query, '{sql}') > 0"
            return int(_scalar(admin, f"SELECT count(*) {running}"))

    def terminate_all(self) -> int:
        """``pg_terminate_backend`` for each session; returns how many there were."""
        with closing(self.connect()) as admin:
            return int(_scalar(admin, f"SELECT count(pg_terminate_backend(pid)) {OTHERS}"))

    def terminate_one(self) -> int:
        """The same for whichever session comes first; returns 1, or 0 if there was none."""
        with closing(self.connect()) as admin:
            one = f"SELECT pid {OTHERS} ORDER BY random() LIMIT 1"
            return int(_scalar(admin, f"SELECT count(pg_terminate_backend(pid)) FROM ({one}) AS s"))

    def connect(self) -> Any:
        """A session of our own, which the faults above spare where they choose sessions."""
        given = self.cluster.dsn(dbname=self._dbname, application_name=OBSERVER)
        connection = self._driver.connect(**given)
        connection.autocommit = True
        return connection

    def _is_broken(self, connection: Any) -> bool:
        try:
            _scalar(connection, "SELECT 1")
        except self._driver.Error:
            return True
        return False


def kill_worker(apache: Apache, number: int = 0) -> int:
    """SIGKILL for one of the daemon processes; returns its pid. Apache starts another."""
    wait_for(apache.daemon_pids)
    pids = apache.daemon_pids()
    pid = pids[number % len(pids)]
    _signal(pid, signal.SIGKILL)
    return pid


def wait_for(condition: Callable[[], Any], timeout: float = 30.0) -> None:
    """Return once *condition* holds.

    :raises TimeoutError: it does not within *timeout* seconds.
    """
    give_up = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"not so after {timeout:g} s")
        time.sleep(0.01)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # a session may end at any time by itself
        os.kill(pid, number)


def _end(pid: int) -> None:
    _signal(pid, signal.SIGKILL)
    wait_for(lambda: not _is_running(pid))


def _is_running(pid: int) -> bool:
    """A zombie, which waits for a negligent init, counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _scalar(connection: Any, sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]
