"""PgBouncer in front of a cluster, in session or in transaction mode."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.faults import Unavailable
from tests.faults.faults import wait_for
from tools.machine import SEARCH
from tools.postgres import SUPERUSER, Cluster, free_port, switch_user, unprivileged_user

CONFIG = """\
[databases]
* = host={host} port={server} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir = {folder}
auth_type = trust
auth_file = {users}
admin_users = {user}
pool_mode = {mode}
ignore_startup_parameters = extra_float_digits, options
server_login_retry = 1
server_tls_sslmode = {tls}
"""


def _program() -> str:
    program = shutil.which("pgbouncer", path=SEARCH)
    if program is None:
        raise Unavailable("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    return program


def pgbouncer_version() -> tuple[int, ...]:
    """Such as (1, 24).

    :raises Unavailable: where it is not installed.
    """
    said = subprocess.run([_program(), "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in said.split()[1].split(".")[:2])


class PgBouncer:
    """Listens on ``port`` of 127.0.0.1, and on a Unix socket in ``folder``.

    :param mode: ``"session"`` or ``"transaction"``.
    :param upstream: host and port of the server; its Unix socket if not given.
    :param tls: ``sslmode`` towards the server.
    :param password: for the server.
    :param settings: further ones of its own; of two that differ the last counts.
    :raises Unavailable: where PgBouncer is not installed.
    """

    def __init__(
        self,
        cluster: Cluster,
        mode: str = "session",
        upstream: tuple[str, int] | None = None,
        tls: str = "disable",
        settings: Mapping[str, object] | None = None,
        password: str = "",
    ) -> None:
        program = _program()
        self.cluster = cluster
        self._tls = tls
        self._password = password
        self._settings = settings or {}
        self._upstream = upstream or (str(cluster.socket_dir), cluster.port)
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="pgbouncer"))
        self.folder.chmod(0o755)
        self.log = self.folder / "pgbouncer.log"
        self._command = [program, str(self._configure(mode))]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> PgBouncer:
        with self.log.open("ab") as log:
            # It refuses to run as root.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **switch_user(),
            )
        wait_for(self._is_ready)
        return self

    def stop(self) -> None:
        """At once, with whoever is connected."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.5)
            # From 1.23 on the first SIGTERM waits for the clients, and the second one for nobody.
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def command(self, text: str) -> str:
        """A command of the admin console: RECONNECT, PAUSE, RESUME, KILL, SHOW POOLS, ..."""
        return self._psql("pgbouncer", text)

    def reconnect(self) -> None:
        """Replace every connection to the server as soon as nobody uses it."""
        self.command("RECONNECT")

    def destroy(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> PgBouncer:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.destroy()

    def _configure(self, mode: str) -> Path:
        users = self.folder / "users"
        users.write_text(f'"{SUPERUSER}" "{self._password}"\n')
        config = self.folder / "pgbouncer.ini"
        host, server = self._upstream
        config.write_text(
            CONFIG.format(
                host=host,
                server=server,
                folder=self.folder,
                port=self.port,
                users=users,
                user=SUPERUSER,
                mode=mode,
                tls=self._tls,
            )
            + "".join(f"{name} = {value}\n" for name, value in self._settings.items())
        )
        if user := unprivileged_user():
            for path in (self.folder, users, config):
                shutil.chown(path, user)
        return config

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"PgBouncer did not start:\n{self.log.read_text(errors='replace')}")
        try:
            self.command("SHOW VERSION")
        except RuntimeError:
            return False
        return True

    def _psql(self, dbname: str, text: str) -> str:
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", SUPERUSER, "-d", dbname]
        return self.cluster.run("psql", "-X", "-q", "-A", "-t", *address, "-c", text).strip()
