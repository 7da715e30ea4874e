"""The pins of one process or thread, and its boundary: a request comes in, its response is closed."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Mapping
from threading import get_ident
from typing import Any

from wsgi_persist.pins import NEVER, PinnedConnection, State, Watch
from wsgi_persist.policy import Policy
from wsgi_persist.worker.boundary import Boundary, name_of
from wsgi_persist.worker.bounds import keep_within_bounds
from wsgi_persist.worker.leases import Leases

logger = logging.getLogger("wsgi_persist.scope")

_NO_REQUEST: Mapping[str, Any] = {}


class _Thread(threading.local):
    inside: Scope | None = None  # whose boundary this thread holds


_here = _Thread()
# A thread's scope is reachable from its thread alone, so that it ends with it; this is for stopping.
_all: weakref.WeakSet[Scope] = weakref.WeakSet()
_all_lock = threading.Lock()


class Scope(Leases):
    """The pins that one process or one thread keeps.

    One request at a time is inside; while it is, its thread alone may touch the pins. Nobody ever
    waits: who finds the boundary taken gets a scope of its own, which ends with the request.

    :ivar kind: process, thread or request.
    :ivar owner: the thread that is inside.
    :ivar leaving: whether the present response is being closed.
    """

    def __init__(
        self, kind: str, clock: Callable[[], float] = time.monotonic, host: Scope | None = None
    ) -> None:
        super().__init__()
        self.kind = kind
        self.owner: int | None = None
        self.leaving = False
        self.pins: dict[Hashable, PinnedConnection] = {}
        self._clock = clock
        self._request = _NO_REQUEST
        self._watch = Watch()
        self._boundary = threading.Lock()
        self._is_passing = kind == "request"
        self._host = host
        self._guests = 0
        self._leaves_later = False
        with _all_lock:
            _all.add(self)

    def __str__(self) -> str:
        """The present request, for the log."""
        return name_of(self._request)

    def enter(self, environ: Mapping[str, Any], boundary: Boundary | None = None) -> Boundary:
        """A request comes in. Nothing is waited for; all well costs one poll and one clock reading."""
        boundary = Boundary() if boundary is None else boundary
        if not self._boundary.acquire(False):
            return self._beside(environ, boundary)
        if self._stopping:
            # A worker that ends may still get requests: what they open ends with them.
            self._boundary.release()
            return Scope("request", self._clock).enter(environ, boundary)
        try:
            self.owner = get_ident()
            self._request = environ
            _here.inside = self
            events = self._watch.poll(0)
            now = self.now = self._clock()
            if events:
                self._watch.examine(events)
            if now >= self._watch.look_at:
                self._inspect(now)
            boundary.scope = self
            return boundary
        except BaseException:
            self._release()
            raise

    def leave(self) -> None:
        """The response was closed: every lease ends, and the boundary is free on whatever path."""
        if self._guests:
            self._leaves_later = True  # a request on this thread may use what is leased here
            return
        try:
            if self._host is not None and self.has_written():
                self._host.wrote = True
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
                if self._stopping or self._is_passing:
                    self._end()
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
        if not ours and not self._boundary.acquire(blocking=False):
            return
        try:
            pin = self.pins.get(key)
            if pin is not None and pin.serial == serial and pin.state is State.OPEN:
                pin.drop(reason)
        finally:
            if not ours:
                self._boundary.release()

    def stop(self) -> int:
        """Close all for good; what a request in flight uses, its own boundary closes. Any thread.

        :return: how many connections were closed here and now.
        """
        self._stopping = True
        if not self._boundary.acquire(blocking=False):
            return 0
        try:
            return stop_pins(self.pins)
        finally:
            self._boundary.release()

    def forget(self) -> None:
        """In a forked child: this scope belongs to the parent."""
        self.owner = None
        self._stopping = True
        self._leased.clear()
        for pin in self.pins.values():
            pin.forget()

    def _beside(self, environ: Mapping[str, Any], boundary: Boundary) -> Boundary:
        """The boundary is taken: by this very request, if the application is wrapped twice."""
        host = current()
        if host is not None and environ is host._request:
            return boundary
        logger.warning(
            "%s gets connections of its own: %s is still inside (a request within a request, or a "
            "response that was not closed)",
            name_of(environ),
            self,
        )
        if host is not None:
            host._guests += 1
        return Scope("request", self._clock, host).enter(environ, boundary)

    def _guest_leaves(self) -> None:
        _here.inside = self
        self._guests -= 1
        if self._leaves_later and not self._guests:
            self._leaves_later = False
            self.leave()

    def _end(self) -> None:
        self.stop()
        if self._host is not None:
            self._host._guest_leaves()

    def _release(self) -> None:
        self.owner = None
        self.leaving = False
        self._close_account()
        self._request = _NO_REQUEST
        self._boundary.release()

    def _inspect(self, now: float) -> None:
        looks = [pin.inspect(now) for pin in self.pins.values()]
        self._watch.look_at = min(looks, default=NEVER)


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
    inside = _here.inside
    return inside if inside is not None and inside.owner == get_ident() else None


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
    _here.inside = None
