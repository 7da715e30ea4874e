"""What a request undid is not left; what looks so and is still there is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from webtest import TestApp

from tests.conftest import DRIVER, Server
from tests.site import views
from tests.site.extra import extra_view
from wsgi_persist import LeakedStateError, Policy
from wsgi_persist.pins import pg_catalog, reports
from wsgi_persist.sql import Recent
from wsgi_persist.worker import registry

UNDONE = {
    "advisory lock": ["SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock(7)"],
    "all advisory locks": ["SELECT pg_try_advisory_lock_shared(1, 2)", "SELECT pg_advisory_unlock_all()"],
    "SET": ["SET work_mem = '2MB'", "RESET work_mem"],
    "SET to default": ["SET work_mem = '2MB'", "SET work_mem TO DEFAULT"],
    "set_config": [
        "SELECT set_config('work_mem', '2MB', false)",
        "SELECT set_config('work_mem', NULL, false)",
    ],
    "SET as it was": ["SET TIME ZONE 'Asia/Tokyo'", "SET TimeZone = 'UTC'"],
    "SET in a transaction that is another": [
        "BEGIN",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
        "SET work_mem = '2MB'",
        "RESET work_mem",
        "COMMIT",
    ],
    "SET ROLE": ["SET ROLE reader", "RESET ROLE"],
    "SET SESSION AUTHORIZATION": ["SET SESSION AUTHORIZATION reader", "RESET SESSION AUTHORIZATION"],
    "SET rolled back": ["BEGIN", "SET work_mem = '2MB'", "SELECT 1", "ROLLBACK"],
    "SET in a savepoint": ["BEGIN", "SAVEPOINT a", "SET work_mem = '2MB'", "ROLLBACK TO a", "COMMIT"],
    "SET before SET LOCAL": ["BEGIN", "SET LOCAL work_mem = '2MB'", "RESET work_mem", "COMMIT"],
    "PREPARE": ["PREPARE a (int) AS SELECT $1", "EXECUTE a (1)", "DEALLOCATE a"],
    "LISTEN": ["LISTEN news", "UNLISTEN news"],
    "DECLARE WITH HOLD": ["DECLARE a CURSOR WITH HOLD FOR SELECT 1", "FETCH a", "CLOSE a"],
    "temporary table": ["CREATE TEMP TABLE a (b int)", "DROP TABLE a"],
    "ON COMMIT DROP": ["BEGIN", "CREATE TEMP TABLE a ON COMMIT DROP AS SELECT 1", "COMMIT"],
    "temporary function": [
        "CREATE FUNCTION pg_temp.a() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION pg_temp.a()",
    ],
    "several": [
        "LISTEN news; SET work_mem = '2MB'",
        "SELECT pg_advisory_lock(7)",
        "UNLISTEN *",
        "RESET work_mem",
        "SELECT pg_advisory_unlock(7)",
    ],
}
# Nothing of these can be left but what SET LOCAL leaves, too: nobody needs to be asked.
CUSTOM = {
    "RESET": ["BEGIN", "SET LOCAL my.tenant = 'one'", "RESET my.tenant", "COMMIT"],
    "SET to default": ["SET my.tenant TO DEFAULT"],
    "set_config": [
        "BEGIN",
        "SELECT set_config('my.tenant', 'one', true)",
        "SELECT set_config('my.tenant', NULL, false)",
        "COMMIT",
    ],
}
# Here it can be left: the server is asked for that setting, and a reset gives it what a new session has.
CUSTOM_SET = {
    "RESET": ["SET my.tenant = 'one'", "RESET my.tenant"],
    "set_config": [
        "SELECT set_config('my.Tenant', 'one', false)",
        "SELECT set_config('my.tenant', NULL, false)",
    ],
    "empty": ["SET \"my.tenant\" = 'one'", "SET my.tenant = ''"],
    "rolled back": ["BEGIN", "SET my.tenant = 'one'", "ROLLBACK"],
    "in one text": ["SET my.tenant = 'one'; RESET my.tenant"],
    "two": ["SET my.tenant = 'one'", "SET my.other = 'two'", "RESET my.tenant", "RESET my.other"],
    "with others": ["SET my.tenant = 'one'; LISTEN news", "LISTEN news", "RESET my.tenant", "UNLISTEN *"],
}
CUSTOM_LEFT = {
    "SET": ["SET my.tenant = 'one'"],
    "another": ["SET my.tenant = 'one'", "SET my.other = 'two'", "RESET my.tenant"],
    "in one text": ["SET my.tenant = 'one'; SET my.other = 'two'; RESET my.tenant"],
    "RESET rolled back": ["SET my.tenant = 'one'", "BEGIN", "RESET my.tenant", "ROLLBACK"],
    "unknown": ["SELECT set_config('my' || '.tenant', 'one', false)", "RESET my.tenant"],
    "for good": ["SET my.tenant = 'one'; SELECT setseed(0.5)", "RESET my.tenant"],
}
LEFT = {
    "advisory lock": [
        "SELECT pg_advisory_lock(7)",
        "SELECT pg_advisory_lock(7)",
        "SELECT pg_advisory_unlock(7)",
    ],
    "another advisory lock": ["SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock(8)"],
    "advisory lock rolled back": ["BEGIN", "SELECT pg_advisory_lock(7)", "ROLLBACK"],
    "SET": ["SET work_mem = '2MB'", "BEGIN", "RESET work_mem", "ROLLBACK"],
    "SET in a savepoint": [
        "BEGIN",
        "SET work_mem = '2MB'",
        "SAVEPOINT a",
        "RESET work_mem",
        "ROLLBACK TO a",
        "COMMIT",
    ],
    "RESET": ["RESET TimeZone"],
    "RESET ALL": ["SET work_mem = '2MB'", "RESET ALL"],
    "SET ROLE": ["SET ROLE reader", "SET work_mem = '2MB'", "RESET work_mem"],
    "SET SESSION AUTHORIZATION": ["SET SESSION AUTHORIZATION reader", "RESET ROLE"],
    "PREPARE": ["PREPARE a AS SELECT 1", "PREPARE b AS SELECT 1", "DEALLOCATE a"],
    "PREPARE rolled back": ["BEGIN", "PREPARE a AS SELECT 1", "ROLLBACK"],
    "EXECUTE": ["PREPARE a AS SELECT set_config('work_mem', '2MB', false)", "EXECUTE a", "DEALLOCATE a"],
    "LISTEN": ["LISTEN news", "BEGIN", "UNLISTEN news", "ROLLBACK"],
    "DECLARE WITH HOLD": ["DECLARE a CURSOR WITH HOLD FOR SELECT 1", "FETCH a"],
    "temporary table": ["CREATE TEMP TABLE a (b int)", "CREATE TEMP TABLE c (d int)", "DROP TABLE a"],
    "ON COMMIT DELETE ROWS": ["CREATE TEMP TABLE a (b int) ON COMMIT DELETE ROWS"],
    "temporary type": ["CREATE TYPE pg_temp.a AS ENUM ('b')"],
    "table while search_path is temporary": [
        "SET search_path = 'pg_temp'",
        "CREATE TABLE a (b int)",
        "RESET search_path",
    ],
    "table while set_config has made search_path temporary": [
        "SELECT set_config('search_path', 'pg_temp', false)",
        "SELECT 1 AS b INTO a",
        "RESET search_path",
    ],
    "table while search_path is temporary in a transaction": [
        "BEGIN",
        "SET LOCAL search_path = 'pg_temp'",
        "CREATE TABLE a (b int)",
        "COMMIT",
    ],
    "table while set_config is temporary in a transaction": [
        "BEGIN",
        "SELECT set_config('search_path', 'pg_temp', true)",
        "CREATE TABLE a (b int)",
        "COMMIT",
    ],
    "custom": ["RESET my.tenant", "LISTEN news"],
}


@pytest.fixture(autouse=True)
def nothing_reported(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_reported", Recent(9))
    server("DROP ROLE IF EXISTS reader")
    server("CREATE ROLE reader")


@pytest.fixture
def leaks(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """What the log says is left."""

    def messages() -> list[str]:
        return [text for record in caplog.records if "session state" in (text := record.getMessage())]

    with caplog.at_level(logging.WARNING, "wsgi_persist"):
        yield messages


def run(client: TestApp, statements: list[str]) -> int:
    return int(client.get("/run/?" + urlencode([("sql", statement) for statement in statements])).text)


def sent_after(server: Server) -> list[str]:
    """What is sent when the request's own statements are over, without its mark."""
    sent = [sql.removeprefix(f"{pg_catalog.OURS} ") for sql in server.statements()]
    return sent[sent.index("SELECT pg_backend_pid()") + 1 :]


@pytest.mark.parametrize("kind", UNDONE)
def test_what_is_undone_is_not_left(kind: str, site: TestApp, server: Server, leaks: Any) -> None:
    new = site.get("/session/").json
    server.mark()
    pid = run(site, UNDONE[kind])
    assert [text.startswith("SELECT ") for text in sent_after(server)] == [True], "one question, no reset"
    assert leaks() == []
    assert site.get("/session/").json == new
    assert int(site.get("/pid/").text) == pid


@pytest.mark.parametrize("way", CUSTOM)
def test_custom_setting_that_is_undone_costs_nothing(
    way: str, site: TestApp, server: Server, leaks: Any
) -> None:
    pid = int(site.get("/pid/").text)
    server.mark()
    assert run(site, CUSTOM[way]) == pid
    assert sent_after(server) == []
    assert leaks() == []
    assert site.get("/sql/?sql=SELECT current_setting('my.tenant', true)").text == ""
    assert int(site.get("/pid/").text) == pid


@pytest.mark.parametrize("kind", CUSTOM_SET)
def test_custom_setting_that_was_undone_keeps_the_connection(
    kind: str, site: TestApp, server: Server, leaks: Any
) -> None:
    pid = int(site.get("/pid/").text)
    for _ in range(2):
        server.mark()
        assert run(site, CUSTOM_SET[kind]) == pid
        assert [text[:9] for text in sent_after(server)][1:] == ["CLOSE ALL"]
    assert leaks() == []
    assert site.get("/sql/?sql=SELECT current_setting('my.tenant', true)").text == ""
    assert int(site.get("/pid/").text) == pid


@pytest.mark.parametrize("kind", CUSTOM_LEFT)
def test_custom_setting_that_is_left_closes_the_connection(kind: str, site: TestApp, leaks: Any) -> None:
    pid = int(site.get("/pid/").text)
    assert run(site, CUSTOM_LEFT[kind]) == pid
    assert ["session state left by GET '/run/' (custom" in text for text in leaks()] == [True]
    assert site.get("/sql/?sql=SELECT current_setting('my.tenant', true)").text == "None"


def test_custom_setting_of_the_database_is_had_again(site: TestApp, server: Server) -> None:
    server("ALTER DATABASE site SET my.tenant = 'of the database'")
    try:
        pid = int(site.get("/pid/").text)
        assert run(site, ["SET my.tenant = ''"]) == pid
        assert site.get("/sql/?sql=SHOW my.tenant").text == "of the database"
        assert int(site.get("/pid/").text) == pid
        assert run(site, ["SET my.tenant = 'one'", "RESET my.tenant"]) == pid
        assert site.get("/sql/?sql=SHOW my.tenant").text == "of the database"
    finally:
        server("ALTER DATABASE site RESET my.tenant")


@pytest.mark.parametrize("kind", LEFT)
def test_what_only_looks_undone_is_left(kind: str, site: TestApp, server: Server, leaks: Any) -> None:
    new = site.get("/session/").json
    pid = run(site, LEFT[kind])
    assert ["session state left by GET '/run/'" in text for text in leaks()] == [True]
    assert {**site.get("/session/").json, "custom": None} == {**new, "custom": None}
    assert int(site.get("/pid/").text) == pid


def test_report_names_what_is_left(site: TestApp, leaks: Any) -> None:
    run(
        site,
        [
            "SET work_mem = '2MB'",
            "SELECT pg_advisory_lock(7)",
            "LISTEN news",
            "RESET my.tenant",
            "UNLISTEN *",
        ],
    )
    run(
        site,
        ["SET TimeZone = 'UTC'", "SELECT pg_advisory_lock(8)", "SELECT pg_advisory_unlock(8)", "LISTEN b"],
    )
    assert [text.partition("session state left by GET '/run/' ")[2] for text in leaks()] == [
        "(SET): \"SET work_mem = '2MB'\"",
        "(LISTEN): 'LISTEN b'",
    ]


def test_text_that_has_left_something_is_reset_unasked(site: TestApp, server: Server, leaks: Any) -> None:
    for questions in (1, 0):
        site.get("/pid/")
        server.mark()
        run(site, ["LISTEN news"])
        assert [text[:9] for text in sent_after(server)] == ["SELECT EX"] * questions + ["CLOSE ALL"]
    assert len(leaks()) == 1


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("SELECT pay()", "function"),
        ("DO $$ BEGIN END $$", "DO"),
        ("DISCARD PLANS", "DISCARD"),
        ("SELECT pay(), pg_advisory_xact_lock(1)", "function"),
    ],
)
def test_what_the_server_does_not_list_may_be_left(
    statement: str, reason: str, site: TestApp, server: Server, leaks: Any
) -> None:
    server("CREATE OR REPLACE FUNCTION pay() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    site.get("/pid/")
    server.mark()
    run(site, [statement])
    assert [text[:9] for text in sent_after(server)] == ["CLOSE ALL"]
    assert leaks() == [
        f"pin 'default': GET '/run/' may have left session state ({reason}): {statement!r}",
    ]


@pytest.fixture
def raising(site: TestApp) -> Iterator[None]:
    from django.db import connections

    wrapper = connections["default"]
    before, wrapper.persist_policy = wrapper.persist_policy, Policy(reset_report="raise")
    registry.process_scope().pins.pop("default", None)
    yield
    wrapper.persist_policy = before
    registry.process_scope().pins.pop("default").stop()


@pytest.mark.usefixtures("raising")
def test_what_is_undone_raises_nothing(site: TestApp) -> None:
    lock, unlock = UNDONE["advisory lock"]
    for _ in range(2):
        run(site, [lock, unlock])
        with pytest.raises(LeakedStateError):
            run(site, [lock])


@pytest.mark.skipif(DRIVER == "psycopg2", reason="psycopg2 prepares nothing by itself")
@pytest.mark.parametrize("undo", ["SELECT 1", "DEALLOCATE ALL", "DEALLOCATE PREPARE ALL", "DISCARD ALL"])
def test_driver_and_server_agree_on_prepared_statements(undo: str, site: TestApp) -> None:
    def view(request: Any) -> Any:
        views.scalar("SELECT pg_advisory_lock(7)")
        for _ in range(3):
            views.connection.connection.execute("SELECT %s + 1", [1], prepare=True)
        views.scalar("SELECT pg_advisory_unlock(7)")
        views.scalar("PREPARE a AS SELECT 1")
        views.scalar("DEALLOCATE a")
        views.scalar(undo)
        return views.HttpResponse(str(views.backend()))

    with extra_view(view):
        assert len({site.get("/extra/").text for _ in range(3)}) == 1


FUNCTIONS = {
    "immutable": ("CREATE FUNCTION own(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1'", False),
    "immutable, plpgsql": (
        "CREATE FUNCTION own(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
        False,
    ),
    "stable": ("CREATE FUNCTION own(int) RETURNS int STABLE LANGUAGE sql AS 'SELECT 1'", True),
    "volatile": ("CREATE FUNCTION own(int) RETURNS int LANGUAGE sql AS 'SELECT 1'", True),
    "one form of two": (
        "CREATE FUNCTION own(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';"
        "CREATE FUNCTION own(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        True,
    ),
    "in another schema": (
        "CREATE FUNCTION own(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1'; CREATE SCHEMA app;"
        "CREATE FUNCTION app.own(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        True,
    ),
    # Every aggregate is called immutable, whatever the function that it calls.
    "aggregate": (
        "CREATE FUNCTION step(int, int) RETURNS int LANGUAGE sql AS 'SELECT 1';"
        "CREATE AGGREGATE own(int) (SFUNC = step, STYPE = int)",
        True,
    ),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_own_function_that_is_immutable_leaves_nothing(kind: str, site: TestApp, server: Server) -> None:
    create, leaves = FUNCTIONS[kind]
    server(create)
    try:
        site.get("/pid/")
        server.mark()
        run(site, ["SELECT own(1)"])
        assert len(sent_after(server)) == leaves
    finally:
        server(
            "DROP ROUTINE own(int); DROP FUNCTION IF EXISTS own(text), step;DROP SCHEMA IF EXISTS app CASCADE"
        )


SETS = "RETURNS text LANGUAGE sql AS $$ SELECT set_config('work_mem', '2345kB', false) $$"


@pytest.mark.parametrize(
    ("changed", "call", "left"),
    [
        (None, "SELECT own(1)", "2345kB"),
        (f"CREATE OR REPLACE FUNCTION own(int) {SETS}", "SELECT own(1)", "4MB"),
        ("ALTER FUNCTION own(int) VOLATILE", "SELECT own(1)", "4MB"),
        (f"CREATE FUNCTION public.lower(int) {SETS}", "SELECT lower(1)", "4MB"),
    ],
    ids=["nothing", "replaced", "altered", "a built-in's name"],
)
def test_new_connection_knows_what_became_of_functions(
    changed: str | None, call: str, left: str, site: TestApp, server: Server
) -> None:
    """At no round trip more, but where there is something to know."""
    server(f"CREATE FUNCTION own(int) {SETS} IMMUTABLE")
    try:
        site.get("/pid/")
        server(changed or "SELECT 1")
        server.terminate(server.backends()[0])
        server.mark()
        run(site, [call])
        asked = [sql for sql in server.statements() if "string_agg" in sql]
        assert len(asked) == (2 if changed else 1)
        assert site.get("/sql/?sql=SHOW work_mem").text == left
    finally:
        server("DROP FUNCTION own(int); DROP FUNCTION IF EXISTS public.lower(int)")
