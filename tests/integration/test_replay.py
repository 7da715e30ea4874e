"""What is sent again when a connection is lost, and what never is."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import Server
from tests.site.extra import extra_view
from wsgi_persist import no_replay

Visit = Callable[..., Any]


@pytest.fixture
def visit(site: TestApp) -> Visit:
    """Run work as the view of a request; its status is the view's, what work returns is returned."""

    def visit(work: Callable[[], Any], status: int = 200, **given: Any) -> Any:
        from django.http import HttpResponse

        found: list[Any] = []

        def view(request: Any) -> HttpResponse:
            found.append(work())
            return HttpResponse("done")

        with extra_view(view):
            response = site.get("/extra/", status=status, **given)
        return found[-1] if found else response

    return visit


@pytest.fixture
def kill(server: Server) -> Callable[..., int]:
    """Terminate the backend of the view's connection, behind its back."""

    def kill(alias: str = "default") -> int:
        from django.db import connections

        pid = int(connections[alias].connection.info.backend_pid)
        server.terminate(pid)
        return pid

    return kill


@pytest.fixture(autouse=True)
def counting(server: Server) -> Iterator[None]:
    """A function of the user's that writes, and a table that says how often."""
    server("CREATE OR REPLACE FUNCTION charge() RETURNS int LANGUAGE sql AS "
           "$$ INSERT INTO entry (note) VALUES ('charged') RETURNING id $$")  # fmt: skip
    return


def query(sql: str, params: Any = None, using: str = "default") -> Any:
    from django.db import connections

    with connections[using].cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone()[0] if cursor.description else None


def pid() -> int:
    return int(query("SELECT pg_backend_pid()"))


READS = [
    "SELECT pg_backend_pid()",
    "WITH a AS (SELECT 1) SELECT count(*) FROM a, entry",
    "VALUES (1)",
    "SHOW work_mem",
    "(SELECT 1) UNION (SELECT 2) ORDER BY 1",
]


@pytest.mark.parametrize("sql", READS)
@pytest.mark.parametrize("nth", [1, 2], ids=["first", "later"])
def test_read_in_autocommit_is_sent_again(
    sql: str, nth: int, visit: Visit, kill: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> tuple[int, int]:
        before = pid()
        for _ in range(nth):
            kill()
            query(sql)
        return before, pid()

    before, after = visit(work)
    assert before != after
    assert f"lost backend {before} in GET '/extra/', its statement is sent again" in caplog.text


def test_open_cursor_goes_on(visit: Visit, kill: Any) -> None:
    def work() -> tuple[int, list[Any], list[Any]]:
        from django.db import connection

        with connection.cursor() as first, connection.cursor() as second:
            first.execute("SELECT 1")
            second.execute("SELECT pg_backend_pid()")
            kill()
            first.execute("SELECT pg_backend_pid()")
            second.execute("INSERT INTO entry (note) VALUES ('on the new one') RETURNING note")
            return pid(), first.fetchall(), second.fetchall()

    now, first, second = visit(work)
    assert first == [(now,)]
    assert second == [("on the new one",)]


WRITES = [
    "INSERT INTO entry (note) VALUES ('written')",
    "SELECT charge()",
    "SELECT id FROM entry FOR UPDATE",
    "SELECT 1; INSERT INTO entry (note) VALUES ('second')",
    "WITH a AS (INSERT INTO entry (note) VALUES ('in a CTE') RETURNING id) SELECT * FROM a",
    "SELECT nextval('entry_id_seq')",
    "EXPLAIN ANALYZE INSERT INTO entry (note) VALUES ('explained')",
]


@pytest.mark.parametrize("sql", WRITES)
def test_write_in_autocommit_is_never_sent_again(sql: str, visit: Visit, kill: Any, notes: Any) -> None:
    def work() -> int:
        from django.db import Error

        pid()
        kill()
        with pytest.raises(Error):
            query(sql)
        return pid()  # the next statement gets another connection

    assert visit(work)
    assert notes() == []


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO entry (note) VALUES ('charged')",
        "SELECT charge()",
        "WITH a AS (INSERT INTO entry (note) VALUES ('charged') RETURNING id) SELECT * FROM a",
        "SELECT set_config('my.user', '1', true); INSERT INTO entry (note) VALUES ('charged') RETURNING id",
        "SET LOCAL work_mem = '2MB'; SAVEPOINT a; SELECT charge()",
    ],
)
def test_first_statement_of_a_transaction_is_sent_again(
    sql: str, visit: Visit, kill: Any, notes: Any
) -> None:
    def work() -> list[str]:
        from django.db import connection, transaction

        done: list[str] = []
        pid()
        with transaction.atomic():
            transaction.on_commit(lambda: done.append("hook"))
            kill()
            query(sql)
            assert connection.in_atomic_block
            assert not connection.get_autocommit()
            assert not connection.connection.autocommit
            assert done == []
        assert connection.get_autocommit()
        return done

    assert visit(work) == ["hook"]
    assert notes() == ["charged"]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO entry (note) VALUES ('first'); COMMIT",
        "SELECT set_config('my.context', '1', true); CALL pay(); SELECT 1",
        "SELECT 1; DO $$ BEGIN COMMIT; END $$",
    ],
)
def test_text_that_no_rollback_undoes_is_never_sent_again(
    sql: str, visit: Visit, kill: Any, notes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> None:
        from django.db import Error, transaction

        pid()
        with pytest.raises(Error), transaction.atomic():
            kill()
            query(sql)

    visit(work)
    assert notes() == []
    assert "not sent again (no rollback undoes it, or it is not understood)" in caplog.text


def test_first_statement_inside_nested_blocks(visit: Visit, kill: Any, notes: Any) -> None:
    def work() -> None:
        from django.db import transaction

        pid()
        with transaction.atomic():
            kill()
            with pytest.raises(ValueError, match="rolled back"), transaction.atomic():  # sends SAVEPOINT
                query("INSERT INTO entry (note) VALUES ('inner')")
                raise ValueError("rolled back")
            query("INSERT INTO entry (note) VALUES ('outer')")

    visit(work)
    assert notes() == ["outer"]


def test_rolled_back_block_stays_rolled_back(visit: Visit, kill: Any, notes: Any) -> None:
    def work() -> None:
        from django.db import transaction

        pid()
        with pytest.raises(ValueError, match="changed my mind"), transaction.atomic():
            kill()
            query("INSERT INTO entry (note) VALUES ('gone')")
            raise ValueError("changed my mind")
        with transaction.atomic():
            kill()
            query("INSERT INTO entry (note) VALUES ('gone, too')")
            transaction.set_rollback(True)

    visit(work)
    assert notes() == []


def test_second_statement_of_a_transaction_is_never_sent_again(
    visit: Visit, kill: Any, notes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> None:
        from django.db import Error, transaction

        done: list[str] = []
        with pytest.raises(Error), transaction.atomic():
            transaction.on_commit(lambda: done.append("hook"))
            query("INSERT INTO entry (note) VALUES ('first')")
            kill()
            query("SELECT 1")
        assert done == []
        query("INSERT INTO entry (note) VALUES ('afterwards')")

    visit(work)
    assert notes() == ["afterwards"]
    assert "not sent again (its transaction had begun)" in caplog.text


def test_caught_loss_inside_a_block_does_not_go_on_elsewhere(visit: Visit, kill: Any, notes: Any) -> None:
    def work() -> None:
        from django.db import Error, transaction

        with pytest.raises(Error), transaction.atomic():
            query("INSERT INTO entry (note) VALUES ('first')")
            kill()
            for _ in range(3):
                with pytest.raises(Error):
                    query("INSERT INTO entry (note) VALUES ('second')")

    visit(work)
    assert notes() == []


def test_transaction_begun_by_hand(visit: Visit, kill: Any, notes: Any) -> None:
    def work() -> None:
        from django.db import Error, transaction

        pid()
        transaction.set_autocommit(False)
        kill()
        query("INSERT INTO entry (note) VALUES ('first')")
        transaction.commit()
        query("INSERT INTO entry (note) VALUES ('second')")
        kill()
        with pytest.raises(Error):
            query("SELECT 1")

    visit(work)
    assert notes() == ["first"]


def test_raw_begin_is_a_transaction(visit: Visit, kill: Any) -> None:
    def work() -> None:
        from django.db import Error

        query("BEGIN")
        kill()
        with pytest.raises(Error):
            query("SELECT 1")

    visit(work)


def test_commit_of_reads_alone_counts_as_done(visit: Visit, kill: Any) -> None:
    def work() -> tuple[list[str], int, int]:
        from django.db import transaction

        done: list[str] = []
        with transaction.atomic():
            transaction.on_commit(lambda: done.append("hook"))
            before = pid()
            with transaction.atomic():
                query("SELECT 1")
            kill()
        return done, before, pid()

    done, before, after = visit(work)
    assert done == ["hook"]
    assert before != after


def test_commit_of_a_write_is_never_reported_as_done(visit: Visit, kill: Any) -> None:
    def work() -> list[str]:
        from django.db import Error, transaction

        done: list[str] = []
        with pytest.raises(Error), transaction.atomic():
            transaction.on_commit(lambda: done.append("hook"))
            query("INSERT INTO entry (note) VALUES ('unknown')")
            kill()
        return done

    assert visit(work) == []


@pytest.mark.parametrize("leave", ["SET work_mem = '5MB'", "SELECT pg_advisory_lock(1)", "attribute"])
def test_session_with_state_of_its_own_is_not_replaced(leave: str, visit: Visit, kill: Any) -> None:
    def work() -> None:
        from django.db import Error, connection

        if leave == "attribute":
            pid()
            connection.connection.isolation_level = 4
        else:
            query(leave)
        kill()
        for _ in range(2):
            with pytest.raises(Error):
                query("SELECT 1")
        connection.close()
        assert query("SELECT 1") == 1

    visit(work)


def test_server_side_cursor_is_not_sent_again(visit: Visit, kill: Any) -> None:
    def work() -> None:
        from django.db import Error, connection

        pid()
        kill()
        with pytest.raises(Error), connection.chunked_cursor() as cursor:
            cursor.execute("SELECT 1")

    visit(work)


def test_executemany_is_not_sent_again(visit: Visit, kill: Any, notes: Any) -> None:
    def work() -> None:
        from django.db import Error, connection

        pid()
        kill()
        with pytest.raises(Error), connection.cursor() as cursor:
            cursor.executemany("INSERT INTO entry (note) VALUES (%s)", [["a"], ["b"]])

    visit(work)
    assert notes() == []


@pytest.mark.parametrize("how", ["option", "block"])
def test_replay_can_be_switched_off(how: str, visit: Visit, kill: Any, monkeypatch: Any) -> None:
    def work() -> None:
        from django.db import Error

        pid()
        kill()
        with pytest.raises(Error), no_replay() if how == "block" else nullcontext():
            query("SELECT 1")
        assert query("SELECT 1") == 1

    if how == "option":
        from django.db import connection

        monkeypatch.setitem(connection.settings_dict["OPTIONS"], "persist", {"replay": "off"})
        monkeypatch.setattr(connection, "persist_policy", type(connection.persist_policy)(replay="off"))
        from wsgi_persist.worker import registry

        registry.process_scope().pins.pop("default", None)
    visit(work)
    if how == "option":
        registry.process_scope().pins.pop("default").stop()


def test_no_replay_outside_a_request_does_nothing() -> None:
    with no_replay():
        pass


def test_receivers_of_connection_created_run_again_in_autocommit(visit: Visit, kill: Any) -> None:
    seen: list[tuple[bool, bool]] = []

    def receive(connection: Any, **kwargs: Any) -> None:
        seen.append((connection.get_autocommit(), connection.in_atomic_block))
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    def work() -> None:
        from django.db import transaction
        from django.db.backends.signals import connection_created

        connection_created.connect(receive)
        try:
            with transaction.atomic():
                kill()
                pid()
        finally:
            connection_created.disconnect(receive)

    visit(pid)
    visit(lambda: (pid(), work()))
    assert seen == [(True, False)]


def test_debug_cursor_and_wrappers_see_one_statement(visit: Visit, kill: Any, settings_debug: Any) -> None:
    calls: list[str] = []

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        calls.append(sql)
        return execute(sql, params, many, context)

    def work() -> list[str]:
        from django.db import connection, reset_queries

        pid()
        kill()
        reset_queries()
        with connection.execute_wrapper(wrapper):
            query("SELECT 1")
        return [entry["sql"] for entry in connection.queries]

    assert visit(work) == ["SELECT 1"]
    assert calls == ["SELECT 1"]


@pytest.fixture
def settings_debug(django_site: None) -> Iterator[None]:
    from django.test import override_settings

    with override_settings(DEBUG=True):
        yield


def test_outside_a_request_nothing_is_sent_again(site: TestApp, server: Server) -> None:
    from django.db import Error, connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        server.terminate(cursor.fetchone()[0])
        with pytest.raises(Error):
            cursor.execute("SELECT 1")
    connection.close()


def test_every_answer_of_the_server_is_the_statements_own(visit: Visit) -> None:
    def work() -> None:
        from django.db import DataError, IntegrityError, ProgrammingError

        for sql, error in [
            ("SELECT 1/0", DataError),
            ("INSERT INTO entry (note) VALUES (NULL)", IntegrityError),
            ("SELECT nonsense", ProgrammingError),
        ]:
            with pytest.raises(error):
                query(sql)

    visit(work)


@pytest.fixture
def die(server: Server) -> Callable[[], None]:
    """Run a statement that ends its own session, as one that brings the server down would."""
    server("CREATE OR REPLACE FUNCTION die() RETURNS bool LANGUAGE sql AS "
           "$$ SELECT pg_terminate_backend(pg_backend_pid()) $$")  # fmt: skip

    def die() -> None:
        from django.db import Error, transaction

        with pytest.raises(Error), transaction.atomic():
            query("SELECT die(), pg_sleep(1)")

    return die


def test_statement_that_ends_its_own_session_is_sent_a_few_times_only(
    visit: Visit, die: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "wsgi_persist"):
        visit(die)
    assert caplog.text.count("its statement is sent again") == 3


@pytest.mark.parametrize(("each", "times"), [(2.0, 2), (6.0, 0)])
def test_statement_that_runs_for_long_is_not_sent_again(
    each: float, times: int, visit: Visit, die: Any, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not what a restart interrupts, but what a proxy cuts off."""
    from wsgi_persist.backends import cursors

    visit(pid)
    clock = itertools.count(0.0, each)
    monkeypatch.setattr(cursors, "monotonic", lambda: next(clock))
    visit(die)
    assert caplog.text.count("its statement is sent again") == times
    assert "not sent again (it had run for too long)" in caplog.text


@pytest.mark.parametrize("block", [False, True], ids=["autocommit", "atomic"])
def test_server_side_cursor_that_is_closed_is_no_state(block: bool, visit: Visit, kill: Any) -> None:
    def work() -> None:
        from django.db import connection, transaction

        with transaction.atomic() if block else nullcontext(), connection.chunked_cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchall()
        kill()
        query("SELECT 1")

    visit(work)
