"""The scopes of this process: its own, and one for each thread that serves requests."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Hashable

from wsgi_persist.drivers import driver_of
from wsgi_persist.events import tell
from wsgi_persist.pins import PinnedConnection
from wsgi_persist.worker.entrance import WorkerScope
from wsgi_persist.worker.scope import all_scopes, forget_scopes, stop_pins
from wsgi_persist.worker.servers import refuse_greenlets

logger = logging.getLogger("wsgi_persist.registry")


class _Local(threading.local):
    scope: WorkerScope | None = None


_local = _Local()
_process = WorkerScope("process")


def process_scope() -> WorkerScope:
    return _process


def thread_scope() -> WorkerScope:
    """The scope of the calling thread; its pins are closed when the thread ends.

    :raises ScopeError: a coroutine library took the threads over after the application was loaded.
    """
    scope = _local.scope
    if scope is None:
        refuse_greenlets()
        scope = _local.scope = WorkerScope("thread")
        weakref.finalize(scope, _end_thread, scope.pins, os.getpid()).atexit = False
    return scope


def close_idle(key: Hashable, serial: int, reason: str) -> None:
    """Close the idle connection *serial* under *key*, of the process or of the calling thread."""
    for scope in (_process, _local.scope):
        if scope is not None:
            scope.close_idle(key, serial, reason)


def stop_all() -> tuple[int, int]:
    """Close every idle pin for good.

    :return: how many connections were closed, and how many scopes a request in flight will close.
    """
    scopes = all_scopes()
    closed = sum(scope.stop() for scope in scopes)
    return closed, sum(scope.owner is not None for scope in scopes)


def cancel_oldest() -> None:
    """Stop the query that the longest request under way waits for. Any thread may call this."""
    inside = [scope for scope in all_scopes() if scope.owner is not None]
    oldest = min(inside, key=lambda scope: scope.now, default=None)
    if oldest is None:
        return
    request = str(oldest)  # it may be over as soon as its query is
    for pin in list(oldest.pins.values()):
        try:
            connection = pin.in_query()
            if connection is not None:
                # Said first: without its query the request ends, and perhaps the worker with it.
                logger.warning("%s: cancelling its query in backend %d", request, pin.backend)
                tell("cancelled", pin.name, request)
                driver_of(connection).cancel(connection)
        except Exception as error:
            logger.warning("%s: its query in backend %d cannot be cancelled: %s", request, pin.backend, error)


def forget_all() -> None:
    """In a forked child: begin anew, without pins and outside any request."""
    global _process
    forget_scopes()
    _local.scope = None
    _process = WorkerScope("process")
    tell("forked")


def _end_thread(pins: dict[Hashable, PinnedConnection], pid: int) -> None:
    if os.getpid() == pid:
        stop_pins(pins)
        return
    # A fork ends the parent's other threads in the child, before any fork hook of ours runs.
    for pin in pins.values():
        pin.forget()
