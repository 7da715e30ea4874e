"""Connections in a transparent proxy, as tracing tools hand them out: their cursors have the one inside."""

from __future__ import annotations

import importlib
import os
import signal
import threading
from typing import Any

import pytest

from tests.conftest import Server
from tests.integration.test_answers import kill
from tests.integration.test_liveness import clock
from tests.integration.test_plain import pin
from tests.integration.test_plain import visit as visit_plain
from tests.integration.test_replay import counting, pid, query, visit
from wsgi_persist import Pin, Policy

__all__ = ["clock", "counting", "kill", "pin", "visit", "visit_plain"]


class Proxy:
    def __init__(self, inner: Any) -> None:
        object.__setattr__(self, "inner", inner)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.inner, name, value)


@pytest.fixture
def traced(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db.backends.postgresql.base import DatabaseWrapper

    connect = DatabaseWrapper.get_new_connection
    monkeypatch.setattr(
        DatabaseWrapper, "get_new_connection", lambda self, params: Proxy(connect(self, params))
    )


@pytest.fixture
def work_mem(visit: Any) -> str:
    return str(visit(lambda: query("SHOW work_mem")))


@pytest.mark.usefixtures("traced")
def test_what_a_request_left_is_reset(visit: Any, work_mem: str) -> None:
    def work() -> int:
        query("SET work_mem = '77MB'")
        return pid()

    before = visit(work)
    assert visit(lambda: (pid(), query("SHOW work_mem"))) == (before, work_mem)


@pytest.mark.usefixtures("traced")
def test_composed_statement_is_understood(visit: Any, driver: Any, work_mem: str) -> None:
    def work() -> int:
        from django.db import connection

        sql = importlib.import_module(f"{driver.__name__}.sql")
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("SET {} = '77MB'").format(sql.Identifier("work_mem")))
        return pid()

    before = visit(work)
    assert visit(lambda: (pid(), query("SHOW work_mem"))) == (before, work_mem)


@pytest.mark.usefixtures("traced")
def test_frozen_server_is_not_waited_for(
    visit: Any, clock: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connection

    monkeypatch.setattr(connection, "persist_policy", Policy(connect_timeout=2.0))
    before = visit(pid)
    clock.advance(31.0)
    os.kill(before, signal.SIGSTOP)
    thaw = threading.Timer(20.0, os.kill, (before, signal.SIGCONT))
    thaw.start()
    try:
        # An answer that comes after all would keep the connection.
        assert visit(pid) != before
    finally:
        thaw.cancel()
        os.kill(before, signal.SIGCONT)


@pytest.mark.usefixtures("traced")
def test_tools_are_told_the_drivers_name(visit: Any, driver: Any) -> None:
    def work() -> str:
        from django.db import connection

        connection.ensure_connection()
        return str(connection.connection.__class__.__module__.partition(".")[0])

    assert visit(work) == driver.__name__


@pytest.mark.usefixtures("traced")
def test_statement_that_fails_is_sent_once(visit: Any, server: Server) -> None:
    def work() -> None:
        from django.db import DataError, transaction

        with pytest.raises(DataError), transaction.atomic():
            query("SELECT 1/0")

    visit(work)
    assert sum("1/0" in sql for sql in server.statements()) == 1


@pytest.mark.usefixtures("traced")
def test_read_is_sent_again(visit: Any, kill: Any) -> None:
    def work() -> tuple[int, int]:
        before = pid()
        kill()
        return before, pid()

    before, after = visit(work)
    assert before != after


def test_statement_of_a_plain_pin_that_fails_is_sent_once(pin: Pin, visit_plain: Any, server: Server) -> None:
    def work() -> None:
        with pin.cursor() as cursor, pytest.raises(Exception, match="division by zero"):
            cursor.execute("SELECT 1/0")

    pin._connect = lambda connect=pin._connect: Proxy(connect())
    server.mark()
    visit_plain(work)
    assert sum("1/0" in sql for sql in server.statements()) == 1


def test_transaction_of_a_plain_pin_is_rolled_back(pin: Pin, visit_plain: Any, server: Server) -> None:
    def work() -> tuple[int, int]:
        with pytest.raises(RuntimeError), pin.transaction() as cursor:
            before = pin.connection
            # The driver's own rollback does nothing after a BEGIN of one's own.
            before.autocommit = True
            cursor.execute("BEGIN")
            raise RuntimeError
        return before.info.backend_pid, before.info.transaction_status

    pin._connect = lambda connect=pin._connect: Proxy(connect())
    backend, status = visit_plain(work)
    assert status == 0
    assert visit_plain(lambda: pin.connection.info.backend_pid) == backend
