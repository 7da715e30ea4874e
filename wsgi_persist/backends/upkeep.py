"""What Django does to every connection as a request begins and ends, left out where it has nothing to do.

Its receivers look each alias up again, three times a request. A thread that has nothing but pins needs
none of it: their boundary sees to them.
"""

from __future__ import annotations

import threading
from typing import Any

from django import db
from django.conf import settings
from django.core.signals import request_finished, request_started
from django.db.backends.signals import connection_created

from wsgi_persist.current import current
from wsgi_persist.lifecycle import is_ours


class _Thread(threading.local):
    """:ivar untidy: whether it may have a connection that is no pin's, or a log of queries."""

    untidy = False


_thread = _Thread()


def reset_queries(**kwargs: Any) -> None:
    if _thread.untidy or current() is None:
        db.reset_queries()


def close_old_connections(**kwargs: Any) -> None:
    if _thread.untidy or current() is None:
        db.close_old_connections()
        _thread.untidy = _thread.untidy and any(map(_is_untidy, db.connections.all(initialized_only=True)))


_receivers = (
    (request_started, db.reset_queries, reset_queries),
    (request_started, db.close_old_connections, close_old_connections),
    (request_finished, db.close_old_connections, close_old_connections),
)


def take_over() -> None:
    """Stand in for Django's receivers, unless there is another backend, or DEBUG, which logs all queries."""
    if settings.DEBUG or not all(is_ours(db, alias) for alias in db.connections):
        return
    for signal, theirs, ours in _receivers:
        if signal.disconnect(theirs):
            # Under the key of Django's: who disconnects that, as its test client does, means this.
            signal.connect(ours, dispatch_uid=id(theirs))


def leave_to_django() -> None:
    """The calling thread has something for its receivers to do."""
    _thread.untidy = True


def _is_untidy(connection: Any) -> bool:
    return bool(connection.queries_log) or (connection.connection is not None and connection._pin is None)


def _meet(sender: Any, connection: Any, **kwargs: Any) -> None:
    if getattr(connection, "_pin", None) is None:
        leave_to_django()


connection_created.connect(_meet)
