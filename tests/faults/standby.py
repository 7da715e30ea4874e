"""A second server that follows the first, and can take its place."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.faults.faults import wait_for
from tools.postgres import SUPERUSER, Cluster, unprivileged_user


class Standby(Cluster):
    """A streaming replica of *primary*, made by ``pg_basebackup``; it starts as a standby."""

    def __init__(self, primary: Cluster, data: Path) -> None:
        super().__init__(data, primary.settings)
        self.primary = primary

    def create(self) -> Standby:
        if user := unprivileged_user():
            self.data.mkdir(parents=True, mode=0o700)
            shutil.chown(self.data, user)
        # -R writes standby.signal and primary_conninfo.
        address = ["-h", str(self.primary.socket_dir), "-p", str(self.primary.port), "-U", SUPERUSER]
        self.run("pg_basebackup", "-D", str(self.data), "-R", "-X", "stream", "-c", "fast", *address)
        return self

    def promote(self) -> None:
        """Returns once it takes writes."""
        self.run("pg_ctl", "promote", "-w", "-D", str(self.data))

    def catch_up(self, timeout: float = 30.0) -> None:
        """Wait until it has replayed all that the primary has written by now."""
        written = query(self.primary, "SELECT pg_current_wal_lsn()")
        reached = f"SELECT pg_last_wal_replay_lsn() >= '{written}'"
        wait_for(lambda: query(self, reached) == "t", timeout)

    def is_standby(self) -> bool:
        return query(self, "SELECT pg_is_in_recovery()") == "t"


def query(cluster: Cluster, sql: str, dbname: str = "postgres") -> str:
    """What psql says, without decoration."""
    address = ["-h", str(cluster.socket_dir), "-p", str(cluster.port), "-U", SUPERUSER, "-d", dbname]
    return cluster.run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *address, "-c", sql).strip()
