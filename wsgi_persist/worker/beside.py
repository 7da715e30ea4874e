"""The scope of one request alone, beside others of its thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import get_ident
from typing import Any, TypeVar

from wsgi_persist.errors import LeakedStateError
from wsgi_persist.pins import State
from wsgi_persist.worker.boundary import Boundary
from wsgi_persist.worker.scope import Scope, current, here
from wsgi_persist.worker.wrappers import Wrapper, put_aside, put_back, wrappers_here

T = TypeVar("T")


class Beside(Scope):
    """It ends with its request, connections and all, and is current only while that one's code runs.

    :param host: within whose request this one is: what that has in a transaction is shared.
    :ivar leak: what the request left before it went on here, if the policy wants it raised.
    """

    def __init__(
        self,
        environ: Mapping[str, Any],
        clock: Callable[[], float],
        host: Callable[[], Boundary | None] | None = None,
    ) -> None:
        super().__init__("request", clock)
        self.leak: LeakedStateError | None = None
        self._request = environ
        self._host = host
        self._wrappers: list[Wrapper] = []  # put aside until it goes on
        self._shared: list[tuple[Wrapper, Any]] = []

    def admit(self, boundary: Boundary, present: Callable[[], Boundary | None]) -> None:
        self.holder[0] = boundary.token
        self.owner = get_ident()
        self.present = present
        boundary.is_beside = True
        boundary.scope = self

    def run(self, work: Callable[..., T], *args: Any) -> T:
        """Code of the request; the wrappers of its thread's other request stand aside meanwhile."""
        before = current()
        if before is self or not self._is_of_this_thread():
            return work(*args)
        shared = self._share(before)
        aside = put_aside(shared)
        put_back(self._wrappers)
        here.inside = self
        try:
            return work(*args)
        finally:
            self._wrappers = put_aside(shared)
            here.inside = before
            put_back(aside)

    def leave(self) -> None:
        try:
            for wrapper, mark in self._shared:
                wrapper.return_to(mark, self)
        finally:
            self._stopping = True
            super().leave()
        if self.leak is not None:
            raise self.leak

    def go_on_from(self, other: Scope) -> None:
        """Be the one in which the present request of *other* goes on, without its leases."""
        self.now, self.trouble, self.no_replay = other.now, other.trouble, other.no_replay
        self.wrote = other.has_written()

    def take_leases(self, other: Scope) -> None:
        """With their pins, which *other* keeps no longer, and with its wrappers."""
        self._wrappers = put_aside()
        leased = {pin for pin, _ in other._leased}
        for key in [key for key, pin in other.pins.items() if pin in leased]:
            self.pins[key] = other.pins.pop(key)
            self.pins[key].move_to(self._watch)
        self._leased, other._leased = other._leased, self._leased

    def keeps_any(self) -> bool:
        return any(pin.state is State.LEASED and not pin.is_lost for pin in self.pins.values())

    def lose(self) -> None:
        """Close the connections: who comes back to them is told by an error."""
        for pin in self.pins.values():
            if pin.state is State.LEASED and not pin.is_lost:
                pin.lose()

    def _is_of_this_thread(self) -> bool:
        """Wrappers belong to their thread; a request that has none goes wherever its response is closed."""
        if not self._wrappers:
            self.owner = get_ident()
        return self.owner == get_ident()

    def _share(self, before: Scope | None) -> list[Wrapper]:
        if before is None or self._host is not before.present:
            return []
        shared = [wrapper for wrapper in wrappers_here() if wrapper.is_busy()]
        known = [wrapper for wrapper, _ in self._shared]
        self._shared += [(wrapper, wrapper.mark()) for wrapper in shared if wrapper not in known]
        return shared
