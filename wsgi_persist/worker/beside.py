"""The scope of one request alone, beside others of its thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import get_ident
from typing import Any, TypeVar

from wsgi_persist.errors import LeakedStateError
from wsgi_persist.pins import Holder, State
from wsgi_persist.worker.boundary import Boundary
from wsgi_persist.worker.scope import Scope, current, here

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
        self._shared: list[tuple[Holder, Any]] = []

    def admit(self, boundary: Boundary, present: Callable[[], Boundary | None]) -> None:
        self._boundary.acquire()
        self.owner = get_ident()
        self.present = present
        boundary.scope, boundary.is_beside = self, True

    def run(self, work: Callable[..., T], *args: Any) -> T:
        """Code of the request; the wrappers of its thread's other request stand aside meanwhile."""
        before = current()
        if before is self or not self._is_of_this_thread():
            return work(*args)
        aside = [] if before is None else before.step_aside(self._share(before))
        self._step_back()
        here.inside = self
        try:
            return work(*args)
        finally:
            self.step_aside()
            here.inside = before
            for holder in aside:
                holder.step_back()

    def leave(self) -> None:
        try:
            for holder, mark in self._shared:
                holder.return_to(mark, self)
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
        """With their pins, which *other* keeps no longer."""
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
        if not self._leased:
            self.owner = get_ident()
        return self.owner == get_ident()

    def _share(self, before: Scope) -> list[Holder]:
        if self._host is None or self._host is not before.present:
            return []
        shared = before.busy_holders()
        known = [holder for holder, _ in self._shared]
        self._shared += [(holder, holder.mark()) for holder in shared if holder not in known]
        return shared
