"""No session state crosses requests, and a clean request costs nothing."""

from __future__ import annotations

import importlib
import io
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlencode

import pytest
from webtest import TestApp

from tests.conftest import DRIVER, Server
from tests.late import Late
from tests.site.extra import extra_view
from wsgi_persist import LeakedStateError
from wsgi_persist.drivers import driver_of
from wsgi_persist.sql import Recent
from wsgi_persist.worker import registry

pytestmark = pytest.mark.usefixtures("what_leaks")

sql_module = importlib.import_module(f"{DRIVER}.sql")

# What a request leaves, and whether a reset undoes it (else the connection is closed).
KINDS = {
    "SET": (["SET statement_timeout = 12345"], True),
    "set_config": (["SELECT set_config('search_path', 'pg_catalog', false)"], True),
    "SET TIME ZONE": (["SET TIME ZONE 'Asia/Tokyo'"], True),
    "temporary table": (["CREATE TEMPORARY TABLE left_behind (id int)"], True),
    "advisory lock": (["SELECT pg_advisory_lock(42)"], True),
    "LISTEN": (["LISTEN news"], True),
    "PREPARE": (["PREPARE left_behind AS SELECT 1"], True),
    "SET ROLE": (["SET ROLE reader"], True),
    "DECLARE WITH HOLD": (["DECLARE left_behind CURSOR WITH HOLD FOR SELECT 1"], True),
    "function": (["SELECT sets_something()"], True),
    "DO": (["DO $$ BEGIN PERFORM set_config('work_mem', '1234kB', false); END $$"], True),
    "custom setting": (["SET my.tenant = 'one'"], False),
    "setseed": (["SELECT setseed(0.5)"], False),
    "two": (["SET statement_timeout = 12345; LISTEN news", "SELECT pg_advisory_lock_shared(1)"], True),
}
CLEAN = [
    "SELECT 1",
    "SELECT lower('SET x = 1'), 'LISTEN a'",
    "SET LOCAL statement_timeout = 1000",
    "SELECT set_config('search_path', 'public', true)",
    "SELECT pg_advisory_xact_lock(1)",
    "INSERT INTO entry (note) VALUES ('CREATE TEMP TABLE t')",
    "WITH t(a) AS (SELECT 1) SELECT a FROM t",
]


@pytest.fixture(params=[False, True], ids=["process", "thread"])
def client(request: pytest.FixtureRequest, site: TestApp) -> TestApp:
    """The site in either scope."""
    site.extra_environ["wsgi.multithread"] = request.param
    return site


def run(client: TestApp, statements: list[str]) -> int:
    return int(client.get("/run/?" + urlencode([("sql", statement) for statement in statements])).text)


@pytest.mark.parametrize("kind", KINDS)
def test_next_request_finds_a_new_session(kind: str, client: TestApp, server: Server) -> None:
    statements, resettable = KINDS[kind]
    new = client.get("/session/").json
    before = int(client.get("/pid/").text)
    server.mark()
    assert run(client, statements) == before
    sent = server.statements()
    assert client.get("/session/").json == new
    after = int(client.get("/pid/").text)
    assert (after == before) is resettable
    extra = [statement for statement in sent if statement.startswith("CLOSE ALL")]
    assert len(extra) == resettable, "one round trip more, or none and a new connection"


@pytest.mark.parametrize("statement", CLEAN)
def test_clean_request_costs_nothing(statement: str, site: TestApp, server: Server) -> None:
    pid = int(site.get("/pid/").text)
    server.mark()
    assert run(site, [statement]) == pid
    assert server.statements() == [statement, "SELECT pg_backend_pid()"]


@pytest.mark.parametrize("options", ["(FORMAT csv)", "WITH (FORMAT CSV, HEADER, FORCE_QUOTE (note))"])
def test_options_of_copy_are_no_calls(options: str, site: TestApp, server: Server) -> None:
    from django.db import connection

    from tests.site import views

    statement = f"COPY entry TO STDOUT {options}"

    def view(request: Any) -> Any:
        with connection.cursor() as cursor:
            copy_out(cursor, statement)
        return views.HttpResponse()

    site.get("/pid/")
    server.mark()
    with extra_view(view):
        site.get("/extra/")
    assert server.statements() == [statement]


@pytest.mark.parametrize("closed", [False, True])
def test_server_side_cursor(closed: bool, client: TestApp, server: Server) -> None:
    new = client.get("/session/").json
    server.mark()
    client.get("/held-cursor/?close" if closed else "/held-cursor/")
    resets = [statement for statement in server.statements() if statement.startswith("CLOSE ALL")]
    assert len(resets) == (not closed)
    assert client.get("/session/").json == new


def test_what_django_set_is_restored(site: TestApp, server: Server) -> None:
    zone = site.get("/sql/?sql=SHOW TimeZone").text
    assert zone == "UTC"
    run(site, ["SET TIME ZONE 'Asia/Tokyo'"])
    assert site.get("/sql/?sql=SHOW TimeZone").text == "UTC"
    run(site, ["DISCARD ALL"])
    assert site.get("/sql/?sql=SHOW TimeZone").text == "UTC"


def test_what_receivers_set_is_the_baseline(site: TestApp, server: Server) -> None:
    from django.db.backends.signals import connection_created

    def receiver(connection: Any, **kwargs: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET search_path = public, pg_catalog")
            cursor.execute("SET ROLE reader")

    connection_created.connect(receiver)
    try:
        server.mark()
        baseline = site.get("/session/").json
        assert "reader" in baseline["role"]
        assert "CLOSE ALL" not in "".join(server.statements()), "no reset after the first request"
        run(site, ["SET search_path = pg_catalog", "SET ROLE NONE", "SET my_unknown.x = 1"][:2])
        assert site.get("/session/").json == baseline
    finally:
        connection_created.disconnect(receiver)


def test_temporary_table_of_a_receiver_is_never_discarded(site: TestApp, server: Server) -> None:
    """No SQL restores it, so a session that a request has changed is closed."""
    from django.db.backends.signals import connection_created

    def receiver(connection: Any, **kwargs: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE scratch (id int)")

    connection_created.connect(receiver)
    try:
        before = int(site.get("/pid/").text)
        assert site.get("/sql/?sql=SELECT count(*) FROM scratch").text == "0"
        assert int(site.get("/pid/").text) == before
        run(site, ["SET statement_timeout = 1000"])
        assert site.get("/sql/?sql=SELECT count(*) FROM scratch").text == "0"
        assert int(site.get("/pid/").text) != before
    finally:
        connection_created.disconnect(receiver)


SETTING = "SELECT set_config('work_mem', '2048kB', false)"
COPY = f"COPY ({SETTING}) TO STDOUT"


class SafeText(str):
    """As templates and enumerations have them."""


def copy_out(cursor: Any, statement: str = COPY) -> None:
    if DRIVER == "psycopg2":
        cursor.copy_expert(statement, io.StringIO())
    else:
        with cursor.copy(statement) as copy:
            list(copy)


WAYS: dict[str, Callable[[Any], Any]] = {
    "execute": lambda cursor: cursor.execute(SETTING),
    "executemany": lambda cursor: cursor.executemany(
        "SELECT set_config('work_mem', %s, false)", [["2048kB"]]
    ),
    "callproc": lambda cursor: cursor.callproc("set_config", ["work_mem", "2048kB", False]),
    "copy": copy_out,
    "composed": lambda cursor: cursor.execute(sql_module.SQL(SETTING)),
    "raw execute": lambda cursor: cursor.connection.cursor().execute(SETTING),
    "a kind of str": lambda cursor: cursor.execute(SafeText(SETTING)),
    "raw bytes": lambda cursor: cursor.connection.cursor().execute(SETTING.encode()),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_the_server_is_watched(way: str, site: TestApp) -> None:
    from django.db import connection

    from tests.site import views

    def view(request: Any) -> Any:
        with connection.cursor() as cursor:
            WAYS[way](cursor)
        return views.HttpResponse(str(views.scalar("SHOW work_mem")))

    new = site.get("/session/").json
    pid = site.get("/pid/").text
    with extra_view(view):
        assert site.get("/extra/").text == "2MB"
    assert site.get("/session/").json == new
    # Of a procedure the name alone is known, and set_config may set what no reset undoes.
    assert (site.get("/pid/").text == pid) is (way != "callproc")


def test_what_is_no_statement_is_the_drivers_to_refuse(site: TestApp, driver: Any) -> None:
    from tests.site import views

    def view(request: Any) -> Any:
        views.connection.ensure_connection()
        with pytest.raises(TypeError):
            views.connection.connection.cursor().execute(7)
        return views.HttpResponse("refused")

    with extra_view(view):
        assert site.get("/extra/").text == "refused"


def test_server_side_cursors_own_statement_is_watched(site: TestApp) -> None:
    from django.db import connection, transaction

    from tests.site import views

    def view(request: Any) -> Any:
        with transaction.atomic(), connection.chunked_cursor() as cursor:
            cursor.execute(SETTING)
            return views.HttpResponse(cursor.fetchone()[0])

    new = site.get("/session/").json
    with extra_view(view):
        assert site.get("/extra/").text == "2MB"
    assert site.get("/session/").json == new


def test_drivers_own_cursor_is_watched(site: TestApp, server: Server) -> None:
    from django.db import connection

    from tests.site import views

    def view(request: Any) -> Any:
        connection.ensure_connection()
        connection.connection.cursor().execute("SET statement_timeout = 12345")
        return views.HttpResponse("done")

    new = site.get("/session/").json
    with extra_view(view):
        site.get("/extra/")
    assert site.get("/session/").json == new


def test_cursor_of_a_class_that_the_application_names(site: TestApp, driver: Any) -> None:
    from django.db import connection

    from tests.site import views

    def view(request: Any) -> Any:
        connection.ensure_connection()
        if driver.__name__ == "psycopg2":
            from psycopg2.extras import RealDictCursor

            cursor = connection.connection.cursor(cursor_factory=RealDictCursor)
        else:
            from psycopg.rows import dict_row

            cursor = connection.connection.cursor(row_factory=dict_row)
        cursor.execute("SET statement_timeout = 12345")
        cursor.execute("SELECT 1 AS one")
        assert dict(cursor.fetchone()) == {"one": 1}
        return views.HttpResponse("done")

    new = site.get("/session/").json
    with extra_view(view):
        site.get("/extra/")
    assert site.get("/session/").json == new


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was reported up to now by a process that remembers hardly any report."""
    from wsgi_persist.pins import reports

    caplog.set_level(logging.WARNING, "wsgi_persist")
    monkeypatch.setattr(reports, "_reported", Recent(2))
    return lambda: [record.getMessage() for record in caplog.records]


def register_loader(connection: Any) -> None:
    from psycopg.types.string import TextLoader

    connection.adapters.register_loader("int4", TextLoader)


def register_dumper(connection: Any) -> None:
    from psycopg.types.string import StrDumper

    connection.adapters.register_dumper(cls=SafeText, dumper=StrDumper)


def register_type(connection: Any) -> None:
    from psycopg2 import extensions

    extensions.register_type(extensions.new_type((23,), "TEXT", None), connection)


# What the application does to the driver's object, and what the log calls it.
CHANGES: dict[str, dict[str, Callable[[Any], None]]] = {
    "psycopg2": {
        "(attribute): 'isolation_level'": lambda connection: setattr(connection, "isolation_level", 3),
        "(attribute): 'readonly'": lambda connection: setattr(connection, "readonly", True),
        "(attribute): 'cursor_factory'": lambda connection: setattr(connection, "cursor_factory", None),
        "(attribute): 'readonly, deferrable'": lambda connection: connection.set_session(
            readonly=True, deferrable=True
        ),
        "(attribute): 'string_types'": register_type,
    },
    "psycopg": {
        "(attribute): 'isolation_level'": lambda connection: connection.set_isolation_level(3),
        "(attribute): 'read_only'": lambda connection: connection.set_read_only(True),
        "(attribute): 'row_factory'": lambda connection: setattr(
            connection, "row_factory", lambda cursor: tuple
        ),
        "(attribute): 'prepare_threshold'": lambda connection: setattr(connection, "prepare_threshold", 3),
        "(adapter): 'int4'": register_loader,
        "(adapter): 'SafeText'": register_dumper,
    },
}


@pytest.mark.parametrize("named", CHANGES[DRIVER])
def test_changed_driver_attribute_ends_the_connection(
    named: str, site: TestApp, reported: Callable[[], list[str]]
) -> None:
    from django.db import connection

    from tests.site import views

    def view(request: Any) -> Any:
        connection.ensure_connection()
        CHANGES[DRIVER][named](connection.connection)
        return views.HttpResponse("done")

    before = int(site.get("/pid/").text)
    with extra_view(view):
        site.get("/extra/")
    assert int(site.get("/pid/").text) != before
    assert [f"session state left by GET '/extra/' {named}" in report for report in reported()] == [True]


@pytest.mark.skipif(DRIVER == "psycopg2", reason="psycopg2 prepares nothing by itself")
def test_prepared_statements_of_the_driver_are_forgotten(site: TestApp) -> None:
    from tests.site import views

    def view(request: Any) -> Any:
        views.connection.ensure_connection()
        for _ in range(3):
            views.connection.connection.execute("SELECT %s + 1", [1], prepare=True)
        return views.HttpResponse("prepared")

    before = int(site.get("/pid/").text)
    with extra_view(view):
        site.get("/extra/")
        run(site, ["SET statement_timeout = 1000"])
        site.get("/extra/")
    assert int(site.get("/pid/").text) == before


@pytest.mark.parametrize(
    ("extension", "statement", "resets"),
    [
        pytest.param("pg_trgm", "SELECT similarity('a', 'b')", 0, id="immutable"),
        pytest.param("pg_trgm", "SELECT set_limit(0.5)", 1, id="sets something"),
        pytest.param("pg_trgm", "SELECT pay()", 1, id="a user's own"),
        pytest.param("pgcrypto", "SELECT gen_salt('bf')", 0, id="volatile but harmless"),
    ],
)
def test_functions_of_extensions_are_known(
    extension: str, statement: str, resets: int, site: TestApp, server: Server
) -> None:
    if not server("SELECT 1 FROM pg_available_extensions WHERE name = %s", extension):
        pytest.skip(f"this PostgreSQL has no {extension}: set PG_BIN to one that has")
    server(f"CREATE EXTENSION {extension}")
    server("CREATE OR REPLACE FUNCTION pay() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    try:
        site.get("/pid/")
        server.mark()
        run(site, [statement])
        assert len([sent for sent in server.statements() if sent.startswith("CLOSE ALL")]) == resets
    finally:
        server(f"DROP EXTENSION {extension}")


def test_user_function_with_a_built_ins_name_loses_its_place(site: TestApp, server: Server) -> None:
    server("CREATE FUNCTION public.lower(integer) RETURNS text LANGUAGE sql AS $$ SELECT $1::text $$")
    try:
        site.get("/pid/")
        server.mark()
        run(site, ["SELECT lower('X')"])
        assert any(statement.startswith("CLOSE ALL") for statement in server.statements())
    finally:
        server("DROP FUNCTION public.lower(integer)")


def test_report_names_request_and_statement_once(site: TestApp, reported: Callable[[], list[str]]) -> None:
    for _ in range(3):
        run(site, ["SET statement_timeout = 777"])
    wanted = "session state left by GET '/run/' (SET): 'SET statement_timeout = 777'"
    assert [wanted in report for report in reported()] == [True]


@pytest.mark.parametrize(
    "statement",
    [
        "SET work_mem = '77MB' /*traceparent='00-{}-01'*/",
        "/* {} */ SET work_mem = '77MB'",
        "SELECT set_config('work_mem', '{}MB', false)",
        "SELECT pg_advisory_lock({})",
    ],
)
def test_report_comes_once_whatever_comment_and_literals(
    statement: str, site: TestApp, reported: Callable[[], list[str]]
) -> None:
    for number in range(70, 76):
        run(site, [statement.format(number)])
    assert len(reported()) == 1


def test_report_of_what_is_new_comes_after_any_number(
    site: TestApp, reported: Callable[[], list[str]]
) -> None:
    again = "SET work_mem = '77MB'"
    for number in range(9):
        run(site, [again])
        run(site, [f"LISTEN a{number}"])
    assert [sum(what in report for report in reported()) for what in (again, "LISTEN")] == [1, 9]


@pytest.fixture
def with_policy(site: TestApp) -> Iterator[Callable[..., None]]:
    """Change the options of the alias for this test."""
    from django.db import connections

    from wsgi_persist import Policy

    wrapper = connections["default"]
    before = wrapper.persist_policy

    def change(**options: Any) -> None:
        wrapper.persist_policy = Policy(**options)
        registry.process_scope().pins.pop("default", None)

    yield change
    wrapper.persist_policy = before
    pin = registry.process_scope().pins.pop("default", None)
    if pin is not None:
        pin.stop()


def test_report_that_raises(site: TestApp, server: Server, with_policy: Any) -> None:
    with_policy(reset_report="raise")
    pid = int(site.get("/pid/").text)
    for _ in range(2):
        with pytest.raises(
            LeakedStateError, match=r"pin 'default': session state left by GET '/run/' \(SET\)"
        ):
            run(site, ["SET statement_timeout = 12345"])
    with pytest.raises(LeakedStateError, match="rolled back a transaction left open by GET '/raw-begin/'"):
        site.get("/raw-begin/?note=x")
    assert int(site.get("/pid/").text) == pid
    assert site.get("/sql/?sql=SHOW statement_timeout").text == "0"


def test_report_on_a_file_raises_when_that_is_closed(site: TestApp, with_policy: Any) -> None:
    from tests.site import views

    def view(request: Any) -> Any:
        views.scalar("SET statement_timeout = 12345")
        return views.file(request)

    with_policy(reset_report="raise")
    with extra_view(view):
        answer = Late(site.app, "/extra/")
        assert answer.rest() == "a file"
        with pytest.raises(LeakedStateError, match=r"session state left by GET '/extra/' \(SET\)"):
            answer.close()


def test_always_resets_after_every_request(site: TestApp, server: Server, with_policy: Any) -> None:
    with_policy(reset="always")
    pid = int(site.get("/pid/").text)
    server.mark()
    assert int(site.get("/pid/").text) == pid
    assert [statement[:9] for statement in server.statements()] == ["SELECT pg", "CLOSE ALL"]


def test_never_leaves_everything(site: TestApp, server: Server, with_policy: Any) -> None:
    with_policy(reset="never")
    server.mark()
    site.get("/pid/")
    assert not any("pg_settings" in statement for statement in server.statements())
    run(site, ["SET statement_timeout = 12345"])
    assert site.get("/sql/?sql=SHOW statement_timeout").text == "12345ms"


def test_transaction_pooler_is_never_reset(site: TestApp, server: Server, with_policy: Any) -> None:
    with_policy(pooler="transaction")
    run(site, ["SET statement_timeout = 12345"])
    assert not any(statement.startswith("CLOSE ALL") for statement in server.statements())


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SET work_mem = 64001", "SET"),
        ("SELECT pg_advisory_lock(71) AS shared", "advisory"),
        ("CREATE TEMP TABLE shared (a int)", "temporary"),
        ("LISTEN shared", "LISTEN"),
        ("PREPARE shared AS SELECT 1", "PREPARE"),
    ],
)
def test_what_is_shared_behind_a_pooler_is_told_with_the_request(
    sql: str, kind: str, site: TestApp, with_policy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with_policy(pooler="transaction")
    run(site, ["BEGIN", "SET LOCAL work_mem = 64000", "SELECT pg_advisory_xact_lock(1)", "COMMIT"])
    assert "shared behind the pooler" not in caplog.text
    run(site, [sql])
    told = f"session state of GET '/run/' is shared behind the pooler ({kind}): {sql!r}"
    assert told in caplog.text


def test_reset_that_fails_drops_the_connection(site: TestApp, pinned: Any) -> None:
    before = int(site.get("/pid/").text)
    pinned().session._as_new._own["settings"] = "SELECT 1/0"
    run(site, ["SET statement_timeout = 12345"])
    assert int(site.get("/pid/").text) != before


def test_visitor_does_not_wait_for_the_reset(site: TestApp, server: Server) -> None:
    site.get("/pid/")
    environ = site.RequestClass.blank("/run/?" + urlencode({"sql": "LISTEN news"})).environ
    response = site.app({**environ, "wsgi.multithread": False}, lambda *args: lambda data: None)
    server.mark()
    assert b"".join(response).isdigit()
    assert server.statements() == []
    response.close()
    assert [statement[:9] for statement in server.statements()][-1:] == ["CLOSE ALL"]


def test_reset_equals_discard_all(site: TestApp, server: Server) -> None:
    """Feature by feature: what PostgreSQL lists for DISCARD ALL, left by one request."""
    resettable = [name for name, (_, undone) in KINDS.items() if undone and name != "SET ROLE"]
    everything = [statement for name in [*resettable, "SET ROLE"] for statement in KINDS[name][0]]
    everything.remove("SELECT sets_something()")  # the search_path no longer leads to it
    new = site.get("/session/").json
    pid = run(site, everything)
    by_us = site.get("/session/").json
    assert int(site.get("/pid/").text) == pid
    observer = server.connect()
    with observer.cursor() as cursor:
        for statement in ["SET TimeZone = 'UTC'", *everything, "DISCARD ALL", "SET TimeZone = 'UTC'"]:
            cursor.execute(statement)
        by_postgres = {}
        from tests.site.views import VISIBLE

        for name, query in VISIBLE.items():
            cursor.execute(f"SELECT ({query})::text")
            by_postgres[name] = str(cursor.fetchone()[0])
    observer.close()
    assert by_us == new
    without = {"settings", "custom"}
    assert {k: v for k, v in by_us.items() if k not in without} == {
        k: v for k, v in by_postgres.items() if k not in without
    }


ATTRIBUTES: dict[str, dict[str, Any]] = {
    "psycopg": {
        "isolation_level": 2,
        "read_only": True,
        "deferrable": True,
        "row_factory": object,
        "cursor_factory": object,
        "server_cursor_factory": object,
        "prepare_threshold": 7,
        "prepared_max": 7,
    },
    "psycopg2": {"isolation_level": 2, "readonly": True, "deferrable": True, "cursor_factory": object},
}


@pytest.mark.parametrize("name", ATTRIBUTES[DRIVER])
def test_every_attribute_of_the_driver_is_seen(server: Server, name: str) -> None:
    """Also where they are read past the driver's own properties."""
    with closing(server.connect()) as connection:
        ask = driver_of(connection).attributes_asker(connection)
        before = ask()
        assert ask() == before
        setattr(connection, name, ATTRIBUTES[DRIVER][name])
        assert ask() != before
