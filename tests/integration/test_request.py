"""What a request finds and leaves, on a real Django site."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import Server, eventually
from tests.site import views
from tests.site.extra import extra_view
from wsgi_persist.worker import entrance


def test_sixty_requests_of_three_statements_send_180_and_open_nothing(site: TestApp, server: Server) -> None:
    site.get("/pid/")
    server.mark()
    for _ in range(60):
        assert site.get("/three/").text == "three"
    assert len(server.statements()) == 180
    assert server.connections() == 0


def test_request_without_query_opens_nothing(site: TestApp, server: Server) -> None:
    site.get("/plain/")
    assert server.connections() == 0


def test_each_alias_keeps_its_own_backend(site: TestApp, server: Server) -> None:
    first = site.get("/aliases/").json
    assert len(set(first.values())) == 5
    assert site.get("/aliases/").json == first
    names = dict.fromkeys(("default", "other", "tcp", "tls"), "site")
    assert site.get("/databases/").json == {**names, "second": "second"}
    assert sorted(first.values()) == server.backends()


def test_session_is_named_after_worker(site: TestApp, server: Server) -> None:
    import os

    site.get("/pid/")
    names = server(
        "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'wsgi_persist%%'"
    )
    assert names == [(f"wsgi_persist:{os.getpid()}",)]


def test_request_that_raises_gives_its_connection_back(site: TestApp, pid_of: Callable[[], int]) -> None:
    before = pid_of()
    for _ in range(3):
        assert site.get("/fail/", status=500)
    assert pid_of() == before


@pytest.mark.parametrize("multithread", [False, True], ids=["process", "thread"])
@pytest.mark.parametrize("path", ["manual-transaction", "raw-begin", "raw-begin-failed", "on-commit-lost"])
def test_transaction_left_open_is_rolled_back(
    path: str,
    multithread: bool,
    site: TestApp,
    pid_of: Callable[[], int],
    notes: Callable[[], list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    site.extra_environ["wsgi.multithread"] = multithread
    before = pid_of()
    with caplog.at_level(logging.WARNING, "wsgi_persist"):
        site.get(f"/{path}/?note=left")
    assert f"rolled back a transaction left open by GET '/{path}/'" in caplog.text
    assert pid_of() == before
    site.get("/write/?note=next")
    assert notes() == ["next"]
    site.get("/write-in-atomic/?note=atomic")
    assert notes() == ["next", "atomic"]


@pytest.mark.parametrize("nested", [False, True], ids=["one block", "two blocks"])
@pytest.mark.parametrize("new", [False, True], ids=["same connection", "new connection"])
@pytest.mark.parametrize("end", ["closed", "collected", "gone on with"])
def test_atomic_block_that_outlives_its_request_ends_no_other(
    end: str, new: bool, nested: bool, site: TestApp, server: Server, notes: Callable[[], list[str]]
) -> None:
    from django.db import transaction
    from django.http import HttpResponse

    def generate() -> Iterator[None]:
        with transaction.atomic(), transaction.atomic() if nested else nullcontext():
            views.scalar("INSERT INTO entry (note) VALUES ('left')")
            yield

    def leave_open(request: Any) -> HttpResponse:
        kept.append(generate())
        next(kept[0])
        return HttpResponse()

    def write(request: Any) -> HttpResponse:
        with transaction.atomic():
            views.scalar("INSERT INTO entry (note) VALUES ('one')")
            with transaction.atomic():
                views.scalar("INSERT INTO entry (note) VALUES ('two')")
                ends[end]()
            views.scalar("INSERT INTO entry (note) VALUES ('three')")
        return HttpResponse()

    def go_on() -> None:
        with pytest.raises(transaction.TransactionManagementError, match="when its request ended"):
            next(kept[0])

    kept: list[Any] = []
    ends = {"closed": lambda: kept[0].close(), "collected": kept.clear, "gone on with": go_on}
    with extra_view(leave_open):
        site.get("/extra/")
    if new:
        server.terminate(server.backends()[0])
    with extra_view(write):
        site.get("/extra/")
    assert notes() == ["one", "two", "three"]
    kept.clear()
    site.get("/write-in-atomic/?note=next")
    assert notes()[3:] == ["next"]


def test_close_by_the_application_means_close(site: TestApp, server: Server) -> None:
    found = site.get("/close/").json
    assert found["before"] != found["after"]
    assert eventually(server.backends, [found["after"]])
    assert site.get("/pid/").text == str(found["after"])


def test_close_before_use_drops_the_idle_pin(
    site: TestApp, server: Server, pid_of: Callable[[], int]
) -> None:
    before = pid_of()
    after = int(site.get("/close-before-use/").text)
    assert after != before
    assert eventually(server.backends, [after])


def test_close_after_the_request_closes_the_idle_pin(site: TestApp, server: Server) -> None:
    from django.db import connection

    site.get("/pid/")
    assert len(server.backends()) == 1
    connection.close()
    assert eventually(server.backends, [])


def test_close_by_another_thread_leaves_the_pin(
    site: TestApp, server: Server, pid_of: Callable[[], int]
) -> None:
    import threading

    from django.db import connections

    before = pid_of()
    thread = threading.Thread(target=connections.close_all)
    thread.start()
    thread.join()
    assert server.backends() == [before]


def test_streaming_keeps_the_connection_until_closed(site: TestApp, pid_of: Callable[[], int]) -> None:
    before = pid_of()
    assert set(site.get("/stream/").text.split()) == {str(before)}


def test_client_abort_while_streaming_from_a_server_side_cursor(
    site: TestApp, pid_of: Callable[[], int], server: Server
) -> None:
    before = pid_of()
    environ = site.RequestClass.blank("/stream-from-cursor/").environ
    response = site.app(environ, lambda *args: lambda data: None)
    assert next(iter(response)) == b"1\n"
    response.close()
    assert pid_of() == before
    assert server("SELECT state FROM pg_stat_activity WHERE pid = %s", before) == [("idle",)]


def test_threads_of_a_view_get_connections_of_their_own(site: TestApp, server: Server) -> None:
    found = site.get("/threads/").json
    assert found["request"] == found["again"] != found["thread"]
    assert eventually(server.backends, [found["request"]])


def test_nested_request_gets_connections_of_its_own(
    site: TestApp,
    pid_of: Callable[[], int],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entrance, "_said", set())
    before = pid_of()
    found = site.get("/nested/").json
    assert found["outer"] == before != found["inner"]
    assert "GET '/nested/' makes requests to itself: they get connections of their own" in caplog.text
    assert pid_of() == before


def test_connection_created_once_for_each_wrapper(site: TestApp) -> None:
    from django.db.backends.signals import connection_created

    seen: list[Any] = []

    def receiver(connection: Any, **kwargs: Any) -> None:
        seen.append(connection)

    connection_created.connect(receiver)
    try:
        for _ in range(3):
            site.get("/pid/")
        assert len(seen) == 1
    finally:
        connection_created.disconnect(receiver)


def test_idle_connection_from_before_the_request_makes_way(
    site: TestApp, server: Server, pid_of: Callable[[], int]
) -> None:
    from django.db import connection

    pinned = pid_of()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        assert cursor.fetchone() != (pinned,)
    # request_started closes it where CONN_MAX_AGE is 0; a longer life is what this is about
    connection.close_at = None
    assert pid_of() == pinned
    assert eventually(server.backends, [pinned])


def test_connection_in_a_transaction_from_before_the_request_stays(site: TestApp, server: Server) -> None:
    from django.db import transaction

    with transaction.atomic():
        site.get("/write/?note=inside")
        assert site.get("/sql/?sql=SELECT count(*) FROM entry").text == "1"
        transaction.set_rollback(True)
    assert server("SELECT count(*) FROM entry") == [(0,)]


def test_copy_never_meets_the_pin(site: TestApp, pid_of: Callable[[], int]) -> None:
    from django.db import connection

    from tests.site import views

    pinned = pid_of()

    def with_copy(request: Any) -> Any:
        copied = connection.copy()
        try:
            with copied.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                return views.HttpResponse(str(cursor.fetchone()[0]))
        finally:
            copied.close()

    with extra_view(with_copy):
        assert int(site.get("/extra/").text) != pinned
    assert pid_of() == pinned


def test_other_database_under_the_alias_never_meets_the_pin(site: TestApp, server: Server) -> None:
    from django.db import connection

    assert site.get("/databases/").json["default"] == "site"
    name = connection.settings_dict["NAME"]
    connection.settings_dict["NAME"] = "second"  # as test runners do, in place
    try:
        assert site.get("/databases/").json["default"] == "second"
    finally:
        connection.settings_dict["NAME"] = name
    assert site.get("/databases/").json["default"] == "site"


def test_pg_version_inside_a_request_keeps_the_pin(site: TestApp, pid_of: Callable[[], int]) -> None:
    from django.db import connection

    from tests.site import views

    before = pid_of()
    connection.__dict__.pop("pg_version", None)
    with extra_view(lambda request: views.HttpResponse(str(connection.pg_version))):
        assert int(site.get("/extra/").text) >= 150000
    assert pid_of() == before


def test_close_old_connections_mid_request_notices_a_dead_backend(site: TestApp, server: Server) -> None:
    from django.db import close_old_connections

    from tests.site import views

    def view(request: Any) -> Any:
        first = views.backend()
        close_old_connections()
        assert views.backend() == first, "a healthy connection stays"
        server.terminate(first)
        close_old_connections()
        return views.HttpResponse(str(views.backend() != first))

    with extra_view(view):
        assert site.get("/extra/").text == "True"


@pytest.mark.parametrize("days", [-400, 400])
def test_clock_that_jumps_costs_nothing(
    days: int, site: TestApp, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, now = site.get("/pid/").text, time.time
    monkeypatch.setattr(time, "time", lambda: now() + days * 86_400)
    server.mark()
    assert site.get("/pid/").text == first
    assert server.statements() == ["SELECT pg_backend_pid()"]


def test_asynchronous_view_queries_with_the_pin(site: TestApp, server: Server) -> None:
    from asgiref.sync import sync_to_async

    from tests.site import views

    async def view(request: Any) -> Any:
        return views.HttpResponse(str(await sync_to_async(views.backend)()))

    with extra_view(view):
        assert len({site.get("/extra/").text for _ in range(3)}) == 1
    assert server.connections() == 1


def test_thread_of_an_asynchronous_view_closes_its_connection(site: TestApp, server: Server) -> None:
    from asgiref.sync import sync_to_async
    from django.db import connections

    from tests.site import views

    def elsewhere() -> int:
        backend = views.backend()
        connections.close_all()
        return backend

    async def view(request: Any) -> Any:
        other = await sync_to_async(elsewhere, thread_sensitive=False)()
        return views.HttpResponse(f"{await sync_to_async(views.backend)()} {other}")

    with extra_view(view):
        pins, others = zip(*(site.get("/extra/").text.split() for _ in range(3)), strict=True)
    assert len({*pins, *others}) == 4
    assert eventually(server.backends, [int(pins[0])])


def test_cursor_is_refused_where_a_loop_runs(site: TestApp, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from django.core.exceptions import SynchronousOnlyOperation
    from django.db import connections

    from tests.site import views

    def view(request: Any) -> Any:
        leased = connections["default"]

        async def asynchronous() -> None:
            leased.cursor().close()

        views.backend()
        with pytest.raises(SynchronousOnlyOperation):
            asyncio.run(asynchronous())
        monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        asyncio.run(asynchronous())
        return views.HttpResponse("refused, then allowed")

    with extra_view(view):
        assert site.get("/extra/").text == "refused, then allowed"
