"""The pins of one process or thread, and its boundary: a request comes in, its response is closed."""

from __future__ import annotations

import logging
import threading
import time
from _thread import get_ident
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from wsgi_persist.liveness import NEVER, Watch
from wsgi_persist.pin import PinnedConnection, State
from wsgi_persist.policy import Policy

logger = logging.getLogger("wsgi_persist.scope")

_NO_REQUEST: Mapping[str, Any] = {}


class Boundary:
    """What a request got on its way in; it leaves once, whoever closes its response.

    :ivar scope: the scope whose pins the request may lease; None when it works without pins.
    """

    __slots__ = ("_suspended", "left", "scope")

    def __init__(self, scope: Scope | None, suspended: Scope | None) -> None:
        self.scope = scope
        self.left = False
        self._suspended = suspended

    def closing(self) -> None:
        """The application's own close() is about to run."""
        if self.scope is not None:
            self.scope.leaving = True

    def leave(self) -> None:
        if self.left:
            return
        self.left = True
        if self.scope is not None:
            self.scope.leave()
        elif self._suspended is not None:
            _local.held = self._suspended


class Scope:
    """The pins that one process or one thread keeps.

    One request at a time is inside; while it is, its thread alone may touch the pins. Nobody ever
    waits: who finds the boundary taken works without pins.

    :ivar now: the monotonic clock, read once when the present request came in.
    :ivar leaving: whether the present response is being closed.
    """

    def __init__(self, kind: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.kind = kind
        self.owner: int | None = None
        self.now = 0.0
        self.leaving = False
        self.pins: dict[Hashable, PinnedConnection] = {}
        self._clock = clock
        self._request = _NO_REQUEST
        self._leased: list[PinnedConnection] = []
        self._watch = Watch()
        self._stopping = False
        self._boundary = threading.Lock()

    def enter(self, environ: Mapping[str, Any]) -> Boundary:
        """A request comes in. Nothing is waited for; all well costs one poll and one clock reading."""
        if self._stopping or not self._boundary.acquire(blocking=False):
            return self._without_pins(environ)
        try:
            self.owner = get_ident()
            self._request = environ
            _local.held = self
            events = self._watch.poll(0)
            now = self.now = self._clock()
            if events:
                self._watch.examine(events)
            if now >= self._watch.look_at:
                self._inspect(now)
        except BaseException:
            self.leave()
            raise
        return Boundary(self, None)

    def leave(self) -> None:
        """The response was closed: every lease ends, and the boundary is free on whatever path."""
        try:
            while self._leased:
                self._leased[-1].give_back(self.request)
                self._leased.pop()
        finally:
            self._drop_interrupted()
            self.owner = None
            self.leaving = False
            self._request = _NO_REQUEST
            self._boundary.release()
        if self._stopping:
            self.stop()

    @property
    def request(self) -> str:
        """Method and path of the present request, for the log."""
        return _name_of(self._request)

    def lease(self, pin: PinnedConnection, holder: Any) -> Any:
        """The pin's live connection for the present request, or None when one must be opened."""
        connection = pin.lease(holder, self.now)
        if connection is not None:
            self._leased.append(pin)
        return connection

    def pin(self, key: Hashable, name: str, policy: Policy) -> PinnedConnection:
        """The pin that this scope keeps under *key*, made on first use."""
        pin = self.pins.get(key)
        if pin is None:
            pin = self.pins[key] = PinnedConnection(name, policy, self._watch)
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

    def _without_pins(self, environ: Mapping[str, Any]) -> Boundary:
        suspended = current()
        _local.held = None
        if not self._stopping:
            logger.warning(
                "%s works without pins: %s is still inside (a request within a request, or a "
                "response that was not closed)",
                _name_of(environ),
                self.request,
            )
        return Boundary(None, suspended)

    def _inspect(self, now: float) -> None:
        looks = [pin.inspect(now) for pin in self.pins.values()]
        self._watch.look_at = min(looks, default=NEVER)

    def _drop_interrupted(self) -> None:
        """Reached with leases only when ending one raised, as a timeout injected by the server does."""
        while self._leased:
            pin = self._leased.pop()
            if pin.state is State.LEASED:
                pin.drop(f"interrupted at the end of {self.request}")


def _name_of(environ: Mapping[str, Any]) -> str:
    method, script, path = (environ.get(key, "") for key in ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO"))
    return f"{method} {script + path!r}"  # quoted: a visitor chooses it


class _Local(threading.local):
    held: Scope | None = None  # whose boundary this thread holds


_local = _Local()


def current() -> Scope | None:
    """The scope whose boundary the calling thread holds: None outside a request."""
    held = _local.held
    return held if held is not None and held.owner == get_ident() else None


def leave_parent() -> None:
    """In a forked child: this thread is no longer in the request that its parent serves."""
    _local.held = None


def stop_pins(pins: dict[Hashable, PinnedConnection]) -> int:
    """Close them for good; how many connections that were."""
    closed = 0
    for pin in pins.values():
        closed += pin.connection is not None
        if pin.state not in (State.STOPPED, State.FORGOTTEN):
            pin.stop()
    return closed
