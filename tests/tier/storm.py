"""A thousand workers lose their server at once: how they come back.

python -m tests.tier.storm --hosts 20 --workers 50 --driver psycopg
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.faults import wait_for
from tests.faults.pgbouncer import PgBouncer
from tests.faults.report import DRIVERS
from tests.faults.standby import query
from tests.serving import ROOT
from tests.tier.hosts import Bridge
from tools.postgres import SUPERUSER, Cluster
from tools.steps import say

RESERVED = 3
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"


@dataclass
class Storm:
    """What the workers tell, and two moments: the server's end, and its return."""

    name: str
    told: list[tuple[list[float], list[tuple[float, str]]]]
    gone: float
    back: float
    refused: int

    def attempts(self, since: float, until: float) -> tuple[int, int]:
        """How many, and the most in a second."""
        moments = sorted(m for tried, _ in self.told for m in tried if since <= m < until)
        seconds = Counter(int(moment) for moment in moments)
        return len(moments), max(seconds.values(), default=0)

    def waits(self) -> list[float]:
        """Seconds from the return to each worker's first page; infinite for who starves."""
        return sorted(
            min((m - self.back for m, status in answered if m > self.back and status == "200"), default=1e9)
            for _, answered in self.told
        )

    def statuses(self) -> Counter[str]:
        return Counter(status for _, answered in self.told for m, status in answered if m > self.gone)

    def __str__(self) -> str:
        waits = self.waits()
        down, most_down = self.attempts(self.gone, self.back)
        after, most_after = self.attempts(self.back, float("inf"))
        return (
            f"{self.name}: {len(waits)} workers, away for {self.back - self.gone:.1f} s; attempts while away "
            f"{down}, at most {most_down} a second; after it {after}, at most {most_after}; served again: "
            f"median {waits[len(waits) // 2]:.1f} s, last {waits[-1]:.1f} s; "
            f"answers {dict(self.statuses())}; refused for want of a place: {self.refused}"
        )


class Crowd:
    """Processes of :mod:`tests.tier.crowd`, one at each host."""

    def __init__(self, bridge: Bridge, home: Path, hosts: int) -> None:
        self._home = home
        self._hosts = [bridge.host(number) for number in range(11, 11 + hosts)]

    @contextmanager
    def at_work(self, driver: str, dsn: str, workers: int, pooler: str = "") -> Iterator[None]:
        command = [sys.executable, "-m", "tests.tier.crowd", driver, dsn, str(workers), pooler]
        self.told = []
        outputs = [self._home / f"{host.name}.json" for host in self._hosts]
        for output in outputs:
            output.unlink(missing_ok=True)
        processes = [
            host.start(command, output, PYTHONPATH=str(ROOT), PYTHONDONTWRITEBYTECODE="1")
            for host, output in zip(self._hosts, outputs, strict=True)
        ]
        try:
            yield
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait(60)
        self.told = [worker for output in outputs for worker in told(output.read_text())]


def told(text: str) -> list[tuple[list[float], list[tuple[float, str]]]]:
    if not text.startswith("["):
        raise RuntimeError(f"a crowd failed:\n{text}")
    return list(json.loads(text))


def primary_lost(crowd: Crowd, cluster: Cluster, driver: str, workers: int, total: int, away: float) -> Storm:
    dsn = f"host={cluster.address} port={cluster.port} user=worker dbname=postgres"
    with crowd.at_work(driver, dsn, workers):
        wait_for(lambda: int(query(cluster, SESSIONS)) > total, 120)
        time.sleep(3)
        mark = cluster.log.stat().st_size
        gone = time.monotonic()
        cluster.stop(signal.SIGQUIT)
        time.sleep(away)
        cluster.start()
        back = time.monotonic()
        time.sleep(20)
        refused = cluster.log.read_bytes()[mark:].count(b"remaining connection slots")
        refused += cluster.log.read_bytes()[mark:].count(b"too many clients")
    return Storm(f"primary lost, {driver}", crowd.told, gone, back, refused)


def pooler_restarted(
    crowd: Crowd, cluster: Cluster, pooler: PgBouncer, address: str, driver: str, workers: int, total: int
) -> Storm:
    dsn = f"host={address} port={pooler.port} user={SUPERUSER} dbname=postgres"
    with crowd.at_work(driver, dsn, workers, "transaction"):
        wait_for(lambda: pooler.command("SHOW CLIENTS").count("|postgres|postgres|") >= total, 120)
        time.sleep(3)
        gone = time.monotonic()
        pooler.stop()
        pooler.start()
        back = time.monotonic()
        time.sleep(20)
        refused = pooler.log.read_text().count("no more connections allowed")
    return Storm(f"pooler restarted, {driver}", crowd.told, gone, back, refused)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tier.storm")
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--workers", type=int, default=50, help="at each host")
    parser.add_argument("--away", type=float, default=3.0, help="seconds that the server is down")
    parser.add_argument("--driver", choices=DRIVERS, default="psycopg")
    given = parser.parse_args(arguments)
    home = Path(tempfile.mkdtemp(prefix="storm"))
    home.chmod(0o777)
    total = given.hosts * given.workers
    try:
        with Bridge() as bridge:
            for storm in storms(bridge, home, given, total):
                say(str(storm))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return 0


def storms(bridge: Bridge, home: Path, given: argparse.Namespace, total: int) -> Iterator[Storm]:
    settings = [f"max_connections={total + RESERVED}", "shared_buffers=64MB", "fsync=off"]
    cluster = Cluster(home / "data", settings, address=bridge.address).create()
    cluster.admit(bridge.subnet)
    cluster.start()
    try:
        query(cluster, "CREATE ROLE worker LOGIN")
        crowd = Crowd(bridge, home, given.hosts)
        yield primary_lost(crowd, cluster, given.driver, given.workers, total, given.away)
        clients = {"max_client_conn": total + 10, "default_pool_size": 40, "listen_addr": bridge.address}
        with PgBouncer(cluster, "transaction", settings={**clients, "listen_addr": "*"}) as pooler:
            yield pooler_restarted(crowd, cluster, pooler, bridge.address, given.driver, given.workers, total)
    finally:
        cluster.destroy()


if __name__ == "__main__":
    sys.exit(main())
