"""How long each layer takes in its place, inside a page: timers around the real functions.

A loop over one function finds its code and data in the processor's caches; a page has pushed them out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple

from tests.bench.timing import Work
from wsgi_persist.backends.mixin import PersistMixin
from wsgi_persist.pins.liveness import Watch
from wsgi_persist.pins.pin import PinnedConnection
from wsgi_persist.pins.session import Session
from wsgi_persist.worker import WorkerScope
from wsgi_persist.worker.registry import process_scope
from wsgi_persist.worker.scope import Scope
from wsgi_persist.wsgi import middleware
from wsgi_persist.wsgi.response import Response


class Layer(NamedTuple):
    """A function of ours; *depth* 0 where no other in the list contains it."""

    depth: int
    owner: Any
    name: str
    what: str


LAYERS = (
    Layer(0, WorkerScope, "enter", "the request comes in"),
    Layer(1, Watch, "poll", "one poll of the sockets"),
    Layer(0, middleware, "Answer", "start_response in between, which leaves once"),
    Layer(0, Response, "__init__", "the response around it"),
    Layer(0, PersistMixin, "connect", "the wrapper adopts the pin"),
    Layer(1, PersistMixin, "_pin_in", "may it"),
    Layer(2, PersistMixin, "_fits", "are the settings those of the pin"),
    Layer(1, Scope, "lease", "the lease"),
    Layer(1, PersistMixin, "_adopt", "the wrapper's attributes"),
    Layer(0, PersistMixin, "close_if_health_check_failed", "Django's look before each cursor, and stock's"),
    Layer(0, Session, "standing", "where the session stands, before each statement"),
    Layer(0, PersistMixin, "close_if_unusable_or_obsolete", "Django's end of request, and stock's"),
    Layer(0, Scope, "leave", "the response is closed"),
    Layer(1, PinnedConnection, "give_back", "the pin is given back"),
    Layer(2, PersistMixin, "detach", "the wrapper lets go"),
    Layer(2, Session, "bring_to_rest", "the session is brought to rest"),
    Layer(3, Session, "_is_spotless", "has the request left anything"),
)  # fmt: skip


def in_place(ask: Work, requests: int) -> Iterator[tuple[int, str, float, float]]:
    """Depth, what, microseconds a page and calls a page of each layer; one layer is timed at a time."""
    for _ in range(requests):
        ask()
    for layer in LAYERS:
        with timed(layer) as taken:
            for _ in range(requests):
                ask()
        if taken:
            calls = len(taken) / requests
            yield layer.depth, layer.what, (median(taken) - _overhead()) / 1000 * calls, calls


@contextmanager
def timed(layer: Layer) -> Iterator[list[int]]:
    """Nanoseconds of each call, the timer's own included."""
    owner, name = layer.owner, layer.name
    if owner is Watch:
        owner, name = process_scope()._watch, "poll"  # kept there, bound
    function, taken = getattr(owner, name), list[int]()
    setattr(owner, name, _timing(function, taken))
    try:
        yield taken
    finally:
        setattr(owner, name, function)


def _timing(function: Callable[..., Any], taken: list[int]) -> Callable[..., Any]:
    clock, note = time.perf_counter_ns, taken.append

    def call(*given: Any, **named: Any) -> Any:
        started = clock()
        try:
            return function(*given, **named)
        finally:
            note(clock() - started)

    return call


def _overhead(calls: int = 1000) -> float:
    """Nanoseconds that a timer sees of itself."""
    taken: list[int] = []
    call = _timing(int, taken)
    for _ in range(calls):
        call()
    return median(taken)
