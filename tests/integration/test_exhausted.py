"""A server that has run out of something: memory for locks, room on its disk."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import SCHEMA, eventually, or_skip
from tests.faults import Unavailable
from tests.faults.standby import query
from tests.site import views
from tests.site.extra import extra_alias, extra_view
from tools.postgres import Cluster, unprivileged_user

BACKEND = "SELECT pg_backend_pid()"
LOCKS = "SELECT count(pg_advisory_lock(n)) FROM generate_series(1, 100000) n"
FILL = "INSERT INTO large SELECT n, repeat('x', 1000) FROM generate_series(1, 100000) n"


@pytest.fixture(scope="module")
def small(root: Path) -> Iterator[Cluster]:
    """A server with little memory for locks."""
    settings = ["fsync=off", "max_connections=10", "max_locks_per_transaction=10", "max_wal_size=64MB"]
    cluster = Cluster(root / "small", settings).create().start()
    query(cluster, "CREATE DATABASE site")
    query(cluster, SCHEMA, "site")
    yield cluster
    cluster.destroy()


@pytest.fixture
def visit(site: TestApp, small: Cluster) -> Iterator[Callable[..., Any]]:
    """A request that sends these to that server; its answer."""
    with visitor(site, small) as visit:
        yield visit


@contextmanager
def visitor(site: TestApp, cluster: Cluster) -> Iterator[Callable[..., Any]]:
    from django.http import HttpResponse

    where = {"HOST": str(cluster.socket_dir), "PORT": str(cluster.port)}

    def visit(*statements: str, status: Any = 200) -> str:
        def view(request: Any) -> Any:
            return HttpResponse(" ".join(str(views.scalar(sql, using="small")) for sql in statements))

        with extra_view(view):
            return str(site.get("/extra/", status=status).text)

    with extra_alias("small", **where, OPTIONS={"persist": {"reconnect_deadline": 0.1}}):
        yield visit


@pytest.mark.parametrize("begin", [[], ["BEGIN"]], ids=["", "in a transaction"])
def test_statement_without_memory_for_its_locks_fails_alone(begin: list[str], visit: Any) -> None:
    backend = visit(BACKEND)
    visit(*begin, LOCKS, status=500)
    assert visit(BACKEND, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == f"{backend} 0"


def test_new_connection_without_memory_is_an_outage(visit: Any, small: Cluster, driver: ModuleType) -> None:
    hog = driver.connect(**small.dsn(dbname="site"))
    with pytest.raises(driver.Error, match="out of shared memory"):
        hog.cursor().execute(LOCKS)
    hog.rollback()  # which these locks outlive
    assert visit(BACKEND, status="*").startswith("The database is out of reach")
    hog.close()
    assert eventually(lambda: visit(BACKEND, status="*").isdigit(), True)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir()
    size = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    with or_skip():
        if subprocess.run(size, capture_output=True, check=False).returncode:
            raise Unavailable("no disk can be mounted here (root may)")
    try:
        if user := unprivileged_user():
            shutil.chown(folder, user)
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def disk(root: Path, small: Cluster) -> Iterator[None]:
    """A table on a disk of its own, which is small."""
    with small_disk(root / "disk", 16) as folder:
        query(small, f"CREATE TABLESPACE disk LOCATION '{folder}'", "site")
        yield
        query(small, "DROP TABLESPACE disk", "site")


@pytest.fixture
def large(disk: None, small: Cluster) -> Iterator[None]:
    query(small, "CREATE TABLE large (number int, note text) TABLESPACE disk", "site")
    yield
    query(small, "DROP TABLE large", "site")
    query(small, "CHECKPOINT")  # which makes the room free


@pytest.mark.parametrize("begin", [[], ["BEGIN"]], ids=["", "in a transaction"])
def test_write_that_finds_the_disk_full_fails_alone(
    begin: list[str], visit: Any, large: None, small: Cluster
) -> None:
    insert = "INSERT INTO large VALUES (1, 'small')"
    backend = visit(insert, BACKEND).split()[-1]
    visit(*begin, insert, FILL, status=500)
    assert "No space left on device" in small.log.read_text()
    assert visit(BACKEND, "SELECT count(*) FROM large") == f"{backend} {1 if begin else 2}"


@pytest.fixture
def logged(root: Path) -> Iterator[tuple[Cluster, Path]]:
    """A server whose log of writes has a small disk of its own, and a file there that takes the rest."""
    with small_disk(root / "wal", 64) as folder:
        cluster = Cluster(root / "logged", ["fsync=off", "max_wal_size=1GB"]).create()
        segments = cluster.data / "pg_wal"
        shutil.copytree(segments, folder / "pg_wal")
        shutil.rmtree(segments)
        segments.symlink_to(folder / "pg_wal")
        if user := unprivileged_user():
            subprocess.run(["chown", "-R", user, str(folder)], check=True)
        cluster.start()
        query(cluster, "CREATE DATABASE site")
        query(cluster, SCHEMA, "site")
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(folder).free))
        yield cluster, ballast
        cluster.destroy()


def test_server_that_cannot_log_is_an_outage(
    site: TestApp, logged: tuple[Cluster, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """It ends itself in the midst of a write, and may not come up before there is room."""
    cluster, ballast = logged
    write = "INSERT INTO entry (note) SELECT repeat('x', 1000) FROM generate_series(1, 50000)"
    with visitor(site, cluster) as visit:
        visit("INSERT INTO entry (note) VALUES ('before')")
        visit(write, status=503)
        assert "No space left on device" in cluster.log.read_text()
        ballast.unlink()
        if cluster.has_ended():
            cluster.stop()
            cluster.start()
        cluster.wait_ready()
        assert eventually(lambda: visit("SELECT count(*) FROM entry", status="*"), "1")
        visit("INSERT INTO entry (note) VALUES ('after')")
