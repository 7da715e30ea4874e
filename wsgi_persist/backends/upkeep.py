"""What Django does to every connection as a request begins and ends, left out where it has nothing to do.

Its receivers look each alias up again, three times a request. A thread that has nothing but pins needs
none of it: their boundary sees to them.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

from django import db
from django.conf import settings
from django.core.signals import request_finished, request_started
from django.db.backends.signals import connection_created

from wsgi_persist.current import current
from wsgi_persist.lifecycle import is_ours


class _Thread(threading.local):
    """:ivar wrappers: those that have leased a pin.
    :ivar strays: whether a connection was opened that is no pin's, and may still be open.
    """

    strays = False

    def __init__(self) -> None:
        self.wrappers: list[Any] = []


_thread = _Thread()


def reset_queries(**kwargs: Any) -> None:
    for wrapper in _thread.wrappers:
        if wrapper.queries_log:
            break
    else:
        if current() is not None and not _thread.strays:
            return
    db.reset_queries()


def close_old_connections(**kwargs: Any) -> None:
    for wrapper in _thread.wrappers:
        if wrapper._pin is None and wrapper.connection is not None:
            break
    else:
        if current() is not None and not _thread.strays:
            return
    db.close_old_connections()
    _thread.strays = _thread.strays and any(map(_is_stray, db.connections.all(initialized_only=True)))


_receivers = (
    (request_started, db.reset_queries, reset_queries),
    (request_started, db.close_old_connections, close_old_connections),
    (request_finished, db.close_old_connections, close_old_connections),
)


def meet(wrapper: Any) -> None:
    """It has leased its first connection of a pin on the calling thread, or a new one."""
    if wrapper not in _thread.wrappers:
        _thread.wrappers.append(wrapper)
    take_over()


def take_over() -> None:
    """Stand in for Django's receivers, unless there is another backend, or DEBUG, which logs all queries."""
    if not settings.DEBUG and all(is_ours(db, alias) for alias in list(db.connections)):
        for signal, theirs, ours in _receivers:
            _replace(signal, theirs, weakref.ref(ours))


def _replace(signal: Any, theirs: Any, ours: Any) -> None:
    """In its place, and under its key: who disconnects Django's, as its test client does, means this one."""
    with signal.lock:
        for index, (key, receiver, *rest) in enumerate(signal.receivers):
            if isinstance(receiver, weakref.ref) and receiver() is theirs:
                signal.receivers[index] = (key, ours, *rest)


def leave_to_django() -> None:
    """The calling thread opens or has a connection that is no pin's."""
    _thread.strays = True


def _is_stray(connection: Any) -> bool:
    return connection.connection is not None and getattr(connection, "_pin", None) is None


def _opened(sender: Any, connection: Any, **kwargs: Any) -> None:
    if _is_stray(connection):
        leave_to_django()


connection_created.connect(_opened)
