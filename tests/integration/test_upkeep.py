"""Django's receivers at the ends of a request: put aside where they have no work, and only there."""

from __future__ import annotations

import threading
import weakref
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
    upkeep.put_aside()
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

    for signal, receivers in (
        (request_started, [db.reset_queries, db.close_old_connections]),
        (request_finished, [db.close_old_connections]),
    ):
        for receiver in receivers:
            signal.disconnect(receiver)
        others = signal.receivers[:]
        signal.receivers.clear()
        for receiver in receivers:
            signal.connect(receiver)
        signal.receivers.extend(others)


def djangos() -> list[str]:
    """Those of its receivers that look at connections, in the order in which they are called."""
    from django import db
    from django.core.signals import request_finished, request_started

    theirs = {db.reset_queries: "reset", db.close_old_connections: "close"}
    called = [*request_started.receivers, *request_finished.receivers]
    found = [receiver() if isinstance(receiver, weakref.ref) else receiver for _, receiver, *_ in called]
    return [theirs[receiver] for receiver in found if receiver in theirs]


ALL = ["reset", "close", "close"]
NONE: list[str] = []


def test_thread_with_nothing_but_pins_is_not_searched(site: TestApp, served: list[bool]) -> None:
    for path in (paths := ("/three/", "/plain/", "/aliases/")):
        site.get(path)
    served.clear()
    for path in paths:
        site.get(path)
    assert served == []
    assert djangos() == NONE


def test_they_come_back_as_they_were_and_go_again(site: TestApp, served: list[bool]) -> None:
    """Connecting one anew keeps something for ever, and makes it the last to be called."""
    from django.core.signals import request_finished, request_started
    from django.db import connection

    _as_django_has_it()
    before = list(request_started.receivers), list(request_finished.receivers)
    have(True)
    assert djangos() == NONE
    for _ in range(3):
        views.backend()  # outside of a request: no pin
        assert (request_started.receivers, request_finished.receivers[: len(before[1])]) == before
        site.get("/plain/")
        assert connection.connection is None
        assert djangos() == NONE


def test_connection_of_another_thread_needs_them_while_it_lives(site: TestApp, served: list[bool]) -> None:
    from django.db import connection

    asked, may_end = threading.Event(), threading.Event()

    def ask() -> None:
        views.backend()
        asked.set()
        may_end.wait(10)
        connection.connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    asked.wait(10)
    site.get("/plain/")
    assert djangos() == ALL
    may_end.set()
    thread.join()
    site.get("/plain/")
    assert djangos() == NONE


def test_thread_that_comes_between_finds_them(
    site: TestApp, served: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsgi_persist.backends import upkeep

    take = upkeep._take

    def comes_between(*given: Any) -> None:
        take(*given)
        upkeep.leave_to_django()

    monkeypatch.setattr(upkeep, "_take", comes_between)
    have(True)
    assert sorted(djangos()) == sorted(ALL)


def test_those_that_the_test_client_connects_are_not_doubled(site: TestApp, served: list[bool]) -> None:
    from django.core.signals import request_finished, request_started
    from django.db import close_old_connections, connection

    from wsgi_persist.backends import upkeep

    kept = len(upkeep._aside)
    for _ in range(3):
        assert djangos() == NONE
        assert len(upkeep._aside) == kept
        for signal in (request_started, request_finished):
            signal.disconnect(close_old_connections)
            signal.connect(close_old_connections)
        upkeep.put_aside()
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)
    views.backend()
    assert djangos() == ALL
    connection.close()


def test_request_that_is_not_wrapped_ends_as_stock(site: TestApp, served: list[bool], server: Server) -> None:
    from django.core.wsgi import get_wsgi_application
    from django.db import connection

    kept = server.backends()
    assert connection.settings_dict["CONN_MAX_AGE"] == 0
    for _ in range(2):
        assert TestApp(get_wsgi_application()).get("/pid/")
        assert connection.connection is None
    assert served
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


BOTH = pytest.mark.parametrize("ours", [False, True], ids=["stock", "ours"])


def have(ours: bool) -> None:
    """Django's receivers, or none where they have no work."""
    from wsgi_persist.backends import upkeep

    _as_django_has_it()
    if ours:
        upkeep.put_aside()


@BOTH
def test_worker_recovers_from_a_loss_with_autocommit_off(
    ours: bool, site: TestApp, served: list[bool], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connections

    have(ours)
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


@BOTH
def test_backend_that_is_added_later(
    ours: bool, site: TestApp, served: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connections

    have(ours)
    given = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "OPTIONS": {}}
    monkeypatch.setitem(connections.settings, "late", {**connections.settings["default"], **given})
    with extra_view(lambda request: views.HttpResponse(views.scalar("SELECT 'here'", using="late"))):
        assert site.get("/extra/").text == "here"
    assert site.get("/plain/").text == "no query"
    connections["late"].connection.close()
    del connections["late"]


@BOTH
def test_connection_of_an_alias_whose_announcement_fails_is_closed(
    ours: bool, site: TestApp, served: list[bool]
) -> None:
    from django.db import connections
    from django.db.backends.signals import connection_created

    from wsgi_persist.backends import upkeep

    have(ours)

    def failing(**kwargs: Any) -> None:
        raise ValueError("not announced")

    connection_created.disconnect(upkeep._opened)
    connection_created.connect(failing)
    connection_created.connect(upkeep._opened)
    try:
        with pytest.raises(ValueError, match="not announced"):
            connections["second"].ensure_connection()
    finally:
        connection_created.disconnect(failing)
    assert connections["second"].connection is not None
    site.get("/plain/")
    assert connections["second"].connection is None


@BOTH
def test_shared_wrapper_of_another_thread_is_closed_when_it_is_used(
    ours: bool, site: TestApp, served: list[bool]
) -> None:
    """As a live server's, which serves requests on the connection of its test."""
    from django.db import connections

    have(ours)
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


@BOTH
def test_receiver_of_the_site_finds_a_connection_that_was_looked_at(
    ours: bool, site: TestApp, served: list[bool], server: Server
) -> None:
    """Django's receivers come first, also when they come back."""
    from django.core.signals import request_started
    from django.core.wsgi import get_wsgi_application
    from django.db import OperationalError, connection

    _as_django_has_it()

    def asks(**kwargs: Any) -> None:
        views.backend()

    request_started.connect(asks)
    try:
        if ours:
            have(ours)
        lost = views.backend()
        connection.close_at = None
        server.terminate(lost)
        with pytest.raises(OperationalError):
            views.backend()
        assert TestApp(get_wsgi_application()).get("/plain/").text == "no query"
    finally:
        request_started.disconnect(asks)
        connection.close()


@BOTH
def test_log_of_transactions_begins_anew_with_each_request(
    ours: bool, site: TestApp, served: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connections, transaction

    have(ours)
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


def test_who_disconnects_djangos_receivers_disconnects_them(site: TestApp, served: list[bool]) -> None:
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
    upkeep.put_aside()
    assert close_old_connections in [ref() for _, ref, *_ in request_started.receivers]
