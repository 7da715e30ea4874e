"""What Django's signals tell of a request: why it failed, and what it wrote past the pins."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.signals import got_request_exception, request_started
from django.db import connections
from django.db.backends.signals import connection_created

from wsgi_persist.drivers import Ears, comes_from_loss, driver_of
from wsgi_persist.sql import QUIET, Classifier
from wsgi_persist.worker import current

_classify = Classifier()


def excuse(**kwargs: Any) -> None:
    """A request failed: a loss that it got over is not why, and a page for developers stays."""
    scope = current()
    trouble = scope.assess() if scope is not None else None
    if trouble is not None and (settings.DEBUG or not comes_from_loss(sys.exc_info()[1])):
        trouble.excused = True


def watch_strangers() -> None:
    """From now on, note what is written without a pin: such a request must not be run again."""
    request_started.connect(_watch_all, dispatch_uid="wsgi_persist")
    connection_created.connect(_watch, dispatch_uid="wsgi_persist")


def _watch_all(**kwargs: Any) -> None:
    for connection in connections.all(initialized_only=True):
        _watch(connection)


def _watch(connection: Any, **kwargs: Any) -> None:
    if current() is None:
        return
    if note_writes not in connection.execute_wrappers:
        # First: blocks of execute_wrapper() take theirs from the end.
        connection.execute_wrappers.insert(0, note_writes)
    if connection.connection is not None and getattr(connection, "_pin", None) is None:
        _watch_cursors(connection.connection)


def _watch_cursors(connection: Any) -> None:
    """COPY and callproc() pass by Django's wrappers, and so do the driver's own cursors."""
    if hasattr(getattr(connection, "cursor_factory", None), "tells"):
        return
    with suppress(TypeError):  # of another kind of database: there Django's wrappers have to do
        driver_of(connection).watch(connection, _ears, _do_nothing)


def _hear(query: Any, verdict: Any = None) -> None:
    scope = current()
    if scope is not None and not _only_reads(query):
        scope.wrote = True


def _do_nothing(*ignored: Any) -> None:
    pass


# What is put together by the driver is no text: it counts as a write.
_ears = Ears(_classify.seen, _classify, _hear, hold=_do_nothing, failed=_do_nothing)


def note_writes(execute: Any, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """An ``execute_wrapper``, to which savepoints are nothing."""
    scope = current()
    if scope is not None and getattr(context["connection"], "_pin", None) is None and not _only_reads(sql):
        scope.wrote = True
    return execute(sql, params, many, context)


def _only_reads(sql: Any) -> bool:
    # A backslash may be an escape to another database.
    return isinstance(sql, str) and "\\" not in sql and _classify(sql) is QUIET


got_request_exception.connect(excuse, dispatch_uid="wsgi_persist")
