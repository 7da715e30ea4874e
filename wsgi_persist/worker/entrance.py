"""How requests come into the scope of a process or thread, one at a time."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import Any

from wsgi_persist.errors import LeakedStateError
from wsgi_persist.events import look, tell
from wsgi_persist.worker.beside import Beside
from wsgi_persist.worker.boundary import Boundary
from wsgi_persist.worker.scope import Scope, current, here

logger = logging.getLogger("wsgi_persist.scope")

# Unfinished responses that may keep connections beside those of one thread.
MOST_BESIDE = 8

# What was said, as it comes again with every request. Bounded, as visitors choose the paths.
_said: set[tuple[str, str]] = set()
_SAY_AT_MOST = 100


class WorkerScope(Scope):
    """The pins that a process or a thread keeps from request to request.

    Nobody ever waits. A request whose application has returned makes way for its thread's next one: its
    leases end, or go on in a scope of its own if more of its code may follow. A request within a
    request, and one on another thread, get scopes of their own.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._keeping: list[Beside] = []  # oldest first

    def enter(self, environ: Mapping[str, Any], boundary: Boundary | None = None) -> Boundary:
        """A request comes in. Nothing is waited for; all well costs one poll and one clock reading."""
        boundary = Boundary() if boundary is None else boundary
        ident = get_ident()
        inside = here.inside
        if inside is not self and inside is not None and inside.owner == ident:
            return self._enter_beside(environ, boundary)
        token = boundary.token = weakref.ref(boundary)
        try:
            if self.holder.setdefault(0, token) is not token and not self._makes_way(ident, token):
                return self._enter_beside(environ, boundary)
            if self._stopping:
                # A worker that ends may still get requests: what they open ends with them.
                self._release()
                self.stop()
                return self._admit(environ, boundary)
            self.owner = boundary.runs_on = ident
            self._request = environ
            self.present = token
            if inside is not self:
                here.inside = self
            events = self._watch.poll(0)
            now = self.now = self._clock()
            if events:
                self._watch.examine(events)
            if now >= self._watch.look_at:
                self._inspect(now)
            boundary.scope = self
            return boundary
        except BaseException:
            boundary.scope = None  # else its end would be that of the next request
            if self.holder.get(0) is token:
                self._release()
            raise

    def end_early(self, boundary: Boundary) -> None:
        try:
            late = self._go_on(boundary)
            if late is not None:
                self._leave_to(late)
        except BaseException:
            if boundary.is_beside and self.holder.get(0) is boundary.token:
                self.leave()
            raise

    def _leave_to(self, late: Beside) -> None:
        try:
            self.leave()
        except LeakedStateError as leak:
            late.leak = leak

    def _makes_way(self, ident: int, token: Callable[[], Boundary | None]) -> bool:
        """Whether who is inside was only waiting for its response to be closed, on this thread."""
        boundary = self.present()
        if self.owner != ident or boundary is None or boundary.runs_on == ident:
            return False
        try:
            late = self._go_on(boundary)
            if late is None:
                return False
            if boundary.is_spent:
                late.leak = self._give_back()
            else:
                self._move_leases(late)
            self._close_account()
            self.holder[0] = token
        except BaseException:
            if boundary.is_beside:
                self._drop_interrupted()  # a pin may be between the scopes
                self.leave()
            raise
        return True

    def _go_on(self, boundary: Boundary) -> Beside | None:
        """The scope for the rest of the present request; None if another thread is ending it just now."""
        late = Beside(self._request, self._clock)
        late.go_on_from(self)
        with self.claims:
            if boundary.scope is self:
                late.admit(boundary, self.present)
        return late if boundary.scope is late else None

    def _move_leases(self, late: Beside) -> None:
        late.take_leases(self)
        if late.keeps_any():
            if _is_news("keeps", late):
                logger.warning("%s keeps its connections until its response is closed", late)
            self._keeping = [scope for scope in self._keeping if scope.keeps_any()]
            self._keeping.append(late)
            self._bound()

    def _bound(self) -> None:
        oldest = self._keeping[0]
        if len(self._keeping) > MOST_BESIDE and oldest.owner == get_ident():
            logger.warning("%s loses its connections: %d later responses keep some", oldest, MOST_BESIDE)
            oldest.lose()

    def _enter_beside(self, environ: Mapping[str, Any], boundary: Boundary) -> Boundary:
        """Not at all, if the application is wrapped twice and this is the same request."""
        host = current()
        if host is None:
            if _is_news("is not alone", self):
                logger.warning("%s is not alone: requests on other threads get their own connections", self)
        elif host.is_serving(environ):
            return boundary
        elif _runs_here(host):
            if _is_news("asks itself", host):
                logger.warning("%s makes requests to itself: they get connections of their own", host)
            host.wrote = True  # for all it knows
            return self._admit(environ, boundary, host.present)
        return self._admit(environ, boundary)

    def _admit(
        self,
        environ: Mapping[str, Any],
        boundary: Boundary,
        host: Callable[[], Boundary | None] | None = None,
    ) -> Boundary:
        scope = Beside(environ, self._clock, host)
        tell("own_scope", request=scope)
        scope.now = self._clock()
        scope.admit(boundary, weakref.ref(boundary))
        return boundary

    def _inspect(self, now: float) -> None:
        looks = [pin.inspect(now) for pin in self.pins.values()]
        self._watch.look_at = min([*looks, look(now, self._request)])


def _runs_here(scope: Scope) -> bool:
    """Whether code of its request is on the calling thread's stack."""
    boundary = scope.present()
    if boundary is None:
        return False
    return boundary.is_beside or boundary.runs_on == get_ident()


def _is_news(what: str, scope: Scope) -> bool:
    said = (what, str(scope))
    if said in _said or len(_said) >= _SAY_AT_MOST:
        return False
    _said.add(said)
    return True
