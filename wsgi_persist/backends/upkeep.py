"""What Django does to every connection as a request begins and ends, put aside while nothing needs it.

Its receivers look each alias up again, three times a request. Where there are only pins their boundary
does that work, and a request is spared even the asking who wants to hear of it.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from typing import Any

from django import db
from django.conf import settings
from django.core.signals import request_finished, request_started
from django.db.backends.signals import connection_created

from wsgi_persist.worker import is_ours

_RECEIVERS = (
    (request_started, db.reset_queries),
    (request_started, db.close_old_connections),
    (request_finished, db.close_old_connections),
)
_UID = "wsgi_persist.upkeep"


class _Token:
    """Stands for a thread, and is gone with it."""


class _Thread(threading.local):
    def __init__(self) -> None:
        self.token = _Token()


_thread = _Thread()
_in_need: weakref.WeakSet[_Token] = weakref.WeakSet()
# By signal and key, moved as they are and not connected again: every connect() keeps something for ever.
_aside: dict[tuple[Any, Any], Any] = {}


def put_aside(**kwargs: Any) -> None:
    """Unless a thread needs them, there is another backend, or DEBUG, which logs all queries."""
    if not any(map(_needs_them, db.connections.all(initialized_only=True))):
        _in_need.discard(_thread.token)
    if _in_need or settings.DEBUG or not all(is_ours(db, alias) for alias in list(db.connections)):
        return
    for signal, receiver in _RECEIVERS:
        _take(signal, receiver)
    request_finished.disconnect(dispatch_uid=_UID)
    if _in_need:
        _put_back()  # of another thread, meanwhile


def leave_to_django() -> None:
    """The calling thread has a connection that is no pin's, or logs its queries."""
    _in_need.add(_thread.token)
    if _aside:
        _put_back()


def _needs_them(wrapper: Any) -> bool:
    return bool(wrapper.queries_log) or is_stray(wrapper)


def is_stray(wrapper: Any) -> bool:
    return wrapper.connection is not None and getattr(wrapper, "_pin", None) is None


def _take(signal: Any, receiver: Any) -> None:
    with signal.lock:
        for entry in list(signal.receivers):
            if isinstance(entry[1], weakref.ref) and entry[1]() is receiver:
                signal.receivers.remove(entry)
                _aside[signal, entry[0]] = entry


def _put_back() -> None:
    """In front, as they were: what a site does at these moments finds its connections looked after."""
    with suppress(KeyError):  # another thread does the same
        while True:
            (signal, key), entry = _aside.popitem()
            with signal.lock:
                # Django's test client connects them by itself.
                if key not in [connected for connected, *_ in signal.receivers]:
                    signal.receivers.insert(0, entry)
    request_finished.connect(put_aside, weak=False, dispatch_uid=_UID)


def _opened(sender: Any, connection: Any, **kwargs: Any) -> None:
    if is_stray(connection):
        leave_to_django()


connection_created.connect(_opened)
