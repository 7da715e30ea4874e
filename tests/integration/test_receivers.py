"""Django's own receivers at the ends of a request do their work beside pins, and stay as it has them."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import Server, eventually
from tests.site import views
from tests.site.extra import extra_view


def test_they_stay_connected(site: TestApp) -> None:
    """Whoever wants to be rid of them, as Django's test client does, disconnects them as on stock Django."""
    from django import db
    from django.core.signals import request_finished, request_started

    before = views.backend()  # outside of a request: no pin
    site.get("/pid/")
    assert views.backend() != before
    site.get("/pid/")
    for signal, receiver in (
        (request_started, db.reset_queries),
        (request_started, db.close_old_connections),
        (request_finished, db.close_old_connections),
    ):
        assert signal.disconnect(receiver)
        signal.connect(receiver)
        assert signal.disconnect(receiver)
        assert not signal.disconnect(receiver), "once"
        signal.connect(receiver)


def test_they_spare_the_pin(site: TestApp, server: Server) -> None:
    """At CONN_MAX_AGE=0 they close every connection that is not one."""
    from django.db import close_old_connections, connection

    assert connection.settings_dict["CONN_MAX_AGE"] == 0
    pids = [site.get("/pid/").text]
    close_old_connections()
    pids.append(site.get("/pid/").text)
    assert len(set(pids)) == 1
    assert server.backends() == [int(pids[0])]


def test_request_that_is_not_wrapped_ends_as_stock(site: TestApp, server: Server) -> None:
    from django.core.wsgi import get_wsgi_application
    from django.db import connection

    kept = server.backends()
    assert connection.settings_dict["CONN_MAX_AGE"] == 0
    for _ in range(2):
        assert TestApp(get_wsgi_application()).get("/pid/")
        assert connection.connection is None
    assert eventually(server.backends, kept)


def test_connection_that_is_no_pins_is_closed_at_the_end_of_the_request(
    site: TestApp, server: Server
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


def test_worker_recovers_from_a_loss_with_autocommit_off(
    site: TestApp, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connections

    connection = connections["default"]

    def cannot(*args: Any) -> Any:
        raise ValueError("cannot connect")

    def view(request: Any) -> Any:
        pid = views.backend()
        connection.set_autocommit(False)
        server.terminate(pid)
        with monkeypatch.context() as patch, pytest.raises(ValueError, match="cannot connect"):
            patch.setattr(type(connection), "get_new_connection", cannot)
            views.backend()
        return views.HttpResponse("handled")

    with extra_view(view):
        site.get("/extra/", status="*")
    site.get("/pid/", status="*")
    assert site.get("/pid/").status_int == 200


def test_backend_that_is_added_later(site: TestApp, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connections

    given = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "OPTIONS": {}}
    monkeypatch.setitem(connections.settings, "late", {**connections.settings["default"], **given})
    with extra_view(lambda request: views.HttpResponse(views.scalar("SELECT 'here'", using="late"))):
        assert site.get("/extra/").text == "here"
    assert site.get("/plain/").text == "no query"
    connections["late"].connection.close()
    del connections["late"]


def test_connection_of_an_alias_whose_announcement_fails_is_closed(site: TestApp) -> None:
    from django.db import connections
    from django.db.backends.signals import connection_created

    def failing(**kwargs: Any) -> None:
        raise ValueError("not announced")

    connection_created.connect(failing)
    try:
        with pytest.raises(ValueError, match="not announced"):
            connections["second"].ensure_connection()
    finally:
        connection_created.disconnect(failing)
    assert connections["second"].connection is not None
    site.get("/plain/")
    assert connections["second"].connection is None


def test_shared_wrapper_of_another_thread_is_closed_when_it_is_used(site: TestApp) -> None:
    """As a live server's, which serves requests on the connection of its test."""
    from django.db import connections

    made: list[Any] = []

    def opens() -> None:
        made.append(connections["second"])
        made[0].inc_thread_sharing()
        made[0].ensure_connection()

    thread = threading.Thread(target=opens)
    thread.start()
    thread.join()
    connections["second"] = wrapper = made[0]

    def view(request: Any) -> Any:
        found = views.backend("second")
        wrapper.close_at = 0
        return views.HttpResponse(str(found))

    wrapper.close_at = None
    with extra_view(view):
        assert site.get("/extra/")
    try:
        assert wrapper.connection is None
    finally:
        wrapper.close()
        del connections["second"]


def test_receiver_of_the_site_finds_a_connection_that_was_looked_at(site: TestApp, server: Server) -> None:
    """Django's receivers come first."""
    from django.core.signals import request_started
    from django.core.wsgi import get_wsgi_application
    from django.db import OperationalError, connection

    def asks(**kwargs: Any) -> None:
        views.backend()

    request_started.connect(asks)
    try:
        lost = views.backend()
        connection.close_at = None
        server.terminate(lost)
        with pytest.raises(OperationalError):
            views.backend()
        assert TestApp(get_wsgi_application()).get("/plain/").text == "no query"
    finally:
        request_started.disconnect(asks)
        connection.close()


def test_log_of_transactions_begins_anew_with_each_request(
    site: TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connections, transaction

    connection = connections["default"]
    monkeypatch.setattr(connection, "force_debug_cursor", True)

    def view(request: Any) -> Any:
        with transaction.atomic():
            pass
        return views.HttpResponse("no statement")

    with extra_view(view):
        lengths = {site.get("/extra/") and len(connection.queries_log) for _ in range(3)}
    assert lengths == {2}
    connection.queries_log.clear()


def test_log_of_queries_begins_anew_with_each_request(site: TestApp, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connections

    connection = connections["default"]
    monkeypatch.setattr(connection, "force_debug_cursor", True)
    for _ in range(3):
        site.get("/three/")
        assert len(connection.queries_log) == 3
    site.get("/plain/")
    assert len(connection.queries_log) == 0


def test_what_captures_queries_sees_those_of_a_page(site: TestApp) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as queries:
        site.get("/three/")
        site.get("/three/")
    assert len(queries) == 6


def test_who_disconnects_djangos_receivers_disconnects_them(site: TestApp) -> None:
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
    request_finished.connect(close_old_connections)
    connection.close()
