"""The steps of a request through wsgi_persist, each of which can be timed alone, and what they make up.

Runs with Django's settings of the tests' site: ``default`` is ours, ``stock`` keeps its connection
unchecked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.db.backends.utils import CursorWrapper

from tests.bench.boundary import bare, environ, start_response
from tests.bench.layers import in_place
from tests.bench.statements import Sink
from tests.bench.timing import Work, calls, cost, nothing
from wsgi_persist import PersistMiddleware
from wsgi_persist.backends.cursors import Replaying
from wsgi_persist.backends.transaction import come_to_rest
from wsgi_persist.drivers.cursors import Ears, telling
from wsgi_persist.sql import Classifier
from wsgi_persist.worker.registry import process_scope
from wsgi_persist.wsgi.answer import Answer


class Step(NamedTuple):
    """:ivar part: of what it is a part; a total has the name of the part that it sums up.
    :ivar times: how often it comes in a page of three statements.
    """

    part: str
    name: str
    us: float
    times: int = 1


BOUNDARY, LEASE, DJANGO, STATEMENT, PAGE = "boundary", "lease", "adoption", "statement", "page"
TOTAL = "measured as a whole"
Measure = Callable[..., float]


def steps(pairs: int) -> list[Step]:
    """All of them, in microseconds."""

    def measure(work: Work, beyond: Work = nothing, times: int = 500) -> float:
        return cost(work, beyond, pairs=pairs, times=times)

    _open()
    return [*_boundary(measure), *_lease(measure), *_adoption(measure), *_statement(measure), *_page(measure)]


def _open() -> None:
    """Both connections, and the pin."""
    boundary = process_scope().enter({})
    connections["default"].ensure_connection()
    boundary.leave()
    connections["stock"].ensure_connection()


def _boundary(measure: Measure) -> Iterator[Step]:
    scope, given = process_scope(), environ()
    middleware = PersistMiddleware(bare)
    holder = scope.holder

    def taken() -> None:
        holder.setdefault(0, scope)
        holder.clear()

    def wrapped() -> None:
        response: Any = middleware._respond(given, Answer(start_response, given, None))
        for _ in response:
            pass
        response.close()

    def unwrapped() -> None:
        for _ in bare(given, start_response):
            pass

    yield Step(BOUNDARY, "choosing the scope", measure(lambda: middleware._scope_of(given)))
    yield Step(BOUNDARY, "the boundary, taken and released", measure(taken))
    yield Step(BOUNDARY, "one poll of the sockets", measure(lambda: scope._watch.poll(0)))
    yield Step(BOUNDARY, "one reading of the clock", measure(time.monotonic))
    yield Step(BOUNDARY, "the response that leaves once", measure(wrapped, unwrapped))
    yield Step(BOUNDARY, TOTAL, measure(lambda: serve_one(middleware, given), lambda: serve_one(bare, given)))


def serve_one(application: Any, given: dict[str, Any]) -> None:
    response = application(given, start_response)
    for _ in response:
        pass
    if hasattr(response, "close"):
        response.close()


def _lease(measure: Measure) -> Iterator[Step]:
    scope = process_scope()
    pin = scope.pins["default"]
    session, driver = pin.session, pin.driver
    assert session is not None
    assert driver is not None
    connection = pin.connection

    def empty() -> None:
        scope.enter({}).leave()

    def leased() -> None:
        boundary = scope.enter({})
        scope.lease(pin, None)
        boundary.leave()

    yield Step(LEASE, "what the driver's object looks like", measure(driver.attributes_asker(connection)))
    yield Step(LEASE, "is it closed, and idle", measure(lambda: _asked(driver, connection)))
    yield Step(LEASE, "bringing the session to rest", measure(lambda: session.bring_to_rest("", 0.0)))
    yield Step(LEASE, TOTAL, measure(leased, empty))


def _asked(driver: Any, connection: Any) -> None:
    driver.is_closed(connection)
    driver.status(connection)


def _adoption(measure: Measure) -> Iterator[Step]:
    scope = process_scope()
    pin, ours = scope.pins["default"], _wrapper("default")

    def leased() -> None:
        boundary = scope.enter({})
        scope.lease(pin, None)
        boundary.leave()

    def adopted() -> None:
        boundary = scope.enter({})
        ours.ensure_connection()
        boundary.leave()

    yield Step(DJANGO, "are the settings those of the pin", measure(lambda: ours._fits(pin.made_for)))
    yield Step(DJANGO, "a wrapper's attributes at rest", measure(lambda: come_to_rest(ours)))
    yield Step(DJANGO, TOTAL, measure(adopted, leased))


def _statement(measure: Measure) -> Iterator[Step]:
    scope, ours, stock = process_scope(), connections["default"], connections["stock"]
    sink = Sink()
    classify = Classifier()
    classify("SELECT 1")
    ears = Ears(classify.seen, classify, lambda query: None, lambda cursor: None, lambda error: None)
    watched = telling(Sink, ears)()
    with leased_default():
        session = scope.pins["default"].session
        assert session is not None
        replaying, plain = Replaying(watched, ours), CursorWrapper(sink, stock)
        yield Step(STATEMENT, "where the session stands", measure(session.standing), 3)
        yield Step(
            STATEMENT,
            "hearing its text",
            measure(lambda: watched.execute("SELECT 1"), lambda: sink.execute("SELECT 1")),
            3,
        )
        yield Step(STATEMENT, "making a cursor", measure(lambda: _cursor(ours), lambda: _cursor(stock)), 3)
        yield Step(
            STATEMENT,
            "sending it, all of the above but the cursor",
            measure(lambda: replaying.execute("SELECT 1"), lambda: plain.execute("SELECT 1")),
            3,
        )


@contextmanager
def leased_default() -> Iterator[None]:
    boundary = process_scope().enter({})
    connections["default"].ensure_connection()
    yield
    boundary.leave()


def _wrapper(alias: str) -> Any:
    return connections[alias]


def _cursor(connection: Any) -> None:
    with connection.cursor():
        pass


def _page(measure: Measure) -> Iterator[Step]:
    """Pages of the site, by Django's own handler, to a real server."""
    site = get_wsgi_application()
    ours, idle = asking(PersistMiddleware(site), "default"), asking(PersistMiddleware(site))
    stock, stock_idle = asking(site, "stock"), asking(site)
    yield Step(PAGE, "no query: stock", measure(stock_idle, times=20))
    yield Step(PAGE, "no query: ours beyond it", measure(idle, stock_idle, times=20))
    yield Step(PAGE, "three SELECTs: stock, kept and unchecked", measure(stock, times=20))
    yield Step(PAGE, "three SELECTs: ours beyond it", measure(ours, stock, times=20))


def asking(application: Any, using: str | None = None) -> Work:
    """Ask for three SELECTs of an alias, or for a page without a query."""
    path = "/faults/no-query/" if using is None else "/bench/three/"

    def ask() -> None:
        serve_one(application, {**environ(), "PATH_INFO": path, "QUERY_STRING": f"using={using}"})

    return ask


def function_calls() -> tuple[int, int]:
    """That a page of three SELECTs makes: ours, and stock's."""
    site = get_wsgi_application()
    pages = asking(PersistMiddleware(site), "default"), asking(site, "stock")
    for page in pages:
        page()  # what is done once is done
    return calls(pages[0]), calls(pages[1])


def layers(pages: int) -> list[tuple[int, str, float, float]]:
    """Of the page with three SELECTs."""
    return list(in_place(asking(PersistMiddleware(get_wsgi_application()), "default"), pages))
