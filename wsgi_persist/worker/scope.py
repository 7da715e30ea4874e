"""The pins of one process, thread or request, and who is inside."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Hashable, Mapping
from threading import get_ident
from typing import Any, Protocol, TypeVar

from wsgi_persist.pins import PinnedConnection, State, Watch
from wsgi_persist.policy import Policy
from wsgi_persist.worker.boundary import Boundary, name_of
from wsgi_persist.worker.bounds import keep_within_bounds
from wsgi_persist.worker.leases import Leases

T = TypeVar("T")

NO_REQUEST: Mapping[str, Any] = {}


class _Thread(threading.local):
    inside: Scope | None = None  # of the request whose code runs on this thread, or ran there last


here = _Thread()
# A thread's scope is reachable from its thread alone, so that it ends with it; this is for stopping.
_all: weakref.WeakSet[Scope] = weakref.WeakSet()
# Re-entrant: the garbage collector may end a response, and that be told, while this thread holds it.
_all_lock = threading.RLock()


class Mark(Protocol):
    """By which the present request is seen from outside of the process."""

    @property
    def since(self) -> Any: ...
    def clear(self) -> None: ...


class Scope(Leases):
    """Pins, and the one request at a time that may use them, by its thread alone.

    :ivar kind: process, thread or request.
    :ivar owner: the thread that is inside.
    :ivar present: gives the boundary of the request inside. Weakly, as a response that nobody closes
        ends its request when it is collected.
    :ivar mark: None where nobody looks.
    :ivar claims: held while it is decided who ends a request.
    :ivar holder: who has taken the boundary, if anybody has. It is taken by ``setdefault()``, in one step:
        who is interrupted then, as by a server's timeout, finds out whether he has it.
    """

    def __init__(self, kind: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.kind = kind
        self.owner: int | None = None
        self.mark: Mark | None = None
        self.present: Callable[[], Boundary | None] = lambda: None
        # Reentrant: the garbage collector may end another request meanwhile.
        self.claims = threading.RLock()
        self.pins: dict[Hashable, PinnedConnection] = {}
        self._clock = clock
        self._request = NO_REQUEST
        self._watch = Watch()
        self.holder: dict[int, object] = {}
        with _all_lock:
            _all.add(self)

    def __str__(self) -> str:
        """The present request, for the log."""
        return name_of(self._request)

    @property
    def leaving(self) -> bool:
        """Whether the present response is being closed."""
        boundary = self.present()
        return boundary is not None and boundary.is_leaving

    def is_serving(self, environ: Mapping[str, Any]) -> bool:
        return self._request is environ

    def run(self, work: Callable[..., T], *args: Any) -> T:
        """Code of the request inside, after the application has returned."""
        return work(*args)

    def end_early(self, boundary: Boundary) -> None:
        """Nothing of the request follows but ``close()``, which may run beside the next one."""

    def leave(self) -> None:
        """The response was closed: every lease ends, and the boundary is free on whatever path."""
        try:
            leak = self._give_back()
            if self._watch.has_grown:
                self._watch.has_grown = False
                keep_within_bounds(self.pins)
        finally:
            try:
                if self._leased:
                    self._drop_interrupted()
            finally:
                self._release()
                if self._stopping:
                    self.stop()
                if self.mark is not None:
                    self.mark.clear()
        if leak is not None:
            raise leak

    def pin(self, key: Hashable, name: str, policy: Policy) -> PinnedConnection:
        """The pin that this scope keeps under *key*, made on first use."""
        pin = self.pins.get(key)
        if pin is None:
            pin = self.pins[key] = PinnedConnection(name, policy, self._watch, self._clock)
            self._watch.has_grown = True
        return pin

    def close_idle(self, key: Hashable, serial: int, reason: str) -> None:
        """Close the connection *serial* of a pin, unless a request of another thread is inside."""
        ours = self.owner == get_ident()
        token = object()
        if not ours and self.holder.setdefault(0, token) is not token:
            return
        try:
            pin = self.pins.get(key)
            if pin is not None and pin.serial == serial and pin.state is State.OPEN:
                pin.drop(reason)
        finally:
            if not ours:
                self.holder.clear()

    def stop(self) -> int:
        """Close all for good; what a request in flight uses, its own boundary closes. Any thread.

        :return: how many connections were closed here and now.
        """
        self._stopping = True
        token = object()
        if self.holder.setdefault(0, token) is not token:
            return 0
        try:
            return stop_pins(self.pins)
        finally:
            self.holder.clear()

    def forget(self) -> None:
        """In a forked child: this scope belongs to the parent."""
        self.owner = self.mark = None
        self._stopping = True
        self._leased.clear()
        for pin in self.pins.values():
            pin.forget()

    def hurry(self) -> None:
        """The next request looks at the deadlines. Any thread."""
        self._watch.expect(0.0)

    def _release(self) -> None:
        self.owner = None
        self._close_account()
        self._request = NO_REQUEST
        self.holder.clear()


def stop_pins(pins: dict[Hashable, PinnedConnection]) -> int:
    """Close them for good; how many connections that were."""
    closed = 0
    for pin in pins.values():
        closed += pin.connection is not None
        if pin.state not in (State.STOPPED, State.FORGOTTEN):
            pin.stop()
    return closed


def current() -> Scope | None:
    """The scope whose boundary the calling thread holds: None outside a request."""
    inside = here.inside
    return inside if inside is not None and inside.owner == get_ident() else None


def all_scopes() -> list[Scope]:
    with _all_lock:
        return list(_all)


def forget_scopes() -> None:
    """In a forked child: every scope belongs to the parent, and this thread is in no request."""
    global _all_lock
    _all_lock = threading.RLock()  # a thread of the parent may have held it
    for scope in list(_all):
        scope.forget()
    _all.clear()
    here.inside = None
