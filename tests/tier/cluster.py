"""The cluster: three members, who leads, and what an operator does to them with patronictl."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.faults import wait_for
from tests.tier.hosts import Bridge
from tests.tier.member import SCOPE, Member, etcd, patroni
from tools.postgres import SUPERUSER, binaries

NAMES = ("db1", "db2", "db3")
LEADS = ("primary", "master")  # master before Patroni 4


class PatroniCluster:
    """:ivar addresses: of the members, as ``HOST`` has them."""

    def __init__(self, bridge: Bridge, home: Path) -> None:
        etcd(), patroni()
        self.bridge = bridge
        hosts = {name: bridge.host(last) for last, name in enumerate(NAMES, 11)}
        self.by_name = {name: host.address for name, host in hosts.items()}
        self.members = [Member(name, host, self.by_name, bridge.subnet, home) for name, host in hosts.items()]

    @property
    def addresses(self) -> str:
        return ",".join(self.by_name.values())

    def start(self) -> None:
        for member in self.members:
            member.start_etcd()
        for member in self.members:
            member.start_patroni()
        self.settle(90.0)

    def leaders(self) -> list[Member]:
        """Who says so, the newest first: one that slept believes it until it has looked around."""
        told = {member.name: member.told() for member in self.members}
        leading = [m for m in self.members if told[m.name].get("role") in LEADS and is_running(told[m.name])]
        return sorted(leading, key=lambda member: -int(told[member.name].get("timeline", 0)))

    def lead(self) -> Member:
        return self.leaders()[0]

    def standbys(self) -> list[Member]:
        return [m for m in self.members if (told := m.told()).get("role") == "replica" and follows(told)]

    def settle(self, timeout: float = 60.0) -> None:
        """Until one leads, two follow it, and one of these is synchronous."""
        try:
            wait_for(self._is_whole, timeout)
        except TimeoutError:
            logs = "\n".join(f"{m.name} {m.told()}:\n{m.log_end()}" for m in self.members)
            raise RuntimeError(f"the cluster is not whole after {timeout:g} s:\n{logs}") from None

    def switch_over(self) -> None:
        candidates = [m for m in self.members if m.told().get("sync_standby")]
        chosen = ["--leader", self.lead().name, "--candidate", candidates[0].name]
        self.ctl("switchover", SCOPE, *chosen, "--force")

    def restart_all(self) -> None:
        """Standbys first, then the old leader after a switchover: as one does it for an update."""
        for member in self.standbys():
            self.ctl("restart", SCOPE, member.name, "--force")
            self.settle()
        old = self.lead()
        self.switch_over()
        self.settle()
        self.ctl("restart", SCOPE, old.name, "--force")

    def ctl(self, *arguments: str) -> str:
        done = subprocess.run(
            [patroni("patronictl"), "-c", str(self.members[0].config), *arguments],
            env={**os.environ, "PYTHONPATH": "", "HOME": "/"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"patronictl {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def query(self, sql: str, dbname: str = "postgres") -> str:
        """What psql says, by the leader."""
        conninfo = f"host={self.lead().host.address} user={SUPERUSER} dbname={dbname}"
        command = [str(binaries() / "psql"), "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1"]
        done = subprocess.run(
            [*command, "-d", f"{conninfo} connect_timeout=4 password=super", "-c", sql],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    @contextmanager
    def without_etcd(self) -> Iterator[None]:
        """Two of three stand still: there is no majority."""
        for member in self.members[:2]:
            member.freeze_etcd()
        try:
            yield
        finally:
            for member in self.members[:2]:
                member.wake_etcd()

    def _is_whole(self) -> bool:
        if len(self.leaders()) != 1 or len(self.standbys()) != 2:
            return False
        return any(m.told().get("sync_standby") for m in self.members)


def is_running(told: dict[str, object]) -> bool:
    return told.get("state") == "running"


def follows(told: dict[str, object]) -> bool:
    return told.get("replication_state") == "streaming" or told.get("state") == "streaming"
