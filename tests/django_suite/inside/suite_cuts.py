"""Tests outside transactions of their own, whose connection ends before every second statement that is
promised to be sent again."""

from __future__ import annotations

import itertools
from typing import Any

from django.db import connections
from django.test import TestCase
from suite_settings import GIVEN

from wsgi_persist.backends.cursors import Replaying
from wsgi_persist.recovery import MOST, Sent
from wsgi_persist.recovery.replay import _refusal
from wsgi_persist.worker import current

CUTS = {"made": 0}
_admin: list[Any] = []


def flush_instead() -> None:
    """As where the database has no transactions: what a test wrote is deleted after it."""
    TestCase._databases_support_transactions = classmethod(lambda cls: False)  # type: ignore


def cut() -> None:
    Replaying._execute = _cutting(Replaying._execute)  # type: ignore[method-assign]


def _cutting(execute: Any) -> Any:
    numbers = itertools.count()

    def method(self: Any, sql: Any, params: Any, *ignored: Any) -> Any:
        if _is_promised(self, sql) and next(numbers) % 2:
            _terminate(self.db._pin.backend)
        return execute(self, sql, params, *ignored)

    return method


def _is_promised(cursor: Any, sql: Any) -> bool:
    db, scope = cursor.db, current()
    pin = db._pin
    if scope is None or pin is None or pin.session is None or db.needs_rollback:
        return False
    autocommit = db.connection.autocommit
    sent = Sent(sql, pin.session.standing(), autocommit, cursor.cursor, MOST, 0.0)
    return autocommit is db.autocommit and _refusal(scope, pin, sent, runs_on=False) is None


def _terminate(backend: int) -> None:
    if not _admin:
        driver = connections["default"].Database
        _admin.append(driver.connect(dbname="postgres", **_login()))
        _admin[0].autocommit = True
    CUTS["made"] += 1
    with _admin[0].cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])


def _login() -> dict[str, Any]:
    return {"host": GIVEN["HOST"], "port": GIVEN["PORT"], "user": GIVEN["USER"]}
