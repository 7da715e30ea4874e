"""Connections in a transparent proxy, as tracing tools hand them out: their cursors have the one inside."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Server
from tests.integration.test_answers import kill
from tests.integration.test_plain import pin
from tests.integration.test_plain import visit as visit_plain
from tests.integration.test_replay import counting, pid, query, visit
from wsgi_persist import Pin

__all__ = ["counting", "kill", "pin", "visit", "visit_plain"]


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
