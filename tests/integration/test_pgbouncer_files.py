"""The files of deploy/pgbouncer, as they are: a real PgBouncer reads them, and a site goes through it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import or_skip
from tests.faults.pgbouncer import PgBouncer
from tests.faults.standby import query
from tests.serving import ROOT
from tools.postgres import SUPERUSER, Cluster, unprivileged_user

FILES = ROOT / "deploy" / "pgbouncer"
PASSWORD = "a secret"
# Where this machine differs from an operator's.
HERE = {
    "mysite": "host=127.0.0.1 port={server} dbname=mysite",
    "listen_addr": "127.0.0.1",
    "listen_port": "{port}",
    "unix_socket_dir": "{folder}",
    "logfile": "",
    "pidfile": "",
    "auth_file": "{folder}/userlist.txt",
}
SITE = """
import json, sys
from pathlib import Path
from django.conf import settings
namespace = {}
exec(Path(sys.argv[1]).read_text(), namespace)
databases = namespace["DATABASES"]
databases["default"].update(HOST="127.0.0.1", PORT=sys.argv[2])
settings.configure(DATABASES=databases, INSTALLED_APPS=["wsgi_persist.backends"])
import django
django.setup()
from django.core import checks
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SELECT session_user")
    (user,) = cursor.fetchone()
found = [message.id for message in checks.run_checks(databases=["default"])]
print(json.dumps([user, found]))
"""


class Shipped(PgBouncer):
    """With the files of deploy/pgbouncer."""

    def _configure(self, mode: str) -> Path:
        config = self.folder / "pgbouncer.ini"
        here = {"server": self.cluster.port, "port": self.port, "folder": self.folder}
        text = (FILES / "pgbouncer.ini").read_text()
        for name, value in HERE.items():
            text, found = re.subn(rf"^{name} = .*$", f"{name} = {value.format(**here)}", text, flags=re.M)
            assert found == 1, name
        config.write_text(text)
        users = self.folder / "userlist.txt"
        users.write_text(self._users())
        users.chmod(0o600)
        if user := unprivileged_user():
            shutil.chown(users, user)
            shutil.chown(self.folder, user)  # for its socket: newer ones do not start without
        return config

    def _users(self) -> str:
        """As userlist.sql says."""
        address = ["-h", str(self.cluster.socket_dir), "-p", str(self.cluster.port), "-U", SUPERUSER]
        script = self.folder / "userlist.sql"  # where PostgreSQL's user can read it
        shutil.copy(FILES / script.name, script)
        given = ["-v", f"users=mysite,{SUPERUSER}", "-f", str(script)]
        return self.cluster.run("psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", *address, *given)

    def _psql(self, dbname: str, text: str) -> str:
        conninfo = f"host=127.0.0.1 port={self.port} user={SUPERUSER} password='{PASSWORD}' dbname={dbname}"
        return self.cluster.run("psql", "-X", "-q", "-At", "-d", conninfo, "-c", text).strip()


@pytest.fixture(scope="module")
def cluster(root: Path) -> Iterator[Cluster]:
    """A server that lets nobody in without a password, but by its socket."""
    cluster = Cluster(root / "scram", ["fsync=off"]).create()
    cluster.admit("127.0.0.1/32", "scram-sha-256")
    cluster.start()
    for name in ("mysite", "stranger"):
        query(cluster, f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    query(cluster, f"ALTER ROLE {SUPERUSER} PASSWORD '{PASSWORD}'")
    query(cluster, "CREATE DATABASE mysite OWNER mysite")
    yield cluster
    cluster.destroy()


@pytest.fixture(scope="module")
def pooler(cluster: Cluster) -> Iterator[Shipped]:
    with or_skip(), Shipped(cluster) as pooler:
        yield pooler


def asked(port: int, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SITE, str(FILES / "database.py"), str(port)],
        env={**os.environ, "PGPASSWORD": password, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_site_logs_in_as_itself_and_the_checks_are_content(pooler: Shipped) -> None:
    done = asked(pooler.port)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["mysite", []]


def test_wrong_password_is_refused(pooler: Shipped) -> None:
    done = asked(pooler.port, "another")
    assert done.returncode != 0
    assert "authentication failed" in done.stderr


def test_every_line_is_known_to_this_pgbouncer(pooler: Shipped) -> None:
    assert "unknown" not in pooler.log.read_text()
    shown = [row.split("|") for row in pooler.command("SHOW CONFIG").splitlines()]
    values = {row[0]: row[1] for row in shown}
    assert (values["pool_mode"], values["server_login_retry"]) == ("transaction", "1")


def test_only_those_who_are_named_are_let_in(pooler: Shipped) -> None:
    listed = (pooler.folder / "userlist.txt").read_text().splitlines()
    assert [line.split()[0] for line in listed] == ['"mysite"', f'"{SUPERUSER}"']
    assert PASSWORD not in "".join(listed)


def test_user_of_the_site_may_look_at_the_console_and_no_more(pooler: Shipped) -> None:
    mine = f"host=127.0.0.1 port={pooler.port} user=mysite password='{PASSWORD}' dbname=pgbouncer"
    assert "max_client_conn|400" in pooler.cluster.run("psql", "-X", "-At", "-d", mine, "-c", "SHOW CONFIG")
    with pytest.raises(RuntimeError, match="admin access needed"):
        pooler.cluster.run("psql", "-X", "-d", mine, "-c", "PAUSE")
