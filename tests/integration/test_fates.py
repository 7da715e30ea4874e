"""That a write is remembered however it was sent: it is not done twice, nor is its loss called success."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import StringIO
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import DRIVER, Server
from tests.integration.test_answers import answer, kill, query, repeating
from tests.integration.test_replay import counting, visit
from tests.site.extra import extra_view
from wsgi_persist import Policy, no_replay
from wsgi_persist.worker import registry

__all__ = ["answer", "counting", "kill", "repeating", "visit"]

ONCE = "INSERT INTO entry (note) VALUES ('once')"
MANY = "UPDATE entry SET note = note WHERE note = %s", [["a"], ["b"]]


@pytest.fixture
def runs_once(repeating: TestApp, notes: Any) -> Callable[..., None]:
    """Asserts that a view which writes, and loses its connection, is not run again."""

    def runs_once(view: Callable[[Any], Any]) -> None:
        runs: list[Any] = []

        def counted(request: Any) -> Any:
            runs.append(request)
            return view(request)

        with extra_view(counted):
            assert "Retry-After" not in repeating.get("/extra/", status=503).headers
        assert (len(runs), notes()) == (1, ["once"])

    return runs_once


def test_transaction_after_a_commit_may_begin_with_executemany(runs_once: Any, kill: Any) -> None:
    def view(request: Any) -> None:
        from django.db import connection, transaction

        with transaction.atomic():
            query(ONCE)
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.executemany(*MANY)
            kill()
            query("SELECT 1")

    runs_once(view)


def test_transaction_after_a_commit_may_begin_in_the_driver(runs_once: Any, kill: Any) -> None:
    def view(request: Any) -> None:
        from django.db import connection, transaction

        with transaction.atomic():
            query(ONCE)
        with transaction.atomic():
            with connection.connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            kill()
            query("SELECT 1")

    runs_once(view)


def test_write_before_a_loss_that_was_caught(runs_once: Any, kill: Any) -> None:
    def view(request: Any) -> None:
        from django.db import Error, connection

        with connection.cursor() as cursor:
            cursor.execute(ONCE)
            kill()
            with pytest.raises(Error):
                cursor.executemany(*MANY)
            cursor.execute("SELECT 1")

    runs_once(view)


@pytest.mark.parametrize("end", ["COMMIT", "END", "SELECT 1; COMMIT"])
def test_commit_as_text_is_of_unknown_fate(end: str, answer: Any, kill: Any) -> None:
    def work() -> None:
        query("BEGIN")
        query(ONCE)
        kill()
        query(end)

    assert "Retry-After" not in answer(work, 503, method="POST").headers


@pytest.mark.parametrize("end", ["ROLLBACK", "RELEASE SAVEPOINT a", "ROLLBACK TO SAVEPOINT a"])
def test_what_commits_nothing_is_of_known_fate(end: str, answer: Any, kill: Any) -> None:
    def work() -> None:
        query("BEGIN")
        query(ONCE)
        query("SAVEPOINT a")
        kill()
        query(end)

    assert "Retry-After" in answer(work, 503, method="POST").headers


def copy_expert(cursor: Any) -> None:
    cursor.copy_expert("COPY entry (note) FROM STDIN", StringIO("once\n"))


def copy_from(cursor: Any) -> None:
    cursor.copy_from(StringIO("once\n"), "entry", columns=["note"])


def large_object(cursor: Any) -> None:
    cursor.connection.lobject(0, "wb").write(b"once")


def copy(cursor: Any) -> None:
    with cursor.copy("COPY entry (note) FROM STDIN") as entries:
        entries.write("once\n")


def stream(cursor: Any) -> None:
    list(cursor.stream(f"{ONCE} RETURNING id"))


BY_DRIVER = {"psycopg2": [copy_expert, copy_from, large_object], "psycopg": [copy, stream]}


@pytest.mark.parametrize("write", BY_DRIVER[DRIVER])
def test_commit_of_what_the_driver_has_a_method_for_is_not_done(write: Any, visit: Any, kill: Any) -> None:
    def work() -> list[str]:
        from django.db import Error, connection, transaction

        done: list[str] = []
        with pytest.raises(Error), transaction.atomic():
            transaction.on_commit(lambda: done.append("hook"))
            with connection.cursor() as cursor:
                write(cursor)
            kill()
        return done

    assert visit(work) == []


@pytest.mark.parametrize("order", ["block inside", "block outside"])
def test_commit_of_what_no_replay_warned_of_is_not_done(
    order: str, visit: Any, kill: Any, server: Server
) -> None:
    server("CREATE OR REPLACE VIEW hidden AS SELECT charge()")

    def work() -> list[str]:
        from django.db import Error, transaction

        done: list[str] = []
        around, within = [transaction.atomic(), no_replay()][:: 1 if order == "block inside" else -1]
        with pytest.raises(Error), around:
            with within:
                transaction.on_commit(lambda: done.append("hook"))
                query("SELECT * FROM hidden")
                if order == "block outside":
                    kill()
            if order == "block inside":
                kill()
        return done

    assert visit(work) == []


def test_commit_in_a_session_that_was_changed_is_told(visit: Any, kill: Any) -> None:
    """The next transaction would be of another isolation level."""

    def work() -> None:
        from django.db import Error, connection, transaction

        query("SELECT 1")
        connection.connection.isolation_level = 4
        with pytest.raises(Error), transaction.atomic():
            query("SELECT 1")
            kill()

    visit(work)


@pytest.mark.parametrize("how", ["done", "unknown"])
def test_write_of_a_request_within_the_request(
    how: str, repeating: TestApp, kill: Any, notes: Any, server: Server
) -> None:
    runs: list[str] = []

    def view(request: Any) -> Any:
        from django.db import transaction
        from django.http import HttpResponse

        runs.append(request.GET["is"])
        if runs[-1] == "inner":
            query("SELECT 1")
            if how == "unknown":
                kill()
            query(ONCE)
            return HttpResponse("written")
        repeating.get("/extra/?is=inner", status="*")
        with transaction.atomic():
            query("SELECT 1")
            kill()
            return query("SELECT 1")

    with extra_view(view):
        repeating.get("/extra/?is=outer", status=503)
    assert runs == ["outer", "inner"]
    assert notes() == (["once"] if how == "done" else [])


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Has the default alias neither send statements again nor reset its session."""

    def careless(**given: Any) -> None:
        from django.db import connection

        monkeypatch.setattr(connection, "persist_policy", Policy(replay="off", reset="never", **given))
        registry.process_scope().pins.pop("default", None)

    yield careless
    if (pin := registry.process_scope().pins.pop("default", None)) is not None:
        pin.stop()


def test_write_without_replay_and_reset(careless: Any, runs_once: Any, kill: Any) -> None:
    def view(request: Any) -> None:
        from django.db import transaction

        query(ONCE)
        with transaction.atomic():
            query("SELECT 1")
            kill()
            query("SELECT 1")

    careless(replay_requests=True)
    runs_once(view)


def test_loss_where_nothing_is_watched(careless: Any, visit: Any, answer: Any, kill: Any) -> None:
    def work() -> None:
        from django.db import OperationalError

        query("SELECT 1")
        kill()
        with pytest.raises(OperationalError):
            query("SELECT 1")

    careless()
    visit(work)
    assert "Retry-After" not in answer(lambda: (work(), query("SELECT 1")), 503).headers


# What is rolled back stays rolled back.


def test_transaction_by_hand_does_not_go_on_after_an_outage(
    visit: Any, kill: Any, notes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        from django.db import Error, connection, connections, transaction

        query("SELECT 1")
        transaction.set_autocommit(False)
        kill()
        with monkeypatch.context() as outage:
            outage.setattr(connection, "persist_policy", Policy(reconnect_deadline=0))
            outage.setattr(type(connections["default"]), "get_new_connection", refuse)
            with pytest.raises(Error):
                query("INSERT INTO entry (note) VALUES ('first')")
        opening._servers.pop("default")
        for _ in range(2):
            with pytest.raises(Error):
                query("INSERT INTO entry (note) VALUES ('second')")
        with pytest.raises(Error):
            transaction.rollback()

    from wsgi_persist.backends import opening

    visit(work)
    assert notes() == []
    visit(lambda: query("SELECT 1"))


def refuse(*args: Any) -> None:
    raise importlib.import_module(DRIVER).OperationalError("connection refused")


def test_autocommit_that_was_switched_off_past_django(visit: Any, kill: Any, notes: Any) -> None:
    def work() -> None:
        from django.db import Error, connection

        query("SELECT 1")
        connection.connection.autocommit = False
        kill()
        for _ in range(2):
            with pytest.raises(Error):
                query("INSERT INTO entry (note) VALUES ('rolled back')")

    visit(work)
    assert notes() == []


def test_transaction_of_the_driver_does_not_go_on_outside_of_it(visit: Any, kill: Any, notes: Any) -> None:
    def work() -> None:
        from django.db import Error, connection

        query("SELECT 1")
        raw = connection.connection
        with (
            suppress(Exception),  # psycopg2 tells at the end of the block, too
            raw if DRIVER == "psycopg2" else raw.transaction(),
        ):
            kill()
            for sql in ["SELECT 1", "INSERT INTO entry (note) VALUES ('rolled back')"]:
                with suppress(Error):
                    query(sql)

    visit(work)
    assert notes() == []


def test_block_does_not_go_on_when_its_connection_could_not_be_let_go(
    visit: Any, kill: Any, notes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a subclass's close(), for instance, or a timeout that the server injected."""

    def work() -> None:
        from django.db import Error, connections, transaction

        query("SELECT 1")
        with pytest.raises(Error), transaction.atomic():
            kill()
            with monkeypatch.context() as broken:
                broken.setattr(connections["default"], "detach", detach)
                with pytest.raises(KeyError):
                    query(ONCE)
            query(ONCE)

    def detach() -> None:
        from django.db import connections

        type(connections["default"]).detach(connections["default"])
        raise KeyError

    visit(work)
    assert notes() == []
