"""A request beside an unfinished one: a request's end is its end, whoever is still inside elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlencode

import pytest
from webtest import TestApp

from tests.conftest import Server, eventually
from tests.integration.test_session import KINDS
from tests.late import Late
from tests.site.extra import extra_view
from wsgi_persist.worker import entrance, scope

pytestmark = pytest.mark.usefixtures("what_leaks")

Open = Callable[..., Late]


@pytest.fixture(autouse=True)
def nothing_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "_said", set())


@pytest.fixture(params=[False, True], ids=["process", "thread"])
def begin(request: pytest.FixtureRequest, site: TestApp) -> Iterator[Open]:
    """Begin a request, in either scope; what the test does not close is closed at its end."""
    with ExitStack() as open_ones:

        def begin(path: str, **environ: Any) -> Late:
            late = Late(site.app, path, **{"wsgi.multithread": request.param, **environ})
            open_ones.callback(late.close)
            return late

        yield begin
    assert scope.current() is None


@pytest.fixture
def get(begin: Open) -> Callable[[str], str]:
    return lambda path: begin(path).end()


def sql(*statements: str) -> str:
    return "/run/?" + urlencode([("sql", statement) for statement in statements])


def streaming(*stages: Callable[[], Any]) -> Callable[[Any], Any]:
    """A view whose response runs a stage for each of its pieces."""
    from django.http import StreamingHttpResponse

    return lambda request: StreamingHttpResponse(f"{stage()}" for stage in stages)


HOSTS = {
    "an answer that was read": "/pid/",
    "a stream that has queried": "/stream/",
    "a stream in a transaction": "/stream-from-cursor/",
    "a file": "/file/",
}


@pytest.fixture(params=HOSTS.values(), ids=HOSTS)
def host(request: pytest.FixtureRequest, begin: Open) -> Late:
    late = begin(request.param)
    late.piece()
    return late


def test_state_never_crosses(host: Late, get: Any) -> None:
    clean = get("/session/")
    for kind, (statements, _) in KINDS.items():
        get(sql(*statements))
        assert get("/session/") == clean, kind
    host.end()
    assert get("/session/") == clean


@pytest.mark.parametrize("leaves", ["manual-transaction", "raw-begin", "raw-begin-failed", "on-commit-lost"])
def test_transaction_left_open_is_rolled_back_and_the_next_writes_are_saved(
    leaves: str, host: Late, get: Any, notes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    get(f"/{leaves}/?note=left")
    assert f"rolled back a transaction left open by GET '/{leaves}/'" in caplog.text
    for note in ("one", "two"):
        get(f"/write/?note={note}")
        get(f"/write-in-atomic/?note={note}")
    assert notes() == ["one", "one", "two", "two"], "while the other response is still open"
    host.end()
    assert notes() == ["one", "one", "two", "two"]


@pytest.mark.parametrize("path", ["/pid/", "/stream/", "/file/"])
def test_lost_connection_costs_nobody_but_who_used_it(path: str, begin: Open, server: Server) -> None:
    host = begin(path)
    host.piece()
    for _ in range(2):
        for backend in server.backends():
            server.terminate(backend)
        answers = [begin("/pid/") for _ in range(3)]
        assert [(answer.end(), answer.status)[1] for answer in answers] == ["200"] * 3


def test_no_more_connections_than_unclosed_responses_need(host: Late, get: Any, server: Server) -> None:
    server.mark()
    assert len({get("/pid/") for _ in range(10)}) == 1
    assert server.connections() <= 1
    host.end()
    assert eventually(lambda: len(server.backends()), 1)


def test_many_answers_under_way_open_nothing(begin: Open, get: Any, server: Server) -> None:
    """As under bjoern, which closes an answer when it is sent, long after others have begun."""
    get("/pid/")
    server.mark()
    answers = [begin("/pid/") for _ in range(20)]
    assert len({(answer.piece(), answer.status) for answer in answers[::-1]}) == 1
    for answer in answers:
        answer.end()
    assert server.connections() <= 20


def test_answers_that_wait_to_be_closed_open_nothing(
    begin: Open, get: Any, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    first = get("/pid/")
    server.mark()
    answers = [begin("/pid/") for _ in range(1)]
    for _ in range(20):
        assert answers[-1].rest() == first
        answers.append(begin("/pid/"))
    for answer in answers:
        answer.end()
    assert server.connections() == 0
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_stream_goes_on_in_its_own_session(begin: Open, get: Any, notes: Any) -> None:
    from django.db import connection, transaction

    from tests.site import views

    seen: list[Any] = []

    def chunks() -> Iterator[str]:
        with transaction.atomic():
            views.scalar("SET LOCAL my.tenant = 'host'")
            views.scalar("CREATE TEMPORARY TABLE mine AS SELECT 'mine' AS note")
            views.scalar("INSERT INTO entry (note) VALUES ('host')")
            connection.on_commit(lambda: seen.append("committed"))
            with connection.cursor() as cursor:
                for _ in range(3):
                    cursor.execute("SELECT current_setting('my.tenant') || note FROM mine")
                    yield cursor.fetchone()[0]

    with extra_view(lambda request: views.StreamingHttpResponse(chunks())):
        host = begin("/extra/")
        assert host.piece() == "hostmine"
        get("/write/?note=guest")
        assert notes() == ["guest"]
        assert host.piece() == "hostmine"
        get(sql("CREATE TEMPORARY TABLE mine AS SELECT 'guest' AS note"))
        assert host.end() == "hostmine"
    assert sorted(notes()) == ["guest", "host"]
    assert seen == ["committed"]
    assert get("/write/?note=after")


def test_stream_whose_connection_was_lost_meanwhile_is_told(begin: Open, get: Any, server: Server) -> None:
    from django.db import OperationalError, transaction

    from tests.site import views

    def chunks() -> Iterator[str]:
        with transaction.atomic():
            yield str(views.backend())
            yield str(views.backend())

    with extra_view(lambda request: views.StreamingHttpResponse(chunks())):
        host = begin("/extra/")
        lost = int(host.piece())
        before = get("/pid/")
        server.terminate(lost)
        assert get("/pid/") == before
        with pytest.raises(OperationalError):
            host.rest()
        host.close()
    assert get("/pid/") == before


def test_stream_that_queries_only_late(begin: Open, get: Any, server: Server) -> None:
    from tests.site import views

    with extra_view(streaming(lambda: "", views.backend, views.backend)):
        host = begin("/extra/")
        host.piece()
        guest = begin("/stream/")
        guests = guest.piece()
        own = host.piece()
        assert own != guests
        assert guest.piece() == guests
        assert host.piece() == own
        host.close()
        guest.close()
    assert eventually(lambda: len(server.backends()), 1)


def test_code_outside_a_request_keeps_its_connection_meanwhile(begin: Open, get: Any) -> None:
    from django.db import connections

    from tests.site import views

    host = begin("/stream/")
    own = host.piece()
    get("/pid/")
    outside = views.backend()
    wrapper = connections["default"]
    assert host.rest().split() == [own.strip()] * 2
    assert connections["default"] is wrapper
    assert views.backend() == outside
    wrapper.close()


def test_file_that_reads_from_the_database(begin: Open, get: Any) -> None:
    """It runs the application's code while the server sends it."""
    from tests.site import views

    class Kept:
        def __init__(self) -> None:
            views.scalar("CREATE TEMPORARY TABLE pieces AS SELECT n FROM generate_series(1, 3) n")

        def read(self, size: int = -1) -> bytes:
            sql = "DELETE FROM pieces WHERE n = (SELECT min(n) FROM pieces) RETURNING n"
            row = views.scalar(f"WITH gone AS ({sql}) SELECT coalesce((SELECT n::text FROM gone), '')")
            return bytes(row, "ascii")

        def close(self) -> None:
            pass

    with extra_view(lambda request: views.FileResponse(Kept())):
        host = begin("/extra/")
        assert host.piece() == "1"
        clean = get("/session/")
        assert host.piece() == "2"
        assert host.end() == "3"
    assert get("/session/") == clean


def test_lease_of_a_file_ends_when_it_is_handed_over(begin: Open, server: Server, notes: Any) -> None:
    from tests.site import views

    def view(request: Any) -> Any:
        views.raw_begin(request)
        return views.file(request)

    with extra_view(view):
        host = begin("/extra/?note=left")
    assert server("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%%'") == [(0,)]
    assert host.end() == "a file"
    assert notes() == []


def test_what_runs_when_a_file_is_closed_is_kept_apart(begin: Open, server: Server) -> None:
    """Receivers of request_finished, for instance."""
    from django.core.signals import request_finished
    from django.db import connections

    from tests.site import views

    seen: list[int] = []

    def receiver(**kwargs: Any) -> None:
        seen.append(views.backend())
        views.scalar("SET search_path = 'pg_catalog'")

    host = begin("/file/")
    guest = begin("/stream/")
    guests = guest.piece()
    request_finished.connect(receiver)
    try:
        for close in (host.close, lambda: begin("/file/").close()):
            thread = threading.Thread(target=close)
            thread.start()
            thread.join()
        begin("/file/").close()
    finally:
        request_finished.disconnect(receiver)
    assert int(guests) not in seen
    assert guest.end().split() == [guests.strip()] * 2
    assert eventually(lambda: len(server.backends()), 1)
    assert connections["default"].connection is None


@pytest.mark.parametrize("path", ["/pid/", "/stream/", "/file/"])
def test_close_by_another_thread_leaves_the_next_request_alone(path: str, begin: Open, notes: Any) -> None:
    """However the two interleave: the other thread closes while this one serves."""
    for turn in range(20):
        host = begin(path)
        host.piece()
        thread = threading.Thread(target=host.close)
        thread.start()
        guest = begin(f"/write-in-atomic/?note={turn}")
        thread.join()
        guest.end()
        assert guest.status == "200"
    assert notes() == [str(turn) for turn in range(20)]


class TestWithin:
    """A request that the application makes to itself."""

    @pytest.fixture
    def ask(self, begin: Open) -> Callable[[str], str]:
        def ask(path: str) -> str:
            late = begin(path)
            return f"{late.end()} {late.status}"

        return ask

    def test_it_has_a_connection_of_its_own(self, begin: Open, ask: Any, notes: Any, server: Server) -> None:
        from tests.site import views

        def view(request: Any) -> Any:
            before = views.backend()
            views.scalar("SET search_path = 'pg_catalog'")
            inner = ask("/pid/").split()[0]
            ask(sql("SET search_path = 'public'"))
            ask("/manual-transaction/?note=left")
            ask("/write/?note=inner")
            path = views.scalar("SHOW search_path")
            return views.JsonResponse([before, int(inner), views.backend(), path, notes()], safe=False)

        with extra_view(view):
            import json

            before, inner, after, path, saved = json.loads(begin("/extra/").end())
        assert (before, path, saved) == (after, "pg_catalog", ["inner"])
        assert inner != before
        assert eventually(server.backends, [before])

    def test_its_lost_connection_costs_the_outer_one_nothing(self, begin: Open, server: Server) -> None:
        from tests.site import views

        def view(request: Any) -> Any:
            before = views.backend()
            inner = begin("/stream/")
            server.terminate(int(inner.piece()))
            inner.close()
            return views.HttpResponse(str(views.backend() == before))

        with extra_view(view):
            assert begin("/extra/").end() == "True"

    @pytest.mark.parametrize("commits", [True, False])
    def test_it_takes_part_in_a_transaction(self, commits: bool, begin: Open, ask: Any, notes: Any) -> None:
        from django.db import transaction

        from tests.site import views

        def view(request: Any) -> Any:
            with transaction.atomic():
                views.scalar("INSERT INTO entry (note) VALUES ('outer')")
                assert ask("/pid/") == f"{views.backend()} 200"
                assert ask("/write/?note=plain").endswith(" 200")
                assert ask("/write-in-atomic/?note=atomic").endswith(" 200")
                assert notes() == []
                transaction.set_rollback(not commits)
            return views.HttpResponse("done")

        with extra_view(view):
            assert begin("/extra/").end() == "done"
        assert notes() == (["outer", "plain", "atomic"] if commits else [])

    @pytest.mark.parametrize("reraised", [True, False])
    def test_lost_transaction_of_the_outer_one_is_a_503_of_both(
        self, reraised: bool, begin: Open, ask: Any, notes: Any, server: Server
    ) -> None:
        from django.db import transaction

        from tests.site import views

        asked: list[str] = []

        def view(request: Any) -> Any:
            with transaction.atomic():
                views.scalar("INSERT INTO entry (note) VALUES ('outer')")
                server.terminate(views.backend())
                asked.append(ask("/write/?note=inner"))
                if reraised:
                    views.scalar("SELECT 1")
            return views.HttpResponse("done")

        with extra_view(view):
            late = begin("/extra/")
            late.end()
        assert (asked[0].split()[-1], late.status, notes()) == ("503", "503", [])

    @pytest.mark.parametrize("way", ["atomic", "set_autocommit"])
    def test_block_that_it_leaves_open_is_rolled_back_alone(
        self, way: str, begin: Open, ask: Any, notes: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        from django.db import connection, transaction

        from tests.site import views

        def view(request: Any) -> Any:
            if way == "set_autocommit":
                transaction.set_autocommit(False)
                inner(request)
                transaction.commit()
                transaction.set_autocommit(True)
                return views.HttpResponse("done")
            with transaction.atomic():
                return inner(request)

        def inner(request: Any) -> Any:
            views.scalar("INSERT INTO entry (note) VALUES ('before')")
            ask("/on-commit-lost/?note=left")
            assert connection.in_atomic_block is (way == "atomic")
            views.scalar("INSERT INTO entry (note) VALUES ('after')")
            return views.HttpResponse("done")

        with extra_view(view):
            assert begin("/extra/").end() == "done"
        assert notes() == ["before", "after"]
        told = "rolled back a block left open by GET '/on-commit-lost/' in another's transaction"
        assert caplog.text.count(told) == 1

    def test_atomic_requests_around(self, begin: Open, ask: Any, notes: Any, monkeypatch: Any) -> None:
        from django.db import connection

        from tests.site import views

        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)

        def view(request: Any) -> Any:
            views.write(request)
            assert ask("/write/?note=inner").endswith(" 200")
            if "fail" in request.GET:
                raise ValueError("the view fails")
            return views.HttpResponse("done")

        with extra_view(view):
            begin("/extra/?note=gone&fail=1").end()
            assert notes() == []
            begin("/extra/?note=outer").end()
        assert notes() == ["outer", "inner"]

    def test_djangos_test_client_is_part_of_the_request(self, begin: Open, get: Any) -> None:
        from django.test import Client

        from tests.site import views

        def view(request: Any) -> Any:
            Client().get(sql("SET search_path = 'pg_catalog'"))
            return views.HttpResponse(f"{Client().get('/pid/').text} {views.backend()}")

        clean = get("/session/")
        with extra_view(view):
            first, second = begin("/extra/").end().split()
        assert first == second
        assert get("/session/") == clean

    def test_stream_that_asks_within_its_transaction(self, begin: Open, ask: Any, notes: Any) -> None:
        from django.db import transaction

        from tests.site import views

        def chunks() -> Iterator[str]:
            with transaction.atomic():
                yield str(views.backend())
                yield ask("/write/?note=inner")
                assert notes() == ["guest"]

        with extra_view(lambda request: views.StreamingHttpResponse(chunks())):
            host = begin("/extra/")
            own = host.piece()
            begin("/write/?note=guest").end()
            assert host.end() == f"{own} 200"
        assert sorted(notes()) == ["guest", "inner"]

    def test_answer_that_is_another_requests(self, begin: Open, site: TestApp, notes: Any) -> None:
        """A dispatcher: the inner response is the outer one's, and both are closed by the server."""
        inner: list[Late] = []

        def view(request: Any) -> Any:
            from tests.site import views

            views.scalar("SET search_path = 'pg_catalog'")
            inner.append(begin("/stream/"))
            return views.StreamingHttpResponse(inner[0].piece() for _ in range(3))

        with extra_view(view):
            outer = begin("/extra/")
            backend = outer.piece()
            begin("/write/?note=guest").end()
            assert outer.rest().split() == [backend.strip()] * 2
            outer.close()
        inner[0].close()
        assert notes() == ["guest"]


def test_log_says_it_once_for_each_cause(begin: Open, get: Any, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        host = begin("/stream/")
        host.piece()
        get("/pid/")
        get("/pid/")
        host.end()
    told = [record.message for record in caplog.records if record.name == "wsgi_persist.scope"]
    assert told == ["GET '/stream/' keeps its connections until its response is closed"]
