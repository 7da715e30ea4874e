"""Which scopes there are in this process, and which one's request the calling thread serves."""

from __future__ import annotations

import threading
import weakref
from _thread import get_ident
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgi_persist.scope import Scope


class _Local(threading.local):
    held: Scope | None = None  # whose boundary this thread holds


local = _Local()
# A thread's scope is reachable from its thread alone, so that it ends with it; this is for stopping.
_all: weakref.WeakSet[Scope] = weakref.WeakSet()
_all_lock = threading.Lock()


def register(scope: Scope) -> None:
    with _all_lock:
        _all.add(scope)


def current() -> Scope | None:
    """The scope whose boundary the calling thread holds: None outside a request."""
    held = local.held
    return held if held is not None and held.owner == get_ident() else None


def all_scopes() -> list[Scope]:
    with _all_lock:
        return list(_all)


def forget_scopes() -> None:
    """In a forked child: every scope belongs to the parent, and this thread is in no request."""
    global _all_lock
    _all_lock = threading.Lock()  # a thread of the parent may have held it
    for scope in list(_all):
        scope.forget()
    _all.clear()
    local.held = None
