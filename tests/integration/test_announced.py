"""What receivers of connection_created do belongs to the session, whenever they are called."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import pytest
from webtest import TestApp

from tests.conftest import DRIVER, Server
from tests.integration.test_backend import run_django
from wsgi_persist.pins import reports
from wsgi_persist.sql import Recent

PROGRAM = """
from concurrent.futures import ThreadPoolExecutor
from tests.site.wsgi import application
from webtest import TestApp

client = TestApp(application, extra_environ={"wsgi.multithread": False})
print(client.get("/pid/").text)
for _ in range(2):
    with ThreadPoolExecutor(1) as other:
        print(other.submit(lambda: [client.get("/pid/").text for _ in range(2)]).result())
print(client.get("/sql/?sql=SELECT 'a=>1'::hstore").text)
"""


@pytest.mark.parametrize("report", ["log", "raise"])
def test_adapters_that_django_registers_again_are_no_leak(report: str, server: Server) -> None:
    """A worker under mod_wsgi warms up on one thread and serves on another."""
    server("CREATE EXTENSION IF NOT EXISTS hstore; CREATE EXTENSION IF NOT EXISTS citext")
    try:
        done = run_django(
            server,
            PROGRAM,
            SITE_OPTIONS=json.dumps({"persist": {"reset_report": report}}),
            SITE_SETTINGS=json.dumps({"INSTALLED_APPS": ["django.contrib.postgres"]}),
        )
    finally:
        server("DROP EXTENSION hstore; DROP EXTENSION citext")
    pid, *others, value = done.stdout.splitlines()
    assert others == [str([pid, pid])] * 2, done.stderr
    assert value == "{'a': '1'}"
    assert "session state" not in done.stderr


def change_driver(connection: Any) -> None:
    if DRIVER == "psycopg":
        connection.adapters.register_loader("int4", connection.adapters.get_loader(23, 0))
        connection.prepare_threshold = 7
    else:
        connection.readonly = False


# What a receiver does, what shows it, and what that says as long as it is so.
RECEIVED: dict[str, tuple[Any, str, str]] = {
    "driver": (change_driver, "SHOW work_mem", "4MB"),
    "SET": ("SET work_mem = '2MB'", "SHOW work_mem", "2MB"),
    "role": ("SET ROLE pg_monitor", "SELECT current_user", "pg_monitor"),
    "custom": ("SET my.tenant = 'one'", "SHOW my.tenant", "one"),
    "set_config": ("SELECT set_config('my.tenant', 'one', false)", "SHOW my.tenant", "one"),
    "LOAD": ("LOAD 'plpgsql'", "SHOW work_mem", "4MB"),
    "temporary": ("CREATE TEMP TABLE IF NOT EXISTS a AS SELECT 1 AS b", "SELECT b FROM a", "1"),
}


@pytest.fixture(params=RECEIVED)
def received(
    request: pytest.FixtureRequest, site: TestApp, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], bool]]:
    """Whether the session is as the receiver left it."""
    from django.db.backends.signals import connection_created

    does, shown, value = RECEIVED[request.param]

    def receiver(connection: Any, **kwargs: Any) -> None:
        if callable(does):
            does(connection.connection)
        else:
            with connection.cursor() as cursor:
                cursor.execute(does)

    monkeypatch.setattr(reports, "_reported", Recent(9))
    connection_created.connect(receiver)
    try:
        yield lambda: site.get("/sql/?" + urlencode({"sql": shown})).text == value
    finally:
        connection_created.disconnect(receiver)


def on_another_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_receivers_are_no_leak_on_another_thread(
    received: Callable[[], bool], site: TestApp, caplog: pytest.LogCaptureFixture
) -> None:
    pid = site.get("/pid/").text
    with caplog.at_level(logging.WARNING, "wsgi_persist"):
        for _ in range(2):
            assert on_another_thread(lambda: (site.get("/pid/").text, received())) == (pid, True)
    assert "session state" not in caplog.text
    assert site.get("/pid/").text == pid


def test_what_is_undone_beside_them_is_not_left(received: Callable[[], bool], site: TestApp) -> None:
    pid = site.get("/pid/").text
    statements = [("sql", "SELECT pg_advisory_lock(7)"), ("sql", "SELECT pg_advisory_unlock(7)")]
    for _ in range(2):
        assert site.get("/run/?" + urlencode(statements)).text == pid
    assert received()
    assert site.get("/pid/").text == pid


def test_loaded_library_is_no_reason_to_close(site: TestApp) -> None:
    from django.db.backends.signals import connection_created

    def receiver(connection: Any, **kwargs: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("LOAD 'plpgsql'")

    connection_created.connect(receiver)
    try:
        pid = site.get("/pid/").text
        site.get("/run/?" + urlencode({"sql": "SET work_mem = '2MB'"}))
        assert site.get("/pid/").text == pid
    finally:
        connection_created.disconnect(receiver)


@pytest.mark.parametrize(
    "statement",
    [
        "SET work_mem = '3MB'",
        "RESET ALL",
        "RESET my.tenant",
        "SET my.tenant TO DEFAULT",
        "SET my.tenant = 'two'",
        "SELECT set_config('my.tenant', NULL, false)",
        "SET ROLE NONE",
        "DISCARD ALL",
    ],
)
def test_what_receivers_did_outlives_what_a_request_does(
    statement: str, received: Callable[[], bool], site: TestApp
) -> None:
    """Restored where a reset can do it, else on a new connection; also when it was announced before."""
    assert received()
    site.get("/run/?" + urlencode({"sql": statement}))
    assert received()
    assert on_another_thread(received)
    site.get("/run/?" + urlencode({"sql": statement}))
    assert received()


def test_first_to_change_the_session_is_a_receiver_on_another_thread(site: TestApp) -> None:
    """One that has not run when the connection was opened."""
    from django.db.backends.signals import connection_created

    def receiver(connection: Any, **kwargs: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET my.tenant = 'one'; SET work_mem = '2MB'")

    pid = site.get("/pid/").text
    connection_created.connect(receiver)
    try:
        assert on_another_thread(lambda: site.get("/pid/").text) == pid
    finally:
        connection_created.disconnect(receiver)
    assert site.get("/sql/?sql=SHOW work_mem").text == "2MB"
    site.get("/run/?" + urlencode({"sql": "SET statement_timeout = 1000"}))
    assert site.get("/pid/").text != pid, "no reset restores a custom setting"
