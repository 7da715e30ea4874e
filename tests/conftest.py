"""Shared fixtures: a real PostgreSQL, the site on it, and a view of what the server saw."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trustme
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

from tests.faults import Unavailable
from tests.faults.faults import Faults
from tests.faults.standby import query
from tests.front import Front
from tools.apache import public_folder
from tools.environment import folder as folder_of_the_build
from tools.postgres import Cluster, binaries, has_tls, unprivileged_user

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a shell's background job: servers that the tests start would inherit it, and never stop.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # As under nohup: an Apache would ignore it, too, but for a handler, which no program inherits.
    signal.signal(signal.SIGHUP, lambda *_: None)

# Neither how fast a machine is decides on a test, nor what is drawn: two runs see the same.
settings.register_profile(
    "repeatable", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
# To look for what nobody has thought of: pytest --hypothesis-profile=exploring.
settings.register_profile("exploring", settings.get_profile("repeatable"), derandomize=False)
settings.load_profile("repeatable")
set_hypothesis_home_dir(folder_of_the_build() / "hypothesis")

DRIVER = os.environ.setdefault("SITE_DRIVER", "psycopg")
SCHEMA = "CREATE TABLE entry (id serial PRIMARY KEY, note text NOT NULL)"


def pytest_report_header() -> str:
    return f"driver: {DRIVER} (SITE_DRIVER), PostgreSQL of {binaries()} (PG_BIN, PG=machine)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "cluster" in fixtures:
            item.add_marker("postgres")
        if "apache" in fixtures:
            item.add_marker("apache")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was skipped, counted by what it was skipped for want of."""
    causes = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    for cause, count in causes.most_common():
        terminalreporter.write_line(f"{count} skipped: {cause.removeprefix('Skipped: ')}")


@pytest.fixture(scope="session")
def driver() -> ModuleType:
    """psycopg2 or psycopg, whichever this run is about."""
    return importlib.import_module(DRIVER)


@contextmanager
def or_skip() -> Iterator[None]:
    """Skip the test where this machine lacks what it needs; the reason says what that is."""
    try:
        yield
    except Unavailable as missing:
        pytest.skip(str(missing))


def make_certificate(root: Path, kind: trustme.KeyType = trustme.KeyType.ECDSA) -> tuple[Path, Path]:
    """A certificate for the server, and its key, readable by the server alone."""
    issued = trustme.CA().issue_cert("localhost", "127.0.0.1", key_type=kind)
    certificate, key = root / "server.crt", root / "server.key"
    issued.cert_chain_pems[0].write_to_path(certificate)
    key.touch(mode=0o600)
    issued.private_key_pem.write_to_path(key)
    if user := unprivileged_user():
        shutil.chown(key, user)
    return certificate, key


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    # PostgreSQL runs as another user when the tests run as root, and pytest closes its folders to others.
    root = public_folder("postgres")
    settings = ["log_statement=all", "log_connections=on", "fsync=off", "log_line_prefix=%p %a| "]
    certificate, key = make_certificate(root)
    if has_tls(binaries()):
        settings += ["ssl=on", f"ssl_cert_file={certificate}", f"ssl_key_file={key}"]
    cluster = Cluster(root / "data", settings).create().start()
    try:
        yield cluster
    finally:
        cluster.destroy()
        shutil.rmtree(root)


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    # PostgreSQL runs as another user when the tests run as root, and pytest closes its folders to others.
    root = public_folder("faults")
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def victim(root: Path) -> Iterator[Cluster]:
    """A server that a test may do anything to."""
    cluster = Cluster(root / "victim", ["fsync=off"]).create().start()
    query(cluster, "CREATE DATABASE site")
    query(cluster, SCHEMA, "site")
    yield cluster
    cluster.destroy()


@pytest.fixture
def faults(victim: Cluster, driver: ModuleType) -> Faults:
    return Faults(victim, driver)


def eventually(read: Callable[[], Any], wanted: Any, timeout: float = 5.0) -> bool:
    """Whether *read* gives *wanted* before the time is out: a closed session ends a moment later."""
    give_up = time.monotonic() + timeout
    while (found := read()) != wanted:
        assert time.monotonic() < give_up, f"still {found}, not {wanted}, after {timeout} s"
        time.sleep(0.01)
    return True


class Server:
    """The server's own account of what it was sent."""

    def __init__(self, cluster: Cluster, driver: ModuleType) -> None:
        self.cluster = cluster
        self._driver = driver
        self.connection = self.connect(application_name="observer")
        self._mark = 0

    def connect(self, **given: Any) -> Any:
        """A connection of the test's own, in autocommit mode."""
        connection = self._driver.connect(**self.cluster.dsn(**{"dbname": "site", **given}))
        connection.autocommit = True
        return connection

    def __call__(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params or None)
            return list(cursor.fetchall()) if cursor.description else []

    def backends(self) -> list[int]:
        """Every client backend but the observer's that has let its client in: PostgreSQL 18 shows one
        before that, whose "connection authorized" is still to come in the log."""
        rows = self(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' "
            "AND application_name <> 'observer' AND state IS DISTINCT FROM 'starting' ORDER BY pid"
        )
        return [row[0] for row in rows]

    def sleeping(self) -> int:
        """How many sessions of the site run pg_sleep()."""
        sql = """SELECT count(*) FROM pg_stat_activity
                 WHERE query LIKE %s AND state = 'active' AND application_name <> 'observer'"""
        return int(self(sql, "%pg_sleep%")[0][0])

    def terminate(self, pid: int) -> None:
        """Returns once the backend is gone."""
        assert self("SELECT pg_terminate_backend(%s, 5000)", pid) == [(True,)]

    def mark(self) -> None:
        """Statements and connections are counted from here."""
        self._mark = self.cluster.log.stat().st_size

    def log(self) -> list[str]:
        with self.cluster.log.open("rb") as log:
            log.seek(self._mark)
            text = log.read().decode(errors="replace")
        ours = (" observer| ", "application_name=observer")
        return [line for line in text.splitlines() if not any(mark in line for mark in ours)]

    def statements(self) -> list[str]:
        found = (re.search(r"LOG:  (?:statement|execute [^:]+): (.*)", line) for line in self.log())
        return [match[1] for match in found if match]

    def connections(self) -> int:
        return sum("connection authorized: user=" in line for line in self.log())


@pytest.fixture(scope="session")
def tls_port(cluster: Cluster) -> Iterator[int]:
    """Where the server is reached over TLS."""
    if has_tls(cluster.bin):
        yield cluster.port
        return
    root = cluster.data.parent
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(root / "server.crt", root / "server.key")
    front = Front(("127.0.0.1", cluster.port), context)
    yield front.port
    front.close()


@pytest.fixture(scope="session")
def site_database(cluster: Cluster, driver: ModuleType) -> Cluster:
    """The databases of the site: ``site`` and ``second``, with the table that the views write."""
    admin = driver.connect(**cluster.dsn(application_name="observer"))
    admin.autocommit = True
    for name in ("site", "second"):
        admin.cursor().execute(f"CREATE DATABASE {name}")
        with driver.connect(**cluster.dsn(dbname=name)) as connection:
            connection.cursor().execute(SCHEMA)
        connection.close()
    admin.close()
    return cluster


@pytest.fixture
def server(site_database: Cluster, driver: ModuleType) -> Iterator[Server]:
    server = Server(site_database, driver)
    server("TRUNCATE entry")
    server.mark()
    try:
        yield server
    finally:
        server.connection.close()


@pytest.fixture
def what_leaks(server: Server) -> None:
    """The role and the function that statements of the tests leave state by."""
    server("DROP ROLE IF EXISTS reader")
    server("CREATE ROLE reader")
    server(
        "CREATE OR REPLACE FUNCTION sets_something() RETURNS void LANGUAGE sql AS "
        "$$ SELECT set_config('work_mem', '4321kB', false) $$"
    )


@pytest.fixture
def notes(server: Server) -> Callable[[], list[str]]:
    """The rows that were committed."""
    return lambda: [row[0] for row in server("SELECT note FROM entry ORDER BY id")]


def site_environment(cluster: Cluster, **given: str) -> dict[str, str]:
    """Environment variables for the site's settings, over the Unix socket."""
    return {
        "SITE_DRIVER": DRIVER,
        "SITE_HOST": str(cluster.socket_dir),
        "SITE_PORT": str(cluster.port),
        "DJANGO_SETTINGS_MODULE": "tests.site.settings",
        "PYTHONPATH": str(Path(__file__).parent.parent),
        **given,
    }


def abandoned(server: Server) -> int:
    """Sessions that ended without a word, as the server counts them."""
    return int(server("SELECT sessions_abandoned FROM pg_stat_database WHERE datname = 'site'")[0][0])
