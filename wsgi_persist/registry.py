"""The scopes of this process: its own, and one for each thread that serves requests."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Hashable

from wsgi_persist.pin import PinnedConnection
from wsgi_persist.scope import Scope, leave_parent, stop_pins


class _Local(threading.local):
    scope: Scope | None = None


_local = _Local()
# A thread's scope is reachable from its thread alone, so that it ends with it; this is for stopping.
_scopes: weakref.WeakSet[Scope] = weakref.WeakSet()
_scopes_lock = threading.Lock()


def _new_scope(kind: str) -> Scope:
    scope = Scope(kind)
    with _scopes_lock:
        _scopes.add(scope)
    return scope


_process = _new_scope("process")


def process_scope() -> Scope:
    return _process


def thread_scope() -> Scope:
    """The scope of the calling thread; its pins are closed when the thread ends."""
    scope = _local.scope
    if scope is None:
        scope = _local.scope = _new_scope("thread")
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
    with _scopes_lock:
        scopes = list(_scopes)
    closed = sum(scope.stop() for scope in scopes)
    return closed, sum(scope.owner is not None for scope in scopes)


def forget_all() -> None:
    """In a forked child: begin anew, without pins and outside any request."""
    global _process, _scopes_lock
    _scopes_lock = threading.Lock()  # a thread of the parent may have held it
    for scope in list(_scopes):
        scope.forget()
    _scopes.clear()
    leave_parent()
    _local.scope = None
    _process = _new_scope("process")


def _end_thread(pins: dict[Hashable, PinnedConnection], pid: int) -> None:
    if os.getpid() == pid:
        stop_pins(pins)
        return
    # A fork ends the parent's other threads in the child, before any fork hook of ours runs.
    for pin in pins.values():
        pin.forget()
