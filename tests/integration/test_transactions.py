"""Transactions: what is sent for them, how that is told, and where each mode differs from stock Django."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import DRIVER, Server, eventually
from tests.integration.relay import Relay
from tests.interruption import Interrupted, Interruption
from tests.site.extra import extra_view
from wsgi_persist.backends.signals import note_writes, watch_strangers
from wsgi_persist.worker import registry

NAME = re.compile(r'"s\d+_x\d+"')
Sent = Callable[..., list[str]]


@pytest.fixture
def inside(site: TestApp) -> Callable[[Callable[[], Any]], Any]:
    """Calls a function in a request; what it returned."""
    from django.http import HttpResponse

    def inside(view: Callable[[], Any]) -> Any:
        found: list[Any] = []

        def answer(request: Any) -> Any:
            found.append(view())
            return HttpResponse("")

        with extra_view(answer):
            site.get("/extra/")
        return found[0]

    return inside


@pytest.fixture
def sent(inside: Any, server: Server) -> Sent:
    """What the server was sent while a function ran in a request on a pin; savepoints are a, b, c."""

    def sent(view: Callable[[], Any]) -> list[str]:
        inside(lambda: run("SELECT 1"))
        server.mark()
        inside(view)
        names: dict[str, str] = {}
        return [
            NAME.sub(lambda found: names.setdefault(found[0], "abcdef"[len(names)]), text)
            for text in server.statements()
            if "pg_current_xact_id_if_assigned()" not in text or "wsgi_persist" not in text
        ]

    return sent


@pytest.fixture
def mode(site: TestApp, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the option for the default alias."""
    from django.db import connections

    def choose(value: str, **options: Any) -> None:
        given = {"persist": {"transactions": value, "commit_outcome": False}, **options}
        monkeypatch.setitem(connections.settings["default"], "OPTIONS", given)
        forget_wrapper()

    yield choose
    forget_wrapper()


def forget_wrapper() -> None:
    from django.db import connections

    with suppress(AttributeError):
        del connections["default"]
    pin = registry.process_scope().pins.pop("default", None)
    if pin is not None:
        pin.stop()


def run(sql: str, params: Any = None) -> Any:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else cursor.rowcount


def three_reads() -> None:
    from django.db import transaction

    with transaction.atomic():
        assert [run("SELECT 1"), run("SELECT %s::int", [2]), run("SELECT 3")] == [[(1,)], [(2,)], [(3,)]]


def write_in_a_nested_block() -> None:
    from django.db import transaction

    with transaction.atomic(), transaction.atomic():
        assert run("INSERT INTO entry (note) VALUES (%s)", ["100%; 'sure'"]) == 1


def nothing() -> None:
    from django.db import transaction

    with transaction.atomic(), transaction.atomic(), suppress(ZeroDivisionError), transaction.atomic():
        1 / 0  # noqa: B018


def read_then_write() -> None:
    from django.db import transaction

    with transaction.atomic():
        run("SELECT 1")
        for note in ("one", "two"):
            with transaction.atomic():
                run("INSERT INTO entry (note) VALUES (%s)", [note])
        run("SELECT 2")


def failed_block() -> None:
    from django.db import DataError, transaction

    with transaction.atomic():
        run("INSERT INTO entry (note) VALUES ('kept')")
        with pytest.raises(DataError), transaction.atomic():
            run("SELECT 1 / %s", [0])
        run("SELECT 2")


INSERT = "INSERT INTO entry (note) VALUES"
COUNTED = {
    ("folded", three_reads): ["BEGIN; SELECT 1", "SELECT 2::int", "SELECT 3", "COMMIT"],
    ("lazy", three_reads): ["SELECT 1", "SELECT 2::int", "SELECT 3"],
    ("stock", three_reads): ["BEGIN", "SELECT 1", "SELECT 2::int", "SELECT 3", "COMMIT"],
    ("folded", write_in_a_nested_block): [
        f"BEGIN; SAVEPOINT a; {INSERT} ('100%; ''sure''')",
        "COMMIT",
    ],
    ("stock", write_in_a_nested_block): [
        "BEGIN",
        "SAVEPOINT a",
        f"{INSERT} ('100%; ''sure''')",
        "RELEASE SAVEPOINT a",
        "COMMIT",
    ],
    ("folded", nothing): [],
    ("stock", nothing): [
        "BEGIN",
        *("SAVEPOINT a", "SAVEPOINT b"),
        *("ROLLBACK TO SAVEPOINT b", "RELEASE SAVEPOINT b", "RELEASE SAVEPOINT a"),
        "COMMIT",
    ],
    ("folded", read_then_write): [
        "BEGIN; SELECT 1",
        f"SAVEPOINT a; {INSERT} ('one')",
        f"RELEASE SAVEPOINT a; SAVEPOINT b; {INSERT} ('two')",
        *("SELECT 2", "COMMIT"),
    ],
    ("lazy", read_then_write): [
        "SELECT 1",
        f"BEGIN; SAVEPOINT a; {INSERT} ('one')",
        f"RELEASE SAVEPOINT a; SAVEPOINT b; {INSERT} ('two')",
        *("SELECT 2", "COMMIT"),
    ],
    ("folded", failed_block): [
        f"BEGIN; {INSERT} ('kept')",
        "SAVEPOINT a; SELECT 1 / 0",
        "ROLLBACK TO SAVEPOINT a",
        *("SELECT 2", "COMMIT"),
    ],
}


@pytest.mark.parametrize(("option", "view"), COUNTED, ids=lambda given: getattr(given, "__name__", given))
def test_what_is_sent(option: str, view: Callable[[], None], sent: Sent, inside: Any, mode: Any) -> None:
    mode(option)
    inside(view)  # a text that was never parsed goes without its savepoint
    assert sent(view) == COUNTED[option, view]


def test_who_begins_twice_begins_once(sent: Sent) -> None:
    from django.db import connection, transaction

    def view() -> None:
        transaction.set_autocommit(False)
        transaction.set_autocommit(False)
        run(f"{INSERT} ('one')")
        transaction.commit()
        transaction.set_autocommit(True)
        assert connection.connection.autocommit

    assert sent(view) == [f"BEGIN; {INSERT} ('one')", "COMMIT"]


def test_text_that_was_never_parsed_goes_by_itself(sent: Sent, server: Server) -> None:
    """It would end the transaction before its savepoint is set."""
    from django.db import ProgrammingError, transaction

    def view() -> None:
        with transaction.atomic():
            run(f"{INSERT} ('kept')")
            with pytest.raises(ProgrammingError), transaction.atomic():
                run("SELECT 1 FROM WHERE")
            assert run("SELECT 1") == [(1,)]

    assert sent(view) == [
        f"BEGIN; {INSERT} ('kept')",
        *("SAVEPOINT a", "ROLLBACK TO SAVEPOINT a", "SELECT 1", "COMMIT"),  # the server logs what it parsed
    ]


@pytest.mark.parametrize("sql", ["SELECT 1 FROM WHERE", "SELECT missing", "SELECT 'x'::int"])
def test_error_is_that_of_the_statement_alone(sql: str, sent: Sent) -> None:
    from django.db import DatabaseError, transaction

    def view() -> None:
        with pytest.raises(DatabaseError) as found, transaction.atomic(), transaction.atomic():
            run(sql)
        assert f"LINE 1: {sql}\n" in str(found.value)
        assert int(found.value.__cause__.diag.statement_position) <= len(sql)  # type: ignore[union-attr]

    texts = [text for text in sent(view) if "BEGIN;" not in text and text != sql]
    assert texts == ["ROLLBACK"] * ("FROM" not in sql) + [
        *("BEGIN", "SAVEPOINT a", "ROLLBACK TO SAVEPOINT a", "ROLLBACK")
    ]


ALONE = {
    "iterator": lambda: next(_chunks()),
    "executemany": lambda: _many(),
    "several statements": lambda: run("SELECT 1; SELECT 2"),
    "COPY": lambda: _copy(),
    "debug": lambda: _debug(),
    "taken": lambda: _taken(),
    "transaction of the driver's": lambda: _of_the_driver(),
}


def _chunks() -> Any:
    from django.db import connection

    with connection.chunked_cursor() as cursor:
        cursor.execute("SELECT 1")
        yield cursor.fetchmany(1)


def _many() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.executemany(f"{INSERT} (%s)", [("one",)])


def _copy() -> None:
    import io

    from django.db import connection

    with connection.cursor() as cursor:
        if DRIVER == "psycopg2":
            cursor.copy_expert("COPY entry TO STDOUT", io.StringIO())
        else:
            with cursor.copy("COPY entry TO STDOUT") as copy:
                list(copy)


def _debug() -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as queries:
        run("SELECT 1")
    assert [query["sql"] for query in queries.captured_queries] == ["SELECT 1"]


def _taken(sql: str = "SELECT 1") -> None:
    from django.db import connection
    from django.db.backends.postgresql.base import Database
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    raw = connection.connection
    assert raw.autocommit is False
    with Database.ClientCursor(raw) if is_psycopg3 else Database.extensions.cursor(raw) as cursor:
        cursor.execute(sql)


def _of_the_driver() -> None:
    from django.db import connection

    if DRIVER == "psycopg2":
        raw = connection.cursor().connection
        raw.commit()  # nothing yet
        assert raw.autocommit is False
        run("SELECT 1; SELECT 2")
    else:
        with connection.cursor().connection.transaction():
            run("SELECT 1")


@pytest.mark.parametrize("kind", ALONE)
def test_what_cannot_be_folded_has_its_begin_before(kind: str, sent: Sent) -> None:
    from django.db import transaction

    def view() -> None:
        with transaction.atomic():
            ALONE[kind]()

    begin, *_, commit = sent(view)
    assert (begin, commit) == ("BEGIN", "COMMIT")


def test_statement_that_the_driver_refuses_leaves_the_transaction_to_be_begun(
    inside: Any, server: Server
) -> None:
    from django.db import transaction

    def view() -> None:
        with suppress(ZeroDivisionError), transaction.atomic():
            with pytest.raises(Exception, match=r"(?:index|placeholder)"):
                run("SELECT %s", [])
            _taken(f"{INSERT} ('undone')")
            1 / 0  # noqa: B018

    inside(view)
    assert server("SELECT note FROM entry WHERE note = 'undone'") == []


def test_driver_s_own_commit_and_rollback_end_a_folded_transaction(inside: Any, server: Server) -> None:
    from django.db import connection, transaction

    def view(how: str) -> None:
        with transaction.atomic():
            run(f"{INSERT} (%s)", [how])
            raw = connection.connection
            assert raw.autocommit is False
            getattr(raw, how)()
            assert raw.info.transaction_status == 0

    for how in ("commit", "rollback"):
        inside(lambda how=how: view(how))
    assert server("SELECT note FROM entry WHERE note IN ('commit', 'rollback')") == [("commit",)]


@pytest.mark.skipif(DRIVER != "psycopg2", reason="psycopg 3 has no large objects of its own")
@pytest.mark.parametrize("before", [True, False], ids=["after a statement", "first"])
def test_what_follows_a_transaction_with_a_large_object_is_saved(
    before: bool, inside: Any, notes: Any
) -> None:
    from django.db import connection, transaction

    def view() -> None:
        with transaction.atomic():
            if before:
                run(f"{INSERT} ('before')")
            connection.connection.lobject(0, "wb").write(b"large")
        run(f"{INSERT} ('after')")
        assert connection.connection.autocommit

    inside(view)
    assert notes() == (["before", "after"] if before else ["after"])


def test_server_side_cursor_in_a_folded_transaction(inside: Any) -> None:
    from django.db import connection, transaction

    def view() -> Any:
        with transaction.atomic():
            run("DELETE FROM entry")
            for number in range(5):
                run(f"{INSERT} (%s)", [str(number)])
            with connection.chunked_cursor() as cursor:
                cursor.execute("SELECT note FROM entry ORDER BY note FOR UPDATE")
                found = [cursor.fetchone(), cursor.fetchmany(2), cursor.fetchall()]
            with connection.chunked_cursor() as cursor:
                cursor.execute("SELECT note FROM entry ORDER BY note")
                assert run("SELECT is_holdable FROM pg_cursors WHERE name LIKE '_django%'") == [(False,)]
                return [*found, list(cursor)]

    rows = [("0",), ("1",), ("2",), ("3",), ("4",)]
    assert inside(view) == [rows[0], rows[1:3], rows[3:], rows]


@pytest.mark.parametrize("option", ["folded", "lazy"])
def test_first_statement_of_a_lost_transaction_takes_its_savepoints_along(
    option: str, inside: Any, mode: Any, server: Server, pinned: Any
) -> None:
    from django.db import transaction

    mode(option)
    inside(lambda: run("SELECT 1"))

    def view() -> None:
        with transaction.atomic():
            with transaction.atomic():
                server.terminate(pinned().backend)
                server.mark()
                run(f"{INSERT} ('again')")
                run("SELECT 1")
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                run(f"{INSERT} ('undone')")
                1 / 0  # noqa: B018

    server("DELETE FROM entry")
    inside(view)
    assert server("SELECT note FROM entry") == [("again",)]
    assert sum("BEGIN; SAVEPOINT" in text for text in server.statements()) == 1


def test_lazy_page_of_reads_survives_a_loss_in_its_midst(
    inside: Any, mode: Any, server: Server, pinned: Any
) -> None:
    from django.db import transaction

    mode("lazy")
    inside(lambda: run("SELECT 1"))

    def view() -> Any:
        with transaction.atomic():
            run("SELECT 1")
            server.terminate(pinned().backend)
            return run("SELECT 2")

    assert inside(view) == [(2,)]


# ##### What "lazy" changes #####


def test_lazy_error_in_a_read_aborts_nothing(inside: Any, mode: Any) -> None:
    from django.db import DataError, transaction

    def view() -> Any:
        with transaction.atomic():
            with pytest.raises(DataError):
                run("SELECT 1 / %s", [0])
            return run("SELECT 1")

    mode("lazy")
    assert inside(view) == [(1,)]


def test_lazy_reads_hold_no_lock_and_show_no_transaction(inside: Any, mode: Any, server: Server) -> None:
    from django.db import transaction

    def view() -> Any:
        with transaction.atomic():
            run("SELECT note FROM entry")
            pid = registry.process_scope().pins["default"].backend
            held = server("SELECT count(*) FROM pg_locks WHERE pid = %s AND relation IS NOT NULL", pid)
            (state,) = server("SELECT state, xact_start IS NULL FROM pg_stat_activity WHERE pid = %s", pid)
            return held, state

    mode("folded")
    assert inside(view)[1] == ("idle in transaction", False)
    mode("lazy")
    assert inside(view) == ([(0,)], ("idle", True))


BEGINS = [
    "SELECT now()",
    "SELECT current_timestamp",
    "SELECT LOCALTIME",
    "SELECT age(timestamp '2000-01-01')",
    "SELECT 'now'::timestamptz",
    "SELECT date 'today'",
    "SELECT pg_current_xact_id_if_assigned()",
    "SELECT txid_current()",
    "SELECT pg_current_snapshot()",
    "SELECT note FROM entry FOR UPDATE",
    "SELECT begins_something()",
    "SET LOCAL work_mem = '2MB'",
    "LOCK TABLE entry",
]


@pytest.mark.parametrize("sql", BEGINS)
def test_lazy_begins_with(sql: str, sent: Sent, mode: Any, server: Server) -> None:
    from django.db import transaction

    server("CREATE OR REPLACE FUNCTION begins_something() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1'")

    def view() -> None:
        with transaction.atomic():
            run("SELECT 1")
            run(sql)
            run("SELECT 2")

    mode("lazy")
    assert sent(view)[:4] == ["SELECT 1", f"BEGIN; {sql}", "SELECT 2", "COMMIT"]


@pytest.mark.parametrize(
    "sql", ["SELECT statement_timestamp()", "SELECT clock_timestamp()", "SELECT note AS now FROM entry"]
)
def test_lazy_does_not_begin_with(sql: str, sent: Sent, mode: Any) -> None:
    from django.db import transaction

    def view() -> None:
        with transaction.atomic():
            run(sql)

    mode("lazy")
    assert sent(view) == [sql]


def test_lazy_is_folded_above_read_committed(sent: Sent, inside: Any, server: Server, mode: Any) -> None:
    mode("lazy")
    server("ALTER ROLE postgres SET default_transaction_isolation = 'repeatable read'")
    try:
        assert sent(three_reads)[0] == "BEGIN; SELECT 1"
    finally:
        server("ALTER ROLE postgres RESET default_transaction_isolation")


@pytest.mark.parametrize("option", ["folded", "lazy"])
def test_isolation_level_of_the_alias(option: str, sent: Sent, mode: Any) -> None:
    from django.db import transaction

    def view() -> Any:
        with transaction.atomic():
            assert run("SHOW transaction_isolation") == [("serializable",)]

    mode(option, isolation_level=4 if DRIVER == "psycopg" else 3)
    begin, commit = sent(view)
    shown = "SHOW transaction_isolation"
    assert (begin, commit) == (f"BEGIN ISOLATION LEVEL SERIALIZABLE; {shown}", "COMMIT")


def test_savepoints_are_folded_where_whole_requests_may_be_run_again(
    sent: Sent, inside: Any, mode: Any, server: Server
) -> None:
    """For that each wrapper has an execute_wrapper of ours."""
    from django.db import connections

    mode("folded")
    watch_strangers()
    inside(write_in_a_nested_block)
    assert connections["default"].execute_wrappers == [note_writes]
    assert sent(write_in_a_nested_block)[0].startswith("BEGIN; SAVEPOINT a; INSERT")


# ##### On the wire #####


@pytest.mark.parametrize(
    ("option", "view", "expected"),
    [
        ("folded", three_reads, 4),
        ("lazy", three_reads, 3),
        ("stock", three_reads, 5),
        ("folded", write_in_a_nested_block, 2),
        ("lazy", write_in_a_nested_block, 2),
        ("stock", write_in_a_nested_block, 5),
        ("folded", nothing, 0),
        ("lazy", nothing, 0),
    ],
    ids=lambda given: getattr(given, "__name__", given),
)
def test_round_trips(
    option: str,
    view: Callable[[], None],
    expected: int,
    inside: Any,
    mode: Any,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from django.db import connections

    relay = Relay(server.cluster.port)
    monkeypatch.setitem(connections.settings["default"], "HOST", "127.0.0.1")
    monkeypatch.setitem(connections.settings["default"], "PORT", relay.port)
    mode(option, sslmode="disable")
    inside(view)
    inside(lambda: run("SELECT 1"))
    before = relay.round_trips
    inside(view)
    assert relay.round_trips - before == expected
    relay.close()


# ##### Put away #####


@pytest.mark.parametrize("option", ["folded", "lazy", "stock"])
def test_connection_that_is_put_away_is_followed_by_another(
    option: str, inside: Any, mode: Any, server: Server, notes: Any
) -> None:
    """As on stock Django; packages do that after an error."""
    from django.db import connection

    def view() -> tuple[int, int]:
        before = run("SELECT pg_backend_pid()")[0][0]
        connection.connection = None
        run(f"{INSERT} ('saved')")
        return before, run("SELECT pg_backend_pid()")[0][0]

    mode(option)
    before, after = inside(view)
    assert (notes(), before != after) == (["saved"], True)
    assert eventually(server.backends, [after])
    assert inside(lambda: run("SELECT pg_backend_pid()")) == [(after,)]


# ##### Interrupted #####


SENDING = ("drivers/folding.py", "pins/transaction.py")


@pytest.mark.parametrize("first", [True, False], ids=["with BEGIN", "within"])
def test_interruption_at_any_bytecode_leaves_no_half(first: bool, inside: Any, server: Server) -> None:
    """As mod_wsgi interrupts a request that takes too long."""
    from django.db import DatabaseError, connection, transaction

    def view(at: int) -> bool:
        with suppress(DatabaseError), transaction.atomic():
            if not first:
                run(f"{INSERT} ('before')")
            interruption = Interruption(at, SENDING)
            with suppress(Interrupted), transaction.atomic():
                with connection.cursor() as cursor, interruption:
                    cursor.execute(f"{INSERT} (%s)", ["within"])
            run(f"{INSERT} ('after')")
        return interruption.came is not None

    inside(lambda: view(10_000))
    for at in itertools.count():
        server("DELETE FROM entry")
        came = inside(lambda at=at: view(at))
        notes = {note for (note,) in server("SELECT note FROM entry")}
        if not came:
            break
        assert notes in ({"after"} if first else {"before", "after"}, set()), at
        assert inside(lambda: run("SELECT pg_current_xact_id_if_assigned() IS NULL")) == [(True,)]
    assert at > 100
    assert "within" in notes
