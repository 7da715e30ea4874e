"""The faults themselves, done to real servers."""

from __future__ import annotations

import threading
from contextlib import closing, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import eventually, or_skip
from tests.faults.faults import FAST, IMMEDIATE, Faults, wait_for
from tests.faults.network import Network
from tests.faults.pgbouncer import PgBouncer
from tests.faults.proxy import Proxy
from tests.faults.standby import Standby, query
from tools.postgres import Cluster


def session(cluster: Cluster, driver: ModuleType, **given: Any) -> Any:
    """A session as the site would have it."""
    connection = driver.connect(**cluster.dsn(**{"dbname": "site", **given}))
    connection.autocommit = True
    return connection


def select_one(connection: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()[0]


@pytest.mark.parametrize("how", [FAST, IMMEDIATE])
def test_restart_ends_every_session(faults: Faults, driver: ModuleType, how: Any) -> None:
    with closing(session(faults.cluster, driver)) as connection:
        assert select_one(connection) == 1
        faults.restart(how)
        with pytest.raises(driver.Error):
            select_one(connection)
    assert faults.backends() == []


def test_postmaster_killed_under_a_long_query(faults: Faults, driver: ModuleType) -> None:
    query(faults.cluster, "INSERT INTO entry (note) VALUES ('kept')", "site")
    with closing(session(faults.cluster, driver)) as connection:
        client = threading.Thread(target=lambda: quietly(driver, connection, "SELECT pg_sleep(60)"))
        client.start()
        wait_for(
            lambda: (
                query(faults.cluster, "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sl'")
                == "1"
            )
        )
        faults.kill_postmaster()
        client.join()
    assert query(faults.cluster, "SELECT note FROM entry", "site") == "kept"


def quietly(driver: ModuleType, connection: Any, sql: str) -> None:
    with suppress(driver.Error), connection.cursor() as cursor:
        cursor.execute(sql)


def test_crash_of_a_neighbour_ends_every_session_and_not_the_server(
    faults: Faults, driver: ModuleType
) -> None:
    pid = faults.cluster.pid
    with closing(session(faults.cluster, driver)) as connection:
        faults.crash_neighbour()
        with pytest.raises(driver.Error):
            select_one(connection)
    assert faults.cluster.pid == pid
    assert query(faults.cluster, "SELECT 1") == "1"


def test_sessions_are_terminated_but_not_the_observers(faults: Faults, driver: ModuleType) -> None:
    with closing(faults.connect()) as observer:
        with closing(session(faults.cluster, driver)) as one, closing(session(faults.cluster, driver)) as two:
            assert len(faults.backends()) == 2
            assert faults.terminate_one() == 1
            assert eventually(lambda: len(faults.backends()), 1)
            assert faults.terminate_all() == 1
            assert eventually(faults.backends, [])
            for connection in (one, two):
                with pytest.raises(driver.Error):
                    select_one(connection)
        assert select_one(observer) == 1
    assert faults.terminate_one() == 0


def test_down_while_a_block_runs(faults: Faults, driver: ModuleType) -> None:
    with faults.stopped(), pytest.raises(driver.OperationalError):
        session(faults.cluster, driver)
    with closing(session(faults.cluster, driver)) as connection:
        assert select_one(connection) == 1


def test_frozen_backend_answers_when_it_thaws(faults: Faults, driver: ModuleType) -> None:
    found: list[int] = []
    with closing(session(faults.cluster, driver)) as connection:
        with faults.frozen(faults.backends()[0]):
            client = threading.Thread(target=lambda: found.append(select_one(connection)))
            client.start()
            client.join(0.2)
            assert found == []
        client.join()
    assert found == [1]


def test_frozen_postmaster_takes_no_session(faults: Faults, driver: ModuleType) -> None:
    with closing(session(faults.cluster, driver)) as connection, faults.frozen():
        assert select_one(connection) == 1
        with pytest.raises(driver.OperationalError, match="timeout"):
            session(faults.cluster, driver, host="127.0.0.1", connect_timeout=2)


def test_wait_has_an_end() -> None:
    with pytest.raises(TimeoutError, match=r"not so after 0\.05 s"):
        wait_for(lambda: False, 0.05)


def test_postgresql_through_the_proxy(faults: Faults, driver: ModuleType) -> None:
    with Proxy(("127.0.0.1", faults.cluster.port)) as proxy:
        with closing(session(faults.cluster, driver, host="127.0.0.1", port=proxy.port)) as connection:
            assert select_one(connection) == 1
            proxy.hang_up()
            with pytest.raises(driver.OperationalError):
                select_one(connection)
        assert eventually(faults.backends, [])
        with faults.stopped(), pytest.raises(driver.OperationalError):
            session(faults.cluster, driver, host="127.0.0.1", port=proxy.port)
        assert len(proxy.accepted()) >= 2


def test_standby_follows_and_is_promoted(root: Path, victim: Cluster) -> None:
    standby = Standby(victim, root / "standby").create()
    standby.start()
    try:
        query(victim, "INSERT INTO entry (note) VALUES ('followed')", "site")
        standby.catch_up()
        count = "SELECT count(*) FROM entry WHERE note = 'followed'"
        assert query(standby, count, "site") == "1"
        assert standby.is_standby()
        with pytest.raises(RuntimeError, match="read-only transaction"):
            query(standby, "INSERT INTO entry (note) VALUES ('too early')", "site")
        standby.promote()
        assert not standby.is_standby()
        query(standby, "INSERT INTO entry (note) VALUES ('followed')", "site")
        assert query(standby, count, "site") == "2"
    finally:
        standby.destroy()


@pytest.mark.parametrize(("mode", "different"), [("session", 2), ("transaction", 1)])
def test_pgbouncer_by_its_modes(victim: Cluster, driver: ModuleType, mode: str, different: int) -> None:
    """Two clients, each with a session, or taking turns on one."""
    with or_skip(), PgBouncer(victim, mode) as bouncer:
        address = {"host": "127.0.0.1", "port": bouncer.port}
        with (
            closing(session(victim, driver, **address)) as one,
            closing(session(victim, driver, **address)) as two,
        ):
            assert len({backend_of(one), backend_of(two)}) == different


def test_pgbouncer_restarts_and_reconnects(faults: Faults, driver: ModuleType) -> None:
    with or_skip(), PgBouncer(faults.cluster, "transaction") as bouncer:
        address = {"host": "127.0.0.1", "port": bouncer.port}
        with closing(session(faults.cluster, driver, **address)) as connection:
            first = backend_of(connection)
            bouncer.reconnect()
            assert eventually(lambda: backend_of(connection) != first, True)
            bouncer.restart()
            with pytest.raises(driver.OperationalError):
                select_one(connection)
        with closing(session(faults.cluster, driver, **address)) as connection:
            assert select_one(connection) == 1
        bouncer.stop()
        with pytest.raises(driver.OperationalError):
            session(faults.cluster, driver, **address)


def backend_of(connection: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def test_pulled_cable(network: Network, root: Path, driver: ModuleType) -> None:
    """Nothing comes back while it is pulled; afterwards the same session goes on."""
    cluster = Cluster(root / "far", ["fsync=off"], address=network.address).create()
    cluster.admit(f"{network.near}/32")
    with network.inside():
        cluster.start()
    try:
        address = {"host": network.address, "dbname": "postgres"}
        with closing(session(cluster, driver, **address)) as connection:
            assert select_one(connection) == 1
            network.down()
            found: list[int] = []
            client = threading.Thread(target=lambda: found.append(select_one(connection)))
            client.start()
            with pytest.raises(driver.OperationalError, match="timeout"):
                session(cluster, driver, connect_timeout=2, **address)
            assert found == []
            assert query(cluster, "SELECT 1") == "1"
            network.up()
            client.join()
            assert found == [1]
    finally:
        network.up()
        cluster.destroy()
