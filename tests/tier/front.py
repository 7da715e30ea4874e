"""What stands before the cluster, by the files that are shipped: HAProxy, and PgBouncer behind it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from tests.faults import Unavailable
from tests.faults.faults import wait_for
from tests.serving import ROOT
from tests.tier.cluster import PatroniCluster
from tools.machine import SEARCH
from tools.postgres import SUPERUSER, binaries, switch_user, unprivileged_user

USER, PASSWORD = "mysite", "a secret"
POOLER_PORT, LEADER_PORT = 6432, 5000


class Program:
    """Started with a file of deploy's whose addresses are this machine's."""

    def __init__(self, name: str, file: Path, home: Path, changes: dict[str, str]) -> None:
        program = shutil.which(name, path=SEARCH)
        if program is None:
            raise Unavailable(f"{name} is not installed (Debian: apt-get install {name})")
        self.program = program
        self.config = home / file.name
        text = file.read_text()
        for pattern, replacement in changes.items():
            text, found = re.subn(pattern, replacement, text, flags=re.MULTILINE)
            assert found, pattern
        self.config.write_text(text)
        self.log = home / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **switch_user(),
            )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


class HaProxy(Program):
    def __init__(self, cluster: PatroniCluster, home: Path) -> None:
        changes = {rf"\b{name}\.example\.org\b": address for name, address in cluster.by_name.items()}
        changes[r"\b10\.0\.0\.5\b"] = cluster.bridge.address
        super().__init__("haproxy", ROOT / "deploy" / "patroni" / "haproxy.cfg", home, changes)

    def start(self, *arguments: str) -> None:
        # The master process reloads at SIGUSR2, as systemctl reload does.
        super().start("-W", "-f", str(self.config), *arguments)

    def reload(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGUSR2)


class Pooler(Program):
    """PgBouncer, which finds the leader by HAProxy."""

    def __init__(self, cluster: PatroniCluster, home: Path) -> None:
        self._address = cluster.bridge.address
        changes = {
            r"^mysite = .*$": f"mysite = host={self._address} port={LEADER_PORT} dbname={USER}",
            r"^listen_addr = .*$": f"listen_addr = {self._address}",
            r"^unix_socket_dir = .*$": "unix_socket_dir =",
            r"^(logfile|pidfile) = .*$": r"\1 =",
            r"^auth_file = .*$": f"auth_file = {home}/userlist.txt",
        }
        super().__init__("pgbouncer", ROOT / "deploy" / "pgbouncer" / "pgbouncer.ini", home, changes)
        users = home / "userlist.txt"
        script = (ROOT / "deploy" / "pgbouncer" / "userlist.sql").read_text()
        users.write_text(cluster.query(script.replace(":'users'", f"'{USER},{SUPERUSER}'")) + "\n")
        users.chmod(0o600)
        if user := unprivileged_user():
            shutil.chown(users, user)

    def start(self, *arguments: str) -> None:
        super().start(str(self.config), *arguments)
        wait_for(self.answers)

    def restart(self) -> None:
        """As the unit does it: transactions are waited for."""
        self.stop(signal.SIGINT)
        self.start()

    def answers(self) -> bool:
        return self.command("SHOW VERSION") is not None

    def command(self, text: str) -> str | None:
        """On its console; None where it refuses or is away."""
        conninfo = f"host={self._address} port={POOLER_PORT} user={SUPERUSER} password=super dbname=pgbouncer"
        asked = [str(binaries() / "psql"), "-X", "-q", "-At", "-d", conninfo, "-c", text]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None
