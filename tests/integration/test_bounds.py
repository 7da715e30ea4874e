"""How many connections a worker keeps, where aliases are made while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import Server, eventually
from tests.site.extra import extra_view
from wsgi_persist import PersistMiddleware, Pin, Policy
from wsgi_persist.worker import registry

MOST = Policy.max_pins


class Made(dict[str, Any]):
    """Settings that know more aliases than they list, as some tools for tenants put in place."""

    def __missing__(self, alias: str) -> Any:
        return dict(self["default"])

    def __contains__(self, alias: object) -> bool:
        return super().__contains__(alias) or str(alias).startswith("made")


def backend_of(alias: str) -> int:
    from django.db import connections

    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def asks(request: Any) -> Any:
    from django.http import HttpResponse

    return HttpResponse(",".join(str(backend_of(alias)) for alias in request.GET["of"].split(",")))


@pytest.fixture
def ask(site: TestApp) -> Iterator[Callable[..., list[int]]]:
    """A request that uses these aliases; their backends."""
    from django.db import connections

    def ask(*aliases: str) -> list[int]:
        return [int(pid) for pid in site.get("/extra/", {"of": ",".join(aliases)}).text.split(",")]

    with extra_view(asks):
        yield ask
    for alias in [alias for alias in connections if alias.startswith("tenant")]:
        del connections.databases[alias], connections[alias]


def make(*aliases: str, **persist: Any) -> None:
    from django.db import connections

    for alias in aliases:
        connections.databases[alias] = {**connections.databases["default"], "OPTIONS": {"persist": persist}}


def kept() -> list[Any]:
    return [key for key, pin in registry.process_scope().pins.items() if pin.connection is not None]


TENANTS = [f"tenant{number}" for number in range(20)]


def test_least_recently_used_go(
    ask: Callable[..., list[int]], server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    make(*TENANTS)
    with caplog.at_level(logging.INFO, "wsgi_persist"):
        for alias in TENANTS:
            ask("tenant0", alias)
    assert set(kept()) == {"tenant0", *TENANTS[-(MOST - 1) :]}
    assert eventually(lambda: len(server.backends()), MOST)
    assert f"the least recently used of more than max_pins={MOST}" in caplog.text


def test_one_request_may_use_more(ask: Callable[..., list[int]], server: Server) -> None:
    make(*TENANTS)
    assert len(set(ask(*TENANTS))) == len(TENANTS)
    assert len(kept()) == MOST
    server.mark()
    ask(*kept())
    assert server.connections() == 0


def test_the_largest_of_differing_bounds_counts(ask: Callable[..., list[int]]) -> None:
    make(*TENANTS[:4], max_pins=2)
    for alias in TENANTS[:4]:
        ask(alias)
    assert sorted(kept()) == TENANTS[2:4]
    make("tenant4", max_pins=3)
    ask("tenant4")
    assert sorted(kept()) == TENANTS[2:5]


def test_connections_that_come_back_count(ask: Callable[..., list[int]], server: Server) -> None:
    """A pin that was lost and is opened again is one more, too."""
    make(*TENANTS[:3], max_pins=3)
    (lost, *_) = ask(*TENANTS[:3])
    server.terminate(lost)
    make(*TENANTS[3:4], max_pins=3)
    ask("tenant3")
    ask("tenant0")
    assert len(kept()) == 3


def outages() -> set[str]:
    from wsgi_persist.backends import opening

    return {alias for alias in opening._servers if alias.startswith(("tenant", "made"))}


@contextmanager
def short_lived(alias: str, changes: dict[str, Any]) -> Iterator[None]:
    from django.db import connections

    connections.databases[alias] = {**connections.databases["default"], **changes}
    try:
        yield
    finally:
        del connections.databases[alias]
        del connections[alias]


@pytest.mark.parametrize("changes", [{}, {"PORT": 1, "OPTIONS": {"persist": {"reconnect_deadline": 0}}}])
def test_aliases_that_are_gone_are_forgotten(changes: dict[str, Any], site: TestApp, server: Server) -> None:
    def view(request: Any) -> Any:
        alias = request.GET["of"]
        with short_lived(alias, changes):
            backend_of(alias)
        return asks(request)

    pins = registry.process_scope().pins
    before = set(pins)
    with extra_view(view):
        for number in range(40):
            site.get("/extra/", {"of": f"tenant{number}"}, expect_errors=True)
    assert set(pins) <= before
    assert outages() == set()
    assert eventually(server.backends, [])


def test_aliases_that_are_not_listed(site: TestApp, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connections

    made = Made(connections.databases)
    monkeypatch.setattr(connections, "_settings", made)
    monkeypatch.setitem(connections.__dict__, "settings", made)
    with extra_view(asks):
        first = site.get("/extra/", {"of": "made1"}).text
        assert site.get("/extra/", {"of": "made2"}).text != first
        assert site.get("/extra/", {"of": "made1"}).text == first
        for number in range(30):
            site.get("/extra/", {"of": f"made{number}"})
        assert len(kept()) == MOST
        for number in range(30):
            del connections[f"made{number}"]
        site.get("/extra/", {"of": "made30"})
    assert kept() == ["made30"]
    del connections["made30"]


def test_plain_pins(server: Server, driver: Any) -> None:
    pins = [
        Pin(lambda: server.connect(), name=f"p{number}", policy=Policy(max_pins=2)) for number in range(3)
    ]

    def app(environ: Any, start_response: Any) -> list[bytes]:
        for pin in pins:
            with pin.cursor() as cursor:
                cursor.execute("SELECT 1")
        start_response("200 OK", [])
        return [b""]

    response: Any = PersistMiddleware(app, pins)({"wsgi.multithread": False}, lambda *given: None)
    response.close()
    assert kept() == pins[1:]
    for pin in pins[1:]:
        registry.process_scope().pins.pop(pin).drop("the test is over")
