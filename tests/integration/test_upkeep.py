"""Django's receivers at the ends of a request: spared their search, never their work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import Server, eventually
from tests.site import views
from tests.site.extra import extra_view


@pytest.fixture
def served(site: TestApp, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """A site that has opened its pin; what it searched since then."""
    from django.core.signals import request_started
    from django.db import connections

    from wsgi_persist.backends import signals, upkeep

    watched = request_started.disconnect(dispatch_uid="wsgi_persist")  # by a test of replay_requests
    site.get("/pid/")
    monkeypatch.setattr(upkeep._thread, "untidy", False)
    searches: list[bool] = []
    stock = type(connections).all

    def spy(self: Any, initialized_only: bool = False) -> Any:
        searches.append(initialized_only)
        return stock(self, initialized_only)

    monkeypatch.setattr(type(connections), "all", spy)
    yield searches
    _as_django_has_it()
    if watched:
        signals.watch_strangers()


def _as_django_has_it() -> None:
    from django import db
    from django.core.signals import request_finished, request_started

    for signal, receiver in (
        (request_started, db.reset_queries),
        (request_started, db.close_old_connections),
        (request_finished, db.close_old_connections),
    ):
        signal.disconnect(receiver)
        signal.connect(receiver)


def test_thread_with_nothing_but_pins_is_not_searched(site: TestApp, served: list[bool]) -> None:
    for path in ("/three/", "/plain/", "/aliases/"):
        site.get(path)
    assert served == []


def test_request_that_is_not_wrapped_ends_as_stock(site: TestApp, served: list[bool], server: Server) -> None:
    from django.core.wsgi import get_wsgi_application
    from django.db import connection

    kept = server.backends()
    assert connection.settings_dict["CONN_MAX_AGE"] == 0
    for _ in range(2):
        assert TestApp(get_wsgi_application()).get("/pid/")
        assert connection.connection is None
    assert len(served) >= 6
    assert eventually(server.backends, kept)


def test_connection_that_is_no_pins_is_closed_at_the_end_of_the_request(
    site: TestApp, served: list[bool], server: Server
) -> None:
    from django.db import connection

    pinned = int(site.get("/pid/").text)

    def view(request: Any) -> Any:
        connection.close_if_unusable_or_obsolete()
        return views.HttpResponse(str(views.backend()))

    connection.inc_thread_sharing()  # such a one stays its wrapper's own
    try:
        connection.ensure_connection()
        connection.close_at = None
        with extra_view(view):
            assert int(site.get("/extra/").text) != pinned
        assert connection.connection is not None
        connection.close_at = 0
        site.get("/plain/")
        assert connection.connection is None
    finally:
        connection.dec_thread_sharing()
    served.clear()
    site.get("/plain/")
    assert served == [], "nothing is left"


def test_log_of_queries_begins_anew_with_each_request(
    site: TestApp, served: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connections

    connection = connections["default"]
    monkeypatch.setattr(connection, "force_debug_cursor", True)
    for _ in range(3):
        site.get("/three/")
        assert len(connection.queries_log) == 3
    site.get("/plain/")
    assert len(connection.queries_log) == 0


def test_what_captures_queries_sees_those_of_a_page(site: TestApp, served: list[bool]) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as queries:
        site.get("/three/")
        site.get("/three/")
    assert len(queries) == 6


def test_who_disconnects_djangos_receivers_disconnects_these(site: TestApp, served: list[bool]) -> None:
    """Its test client does, so that a test's transaction is not closed under it."""
    from django.core.signals import request_finished
    from django.db import close_old_connections, connection, transaction
    from django.test import Client

    with transaction.atomic():
        before = views.backend()
        assert Client().get("/pid/").content == str(before).encode()
        assert views.backend() == before
    assert request_finished.disconnect(close_old_connections)
    assert not request_finished.disconnect(close_old_connections)
    connection.close()


@pytest.mark.parametrize("stranger", [True, False], ids=["another backend", "DEBUG"])
def test_site_that_needs_them_keeps_djangos_receivers(
    stranger: bool, site: TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.conf import settings
    from django.core.signals import request_started
    from django.db import close_old_connections, connections

    from wsgi_persist.backends import upkeep

    _as_django_has_it()
    if stranger:
        sqlite = {**connections.settings["default"], "ENGINE": "django.db.backends.sqlite3", "OPTIONS": {}}
        monkeypatch.setitem(connections.settings, "stranger", sqlite)
    else:
        monkeypatch.setattr(settings, "DEBUG", True)
    upkeep.take_over()
    assert close_old_connections in [ref() for _, ref, *_ in request_started.receivers]
