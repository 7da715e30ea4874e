"""How a real Django site answers when its connection was lost, and what is evicted."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from io import BytesIO, StringIO
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.util import setup_testing_defaults

import pytest
from webtest import TestApp

from tests.conftest import Server
from tests.site.extra import extra_alias, extra_view
from wsgi_persist import PersistMiddleware, Policy
from wsgi_persist.worker import registry


@pytest.fixture
def answer(site: TestApp) -> Callable[..., Any]:
    """The answer to a request whose view does this work."""

    def answer(work: Callable[[], Any], status: int, **given: Any) -> Any:
        from django.http import HttpResponse

        def view(request: Any) -> HttpResponse:
            return HttpResponse(str(work()))

        with extra_view(view):
            return site.request("/extra/", status=status, **given)

    return answer


def query(sql: str, using: str = "default") -> Any:
    from django.db import connections

    with connections[using].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None


@pytest.fixture
def kill(server: Server) -> Callable[..., None]:
    def kill(alias: str = "default") -> None:
        from django.db import connections

        server.terminate(int(connections[alias].connection.info.backend_pid))

    return kill


def lost_in_transaction(kill: Any, sql: str = "SELECT 1") -> Callable[[], None]:
    def work() -> None:
        from django.db import transaction

        with transaction.atomic():
            query(sql)
            kill()
            query("SELECT 1")

    return work


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_loss_is_answered_503(method: str, answer: Any, kill: Any) -> None:
    found = answer(lost_in_transaction(kill), 503, method=method)
    assert found.headers["Retry-After"] == "2"
    assert "csrftoken" not in found.headers.get("Set-Cookie", "")


def test_rolled_back_write_may_be_tried_again(answer: Any, kill: Any, notes: Any) -> None:
    work = lost_in_transaction(kill, "INSERT INTO entry (note) VALUES ('gone')")
    assert "Retry-After" in answer(work, 503, method="POST").headers
    assert notes() == []


def test_unknown_fate_is_said(answer: Any, kill: Any) -> None:
    def work() -> None:
        query("SELECT 1")
        kill()
        query("INSERT INTO entry (note) VALUES ('unknown')")

    found = answer(work, 503, method="POST")
    assert "Retry-After" not in found.headers
    assert "check what has been saved" in found.text


def test_write_whose_commit_was_not_sent_may_be_tried_again(answer: Any, kill: Any, notes: Any) -> None:
    def work() -> None:
        from django.db import transaction

        with transaction.atomic():
            query("INSERT INTO entry (note) VALUES ('gone')")
            kill()

    found = answer(work, 503, method="POST")
    assert found.headers["Retry-After"] == "2"
    assert notes() == []


def test_loss_after_a_setting_may_be_tried_again(answer: Any, kill: Any) -> None:
    def work() -> None:
        query("SET search_path = public")
        kill()
        query("SELECT 1")

    assert "Retry-After" in answer(work, 503).headers


def test_loss_that_nobody_watched(answer: Any, kill: Any) -> None:
    """In a fetch, through the driver's own cursor."""

    def work() -> None:
        from django.db import connection

        connection.ensure_connection()
        with connection.connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            kill()
            cursor.execute("SELECT 1")

    assert answer(work, 503)


def test_bug_after_a_caught_loss_is_a_bug(answer: Any, kill: Any) -> None:
    def work() -> None:
        from django.db import Error

        with pytest.raises(Error):
            lost_in_transaction(kill)()
        raise KeyError("a bug")

    assert answer(work, 500)


def test_page_for_developers_stays(answer: Any, kill: Any) -> None:
    from django.test import override_settings

    with override_settings(DEBUG=True):
        assert "OperationalError" in answer(lost_in_transaction(kill), 500).text


def test_page_that_handles_the_loss_is_left_alone(answer: Any, kill: Any) -> None:
    def work() -> str:
        from django.db import Error

        try:
            lost_in_transaction(kill)()
        except Error:
            return "from the cache"
        return "unreachable"

    assert answer(work, 200).text == "from the cache"


def test_streaming_page_that_fails_before_its_first_piece(site: TestApp, kill: Any) -> None:
    """Through wsgiref, as webtest keeps the first status that it is given."""
    from django.http import StreamingHttpResponse

    def pieces() -> Iterator[str]:
        lost_in_transaction(kill)()
        yield "never"

    environ: dict[str, Any] = {"PATH_INFO": "/extra/"}
    setup_testing_defaults(environ)
    sent = BytesIO()
    handler = SimpleHandler(BytesIO(), sent, StringIO(), environ, multithread=False)
    with extra_view(lambda request: StreamingHttpResponse(pieces())):
        handler.run(site.app)
    head, _, body = sent.getvalue().partition(b"\r\n\r\n")
    assert b" 503 Service Unavailable" in head.splitlines()[0]
    assert b"\r\nRetry-After: 2" in head
    assert body.startswith(b"The database is out of reach")


# Whole requests.


@pytest.fixture
def repeating(site: TestApp) -> Iterator[TestApp]:
    """The site with replay_requests on."""
    from django.core.wsgi import get_wsgi_application
    from django.db import connection, connections

    from wsgi_persist.backends.signals import watch_strangers

    watch_strangers()
    connection.persist_policy = Policy(replay_requests=True)
    registry.process_scope().pins.pop("default", None)
    wrapped = PersistMiddleware(get_wsgi_application(), policy=Policy(replay_requests=True))
    yield TestApp(wrapped, extra_environ={"wsgi.multithread": False})
    connections.close_all()
    registry.process_scope().pins.pop("default")
    connection.persist_policy = Policy()


class LosesOnce:
    def __init__(self, kill: Any, before: str = "SELECT 1") -> None:
        self.kill = kill
        self.before = before
        self.runs = 0

    def __call__(self, request: Any) -> Any:
        from django.db import transaction
        from django.http import HttpResponse

        self.runs += 1
        with transaction.atomic():
            query(self.before)
            if self.runs == 1:
                self.kill()
            return HttpResponse(str(query("SELECT count(*) FROM entry")))


def test_request_is_run_again(repeating: TestApp, kill: Any) -> None:
    view = LosesOnce(kill)
    with extra_view(view):
        assert repeating.get("/extra/").text == "0"
    assert view.runs == 2


def test_what_was_rolled_back_counts_as_not_written(repeating: TestApp, kill: Any, notes: Any) -> None:
    view = LosesOnce(kill, "INSERT INTO entry (note) VALUES ('seen')")
    with extra_view(view):
        assert repeating.get("/extra/").text == "1"
    assert (view.runs, notes()) == (2, ["seen"])


@pytest.mark.parametrize("alias", ["default", "other", "stock"])
@pytest.mark.parametrize("how", ["autocommit", "atomic"])
def test_request_that_has_written_is_not_run_again(
    how: str, alias: str, repeating: TestApp, kill: Any, notes: Any, stock: None
) -> None:
    view = LosesOnce(kill)

    def writes_first(request: Any) -> Any:
        from contextlib import nullcontext

        from django.db import transaction

        with transaction.atomic(using=alias) if how == "atomic" else nullcontext():
            query("INSERT INTO entry (note) VALUES ('once')", alias)
        return view(request)

    with extra_view(writes_first):
        assert "Retry-After" not in repeating.get("/extra/", status=503).headers
    assert (view.runs, notes()) == (1, ["once"])


@pytest.mark.parametrize("how", ["COPY", "callproc", "raw"])
def test_neither_is_one_that_wrote_past_djangos_wrappers(
    how: str, repeating: TestApp, kill: Any, notes: Any, server: Server, stock: None
) -> None:
    server("CREATE OR REPLACE FUNCTION once() RETURNS void LANGUAGE sql AS "
           "$$ INSERT INTO entry (note) VALUES ('once') $$")  # fmt: skip
    view = LosesOnce(kill)

    def write() -> None:
        from django.db import connections

        with connections["stock"].cursor() as cursor:
            if how == "callproc":
                cursor.callproc("once")
            elif how == "raw":
                with connections["stock"].connection.cursor() as raw:
                    raw.execute("SELECT once()")
            elif hasattr(cursor.cursor, "copy_expert"):
                cursor.copy_expert("COPY entry (note) FROM STDIN", StringIO("once\n"))
            else:
                with cursor.copy("COPY entry (note) FROM STDIN") as entries:
                    entries.write("once\n")

    with extra_view(lambda request: (write(), view(request))[1]):
        assert "Retry-After" not in repeating.get("/extra/", status=503).headers
    assert (view.runs, notes()) == (1, ["once"])


@pytest.fixture
def stock(site: TestApp) -> Iterator[None]:
    """An alias with Django's own backend."""
    with extra_alias("stock", ENGINE="django.db.backends.postgresql"):
        yield


# Eviction.


def test_read_only_server_is_left(site: TestApp, pid_of: Any, answer: Any) -> None:
    def work() -> None:
        from django.db import transaction

        with transaction.atomic():
            query("SET TRANSACTION READ ONLY")
            query("INSERT INTO entry (note) VALUES ('refused')")

    before = pid_of()
    answer(work, 500)
    assert pid_of() != before


def test_plan_that_no_longer_fits_is_left(
    site: TestApp, server: Server, answer: Any, pid_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> None:
        query("PREPARE p AS SELECT * FROM changing")
        server("ALTER TABLE changing ADD b int")
        query("EXECUTE p")

    server("CREATE TABLE changing (a int)")
    before = pid_of()
    try:
        answer(work, 500)
    finally:
        server("DROP TABLE changing")
    assert "a plan may no longer fit its tables: cached plan must not change result type" in caplog.text
    assert pid_of() != before


def test_interrupted_statement_evicts(site: TestApp, pid_of: Any, server: Server) -> None:
    class Timeout(BaseException):
        pass

    def interrupt(*args: Any) -> None:
        raise Timeout

    before = pid_of()
    handler = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # what is raised in a callback of its is lost
    try:
        with extra_view(lambda request: query("SELECT pg_sleep(0.5)")), pytest.raises(Timeout):
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            site.get("/extra/")
    finally:
        signal.signal(signal.SIGALRM, handler)
        gc.enable()
    assert pid_of() != before
