"""Random sequences of statements and boundaries: after each boundary the session equals a new one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Server
from wsgi_persist import Pin
from wsgi_persist.worker import registry

SEQUENCES = 2000

STATEMENTS = [
    "SELECT 1",
    "SELECT 1/0",
    "INSERT INTO entry (note) VALUES ('sequence')",
    "SET statement_timeout = 54321",
    "SET LOCAL statement_timeout = 54321",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET search_path = pg_catalog",
    "SELECT set_config('work_mem', '1234kB', false)",
    "SELECT set_config('work_mem', '1234kB', true)",
    "SELECT set_config('my.tenant', 'one', false)",
    "SET my.tenant = 'two'",
    "SET TIME ZONE 'Asia/Tokyo'",
    "SET ROLE pg_monitor",
    "SET SESSION AUTHORIZATION pg_monitor",
    "RESET ALL",
    "RESET ROLE",
    "DISCARD ALL",
    "DISCARD TEMP",
    "CREATE TEMPORARY TABLE scratch (id int)",
    "CREATE TEMP VIEW seen AS SELECT 1",
    "DROP TABLE IF EXISTS scratch",
    "SELECT 1 AS one INTO TEMP other_scratch",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_advisory_lock_shared(2)",
    "SELECT pg_try_advisory_lock(3)",
    "SELECT pg_advisory_xact_lock(4)",
    "SELECT pg_advisory_unlock(1)",
    "LISTEN news",
    "UNLISTEN news",
    "NOTIFY news",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE ALL",
    "DECLARE c CURSOR FOR SELECT 1",
    "DECLARE h CURSOR WITH HOLD FOR SELECT 1",
    "FETCH h",
    "CLOSE ALL",
    "BEGIN",
    "BEGIN READ ONLY",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "ROLLBACK TO SAVEPOINT s",
    "DO $$ BEGIN PERFORM set_config('work_mem', '4321kB', false); END $$",
    "SELECT leaves_something()",
    "SELECT setseed(0.5)",
    "SELECT set_config('my.tenant', NULL, false)",
    "SELECT pg_advisory_unlock_all()",
    "UNLISTEN *",
    "LOCK TABLE entry",
    "SET statement_timeout = 1; SET lock_timeout = 2",
    "/* hidden */ sEt\n--comment\n lock_timeout = 3",
    "EXPLAIN ANALYZE SELECT set_config('work_mem', '999kB', false)",
]
# What is done to the driver's object instead.
CHANGES = {
    "autocommit off": lambda connection: setattr(connection, "autocommit", False),
    "isolation": lambda connection: setattr(connection, "isolation_level", 3),
    "commit": lambda connection: connection.commit(),
    "rollback": lambda connection: connection.rollback(),
    "close": lambda connection: connection.close(),
}
# A custom setting that was ever named is empty, as after SET LOCAL.
PROBE = """
SELECT (SELECT array_agg((name, setting, source) ORDER BY name)::text FROM pg_settings
        WHERE source IN ('session', 'interactive') AND name NOT LIKE 'transaction%'),
       current_user, session_user, current_setting('role'), nullif(current_setting('my.tenant', true), ''),
       current_setting('search_path'), current_setting('default_transaction_read_only'),
       (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
       (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
       (SELECT count(*) FROM pg_listening_channels()),
       (SELECT count(*) FROM pg_prepared_statements WHERE from_sql),
       (SELECT count(*) FROM pg_cursors WHERE is_holdable)
"""
action = st.one_of(st.sampled_from(STATEMENTS), st.sampled_from(sorted(CHANGES)))
request = st.lists(action, max_size=6)


@pytest.fixture
def pin(server: Server, driver: ModuleType) -> Iterator[Pin]:
    server("DROP FUNCTION IF EXISTS leaves_something")
    server(
        "CREATE FUNCTION leaves_something() RETURNS void LANGUAGE sql AS "
        "$$ SELECT set_config('work_mem', '4321kB', false) $$"
    )
    pin = Pin(lambda: driver.connect(**server.cluster.dsn(dbname="site")))
    yield pin
    kept = registry.process_scope().pins.pop(pin, None)
    if kept is not None:
        kept.stop()


@contextmanager
def inside() -> Iterator[None]:
    boundary = registry.process_scope().enter({"REQUEST_METHOD": "GET", "PATH_INFO": "/"})
    try:
        yield
    finally:
        boundary.leave()


def probe(pin: Pin, driver: ModuleType) -> tuple[Any, ...]:
    connection = pin.connection
    with connection.cursor() as cursor:
        cursor.execute(PROBE)
        seen = tuple(cursor.fetchone())
    idle = connection.info.transaction_status == 0
    return (*seen, idle, connection.autocommit, connection.isolation_level)


def act(pin: Pin, what: str, driver: ModuleType) -> None:
    try:
        if what in CHANGES:
            CHANGES[what](pin.connection)
        else:
            with pin.cursor() as cursor:
                cursor.execute(what)
    except driver.Error:
        pass  # in a failed transaction, without a table, or after close(): the sequence goes on


def test_session_equals_a_new_one_after_every_boundary(pin: Pin, driver: ModuleType) -> None:
    with inside():
        new = probe(pin, driver)

    @settings(
        max_examples=SEQUENCES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.lists(request, min_size=1, max_size=3))
    def run(requests: list[list[str]]) -> None:
        for actions in requests:
            with inside():
                for what in actions:
                    act(pin, what, driver)
            with inside():
                assert probe(pin, driver) == new

    run()
