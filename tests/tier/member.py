"""A host of the cluster: etcd and Patroni, which runs PostgreSQL, by the file of deploy/patroni."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.faults import Unavailable
from tests.serving import ROOT
from tests.tier.hosts import Host
from tools.environment import folder as built
from tools.machine import SEARCH
from tools.postgres import binaries, unprivileged_user

FILES = ROOT / "deploy" / "patroni"
# In place of deploy's "change me".
PASSWORDS = {"change me": "super", "change me, too": "copies", "and me": "rewinds"}
SCOPE = "mysite"


def etcd() -> str:
    program = shutil.which("etcd", path=SEARCH)
    if program is None:
        raise Unavailable("etcd is not installed (Debian: apt-get install etcd-server)")
    return program


def patroni(name: str = "patroni") -> str:
    program = built() / "patroni" / "bin" / name
    if not program.exists():
        raise Unavailable("Patroni is not installed (python3 -m tools.environment patroni)")
    return str(program)


class Member:
    """``name`` is db1, db2 or db3; *addresses* are those of all, by their names."""

    def __init__(self, name: str, host: Host, addresses: dict[str, str], subnet: str, home: Path) -> None:
        self.name = name
        self.host = host
        self.folder = home / name
        self.folder.mkdir(mode=0o755)
        self._addresses = addresses
        self._subnet = subnet
        self.config = self.folder / "patroni.yml"
        self.config.write_text(self._configuration())
        for folder in (self.folder / "etcd", self.folder / "run", self.folder):
            folder.mkdir(mode=0o700, exist_ok=True)
            if user := unprivileged_user():
                shutil.chown(folder, user)
        self.etcd: subprocess.Popen[bytes] | None = None
        self.patroni: subprocess.Popen[bytes] | None = None

    def start_etcd(self) -> None:
        peer, client = f"http://{self.host.address}:2380", f"http://{self.host.address}:2379"
        every = ",".join(f"{name}=http://{address}:2380" for name, address in self._addresses.items())
        options = {
            "name": self.name,
            "data-dir": str(self.folder / "etcd"),
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "initial-cluster": every,
        }
        command = [etcd(), *(f"--{option}={value}" for option, value in options.items())]
        self.etcd = self.host.start(command, self.folder / "etcd.log")

    def start_patroni(self) -> None:
        # psycopg2's own libpq, and nothing of the tests' environment.
        command = [patroni(), str(self.config)]
        self.patroni = self.host.start(command, self.folder / "patroni.log", PYTHONPATH="", HOME="/")

    def freeze_etcd(self) -> None:
        assert self.etcd is not None
        os.kill(self.etcd.pid, signal.SIGSTOP)

    def wake_etcd(self) -> None:
        assert self.etcd is not None
        os.kill(self.etcd.pid, signal.SIGCONT)

    def kill_postgres(self) -> None:
        os.kill(int((self.folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def told(self) -> dict[str, Any]:
        """What its REST API says: role, state, timeline. Empty where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{self.host.address}:8008/patroni", timeout=1) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as refused:
            return dict(json.load(refused))
        except (OSError, ValueError):
            return {}

    def log_end(self) -> str:
        lines = (self.folder / "patroni.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-15:])

    def _configuration(self) -> str:
        text = (FILES / "patroni.yml").read_text()
        text = text.replace("name: db1", f"name: {self.name}", 1)
        text = text.replace("_address: db1.example.org", f"_address: {self.host.address}")
        for name, address in self._addresses.items():
            text = text.replace(f"{name}.example.org", address)
        for shipped, ours in PASSWORDS.items():
            text = text.replace(f'"{shipped}"', f'"{ours}"')
        here = {
            "data_dir": str(self.folder / "data"),
            "bin_dir": str(binaries()),
            "pgpass": str(self.folder / "run" / "pgpass"),
            "unix_socket_directories": str(self.folder / "run"),
        }
        for key, value in here.items():
            text, found = re.subn(rf"^( +{key}): .*$", rf"\1: {value}", text, flags=re.MULTILINE)
            assert found == 1, key
        return text.replace("10.0.0.0/24", self._subnet)
